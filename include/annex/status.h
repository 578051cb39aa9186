/* Statuses and errors: what every Annex call that can fail returns and fills.
 *
 *     anx_error err;
 *     if (anx_index_create(&params, &index, &err) != ANX_OK)
 *         fprintf(stderr, "%s\n", err.message);
 *
 * A function that can fail returns an anx_status and takes an anx_error as its last parameter. The error is
 * the caller's storage, may be NULL, and is written only on failure. Filling it allocates nothing. */
#ifndef ANNEX_STATUS_H
#define ANNEX_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__GNUC__)
#define ANX_API __attribute__((visibility("default")))
#define ANX_NODISCARD __attribute__((warn_unused_result))
#define ANX_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define ANX_API
#define ANX_NODISCARD
#define ANX_PRINTF(text, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum anx_status {
#define ROW(constant, value, text, sqlstate, http, rpc, retryable) constant = (value),
#include "annex/status.def"
#undef ROW
} anx_status;

typedef struct anx_error {
    anx_status status;
    char message[256]; /* lower case, no final period, the offending value and the limit both shown */
    char detail[256];  /* facts, may be empty */
    char hint[256];    /* what the reader can do, may be empty */
} anx_error;

/* A constant English phrase for a status, never NULL. */
ANX_API const char *anx_status_text(anx_status status);
/* Five characters, e.g. "22023". */
ANX_API const char *anx_status_sqlstate(anx_status status);
ANX_API int anx_status_http(anx_status status);
ANX_API int anx_status_rpc(anx_status status);
/* May the same call succeed later without a change by the caller? */
ANX_API bool anx_status_retryable(anx_status status);

#ifdef __cplusplus
}
#endif
#endif
