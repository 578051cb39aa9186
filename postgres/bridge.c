/* Where the engine and the server meet: statuses become SQL errors, memory contexts become allocators. All
 * jumping happens here, with no frame of the engine below. */
#include "lantern.h"

#include <miscadmin.h>
#include <utils/memutils.h>

/* The engine's texts are for people already. The codes are the status table's. */
void
anx_pg_check(anx_status status, const anx_error *err)
{
    const char *code;

    if (status == ANX_OK)
        return;
    CHECK_FOR_INTERRUPTS(); /* a cancelled call has returned by now: its cause is the better message */
    code = anx_status_sqlstate(status);
    ereport(ERROR, (errcode(MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4])),
                    errmsg("%s", err->message), err->detail[0] ? errdetail("%s", err->detail) : 0,
                    err->hint[0] ? errhint("%s", err->hint) : 0));
}

/* What lies before the memory that the engine gets. The server aligns for its own types only (8 bytes), the
 * engine asks for any type, so the place within the chunk is chosen here. The size is kept because repalloc
 * would raise when there is no memory: a block is grown by copying. */
struct block {
    void *chunk;
    size_t size;
};
#define BLOCK_ALIGN _Alignof(max_align_t)

static void *
context_allocate(void *context, size_t size)
{
    void *chunk = NULL;
    struct block *block;

    if (size < MaxAllocHugeSize - sizeof(*block) - BLOCK_ALIGN)
        chunk = MemoryContextAllocExtended(context, sizeof(*block) + BLOCK_ALIGN + size,
                                           MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    if (!chunk)
        return NULL;
    block = (struct block *) TYPEALIGN(BLOCK_ALIGN, (struct block *) chunk + 1) - 1;
    block->chunk = chunk;
    block->size = size;
    return block + 1;
}

static void
context_release(void *context, void *memory)
{
    (void) context;
    if (memory)
        pfree(((struct block *) memory - 1)->chunk);
}

static void *
context_reallocate(void *context, void *memory, size_t size)
{
    void *grown = context_allocate(context, size);

    if (grown && memory) {
        size_t old_size = ((struct block *) memory - 1)->size;

        memcpy(grown, memory, old_size < size ? old_size : size);
        context_release(context, memory);
    }
    return grown;
}

void
anx_pg_alloc_init(anx_alloc *out, MemoryContext context)
{
    *out = (anx_alloc){
        .context = context,
        .allocate = context_allocate,
        .reallocate = context_reallocate,
        .release = context_release,
    };
}
