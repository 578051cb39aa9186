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

/* A block of a context, and before it its size: repalloc would raise when there is no memory, so a block is
 * grown by copying, and for that its length must be known. */
union block {
    size_t size;
    max_align_t align;
};

static void *
context_allocate(void *context, size_t size)
{
    union block *block = NULL;

    if (size < MaxAllocHugeSize - sizeof(*block))
        block =
            MemoryContextAllocExtended(context, sizeof(*block) + size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
    if (!block)
        return NULL;
    block->size = size;
    return block + 1;
}

static void
context_release(void *context, void *memory)
{
    (void) context;
    if (memory)
        pfree((union block *) memory - 1);
}

static void *
context_reallocate(void *context, void *memory, size_t size)
{
    void *grown = context_allocate(context, size);

    if (grown && memory) {
        size_t old_size = ((union block *) memory - 1)->size;

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
