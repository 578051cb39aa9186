/* See heapread.h. */
#include "heapread.h"

#include <access/heapam.h>
#include <storage/bufmgr.h>

#include "pagewalk.h"

bool
heap_read_is_possible(IndexScanDesc scan)
{
    return scan->heapRelation && scan->xs_heapfetch && !RelationUsesLocalBuffers(scan->heapRelation) &&
           scan->heapRelation->rd_tableam == GetHeapamTableAmRoutine();
}

void
heap_read_ahead(Relation table, const ItemPointerData *tid, int step)
{
    Buffer buffer = page_walk_recall(table, ItemPointerGetBlockNumberNoCheck(tid));
    Size at = SizeOfPageHeaderData + (ItemPointerGetOffsetNumberNoCheck(tid) - 1u) * sizeof(ItemIdData);
    const char *page;
    ItemIdData id;

    if (!BufferIsValid(buffer) || at + sizeof(id) > BLCKSZ)
        return;
    page = (const char *) BufferGetPage(buffer);
    if (step == 1) {
        __builtin_prefetch(GetBufferDescriptor(buffer - 1));
        __builtin_prefetch(page);
        __builtin_prefetch(page + at);
        return;
    }
    memcpy(&id, page + at, sizeof(id));
    if (id.lp_off < BLCKSZ)
        __builtin_prefetch(page + id.lp_off);
}

void
heap_read_prepare(IndexScanDesc scan, const ItemPointerData *tid)
{
    IndexFetchHeapData *fetch = (IndexFetchHeapData *) scan->xs_heapfetch;
    BlockNumber block = ItemPointerGetBlockNumberNoCheck(tid);
    Buffer buffer = page_walk_recall(scan->heapRelation, block);

    if (!BufferIsValid(buffer) || buffer == fetch->xs_cbuf ||
        !ANX_PG_PIN_RECENT(scan->heapRelation, block, buffer))
        return;
    if (BufferIsValid(fetch->xs_cbuf))
        ReleaseBuffer(fetch->xs_cbuf);
    fetch->xs_cbuf = buffer;
}

void
heap_read_remember(IndexScanDesc scan, const ItemPointerData *tid)
{
    const IndexFetchHeapData *fetch = (const IndexFetchHeapData *) scan->xs_heapfetch;

    if (BufferIsValid(fetch->xs_cbuf))
        page_walk_remember(scan->heapRelation, ItemPointerGetBlockNumberNoCheck(tid), fetch->xs_cbuf);
}
