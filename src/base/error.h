/* Making errors. anx_fail is the only way to make one; a caller that knows more adds it with
 * anx_error_context and never rewrites the cause. */
#ifndef ANX_BASE_ERROR_H
#define ANX_BASE_ERROR_H

#include "annex/status.h"

/* Fills err (may be NULL) and returns status, so that `return anx_fail(err, ...)` reads as one step. Detail
 * and hint are emptied. Over-long messages are cut. */
anx_status anx_fail(anx_error *err, anx_status status, const char *format, ...) ANX_PRINTF(3, 4);
#ifdef __clang_analyzer__
/* The analyzer does not see into error.c and would follow paths on which a failure returns ANX_OK. */
#define anx_fail(err, status, ...) ((void) anx_fail(err, status, __VA_ARGS__), (status))
#endif
void anx_error_detail(anx_error *err, const char *format, ...) ANX_PRINTF(2, 3);
void anx_error_hint(anx_error *err, const char *format, ...) ANX_PRINTF(2, 3);
/* Puts "text: " before the message. */
void anx_error_context(anx_error *err, const char *format, ...) ANX_PRINTF(2, 3);

#define ANX_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* For our own mistakes only, never for input. Active in debug and sanitizer builds. */
#ifdef NDEBUG
#define ANX_ASSERT(condition) ((void) 0)
#else
#define ANX_ASSERT(condition) ((condition) ? (void) 0 : anx_assert_failed(#condition, __FILE__, __LINE__))
#endif
_Noreturn void anx_assert_failed(const char *condition, const char *file, int line);

#endif
