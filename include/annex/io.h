/* Where bytes go to and come from. A sink takes bytes in order; a source gives them in order. Both may be
 * sockets, files, pages of a database, or memory; nothing seeks. */
#ifndef ANNEX_IO_H
#define ANNEX_IO_H

#include <stddef.h>

#include "annex/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct anx_sink {
    void *context;
    /* Takes all `size` bytes or fails; the bytes are borrowed for the call. */
    anx_status (*write)(void *context, const void *bytes, size_t size, anx_error *err);
} anx_sink;

typedef struct anx_source {
    void *context;
    /* Fills up to `size` bytes; *got < size only at the end of input. */
    anx_status (*read)(void *context, void *bytes, size_t size, size_t *got, anx_error *err);
} anx_source;

#ifdef __cplusplus
}
#endif
#endif
