/* All of the public C API. Each header is the manual of its part:
 *
 *     annex/index.h       vector indexes: create, add, search, remove
 *     annex/index_file.h  save, load and map them
 *     annex/io.h          where bytes go to and come from
 *     annex/alloc.h       your own allocator
 *     annex/status.h      statuses and errors
 *
 * Build with `cc program.c $(pkg-config --cflags --libs annex)`. */
#ifndef ANNEX_ANNEX_H
#define ANNEX_ANNEX_H

#include "annex/alloc.h"
#include "annex/index.h"
#include "annex/index_file.h"
#include "annex/io.h"
#include "annex/status.h"

#endif
