/* The structure of an LMDB data file (format version 1 of LMDB 0.9), verified without LMDB.
 *
 * LMDB trusts its file: it follows page numbers and offsets inside of pages without looking whether they lie
 * in the file. So a damaged file could crash the process or hang it. Here every page that can be reached is
 * checked before the file is mapped: its own number, kind and depth, offsets and sizes of its nodes, order of
 * its keys, and that no page is used twice or is both used and free (which the next commit would overwrite).
 * What is inside of values is covered by checksums (store.c).
 *
 * Layout, all little-endian. A page starts with 16 bytes: number u64, padding u16, flags u16, then for branch
 * and leaf pages the end of the offset array u16 and the start of the nodes u16, for the first of a run of
 * overflow pages the length of the run u32. Pages 0 and 1 are metas. A node is lo u16, hi u16, flags u16, key
 * size u16, key, data; in a leaf, hi:lo is the data size, in a branch, flags:hi:lo is the child. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "store/store_int.h"

enum {
    PAGE_HEAD = 16,
    NODE_HEAD = 8,
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    NODE_BIG = 0x01,
    NODE_SUB = 0x02,
    NODE_DUP = 0x04,
    DB_SIZE = 48,
    DB_INTEGER_KEY = 0x08,
    DEPTH_MAX = 24, /* a tree of 2^64 pages is less deep */
    META_SIZE = 136
};
#define META_MAGIC 0xBEEFC0DEu
#define NO_PAGE UINT64_MAX

struct tree {
    uint64_t root, entries;
    uint16_t flags, depth;
};
struct meta {
    uint32_t page_size;
    uint64_t last_page, txnid;
    struct tree free, main;
};
struct check {
    int fd;
    uint64_t file_size;
    struct meta meta;
    uint8_t *used;              /* a bit per page */
    uint8_t *pages[DEPTH_MAX];  /* one page per level of the walk; owned */
    const char *tree_name;
    struct tree *subtrees;      /* found in the main tree; owned */
    size_t n_subtree;
    anx_error *err;
};

static anx_status
damaged(const struct check *check, uint64_t page, const char *what)
{
    return anx_fail(check->err, ANX_E_CORRUPT, "page %llu of the data file is damaged: %s (in the %s tree)",
                    (unsigned long long) page, what, check->tree_name);
}

static anx_status
read_at(const struct check *check, uint64_t at, void *bytes, size_t size)
{
    uint8_t *to = bytes;

    while (size > 0) {
        ssize_t n = pread(check->fd, to, size, (off_t) at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return anx_fail(check->err, ANX_E_IO, "could not read the data file at byte %llu: error %d",
                            (unsigned long long) at, errno);
        if (n == 0)
            return anx_fail(check->err, ANX_E_CORRUPT,
                            "the data file ends at byte %llu, before its data does", (unsigned long long) at);
        to += n;
        at += (size_t) n;
        size -= (size_t) n;
    }
    return ANX_OK;
}

static struct tree
read_tree(anx_reader *r)
{
    struct tree tree;

    (void) anx_read_view(r, 4);
    tree.flags = anx_read_u16(r);
    tree.depth = anx_read_u16(r);
    (void) anx_read_view(r, 24);
    tree.entries = anx_read_u64(r);
    tree.root = anx_read_u64(r);
    return tree;
}

static anx_status
read_meta(const struct check *check, uint64_t at, struct meta *out)
{
    uint8_t bytes[PAGE_HEAD + META_SIZE];
    anx_reader r = anx_reader_init(bytes, sizeof(bytes));
    uint16_t flags;
    anx_status st = read_at(check, at, bytes, sizeof(bytes));

    if (st != ANX_OK)
        return st;
    (void) anx_read_view(&r, 10);
    flags = anx_read_u16(&r);
    (void) anx_read_view(&r, 4);
    if (!(flags & PAGE_META) || anx_read_u32(&r) != META_MAGIC)
        return anx_fail(check->err, ANX_E_CORRUPT, "the data file has no head at byte %llu",
                        (unsigned long long) at);
    if (anx_read_u32(&r) != 1)
        return anx_fail(check->err, ANX_E_VERSION, "the data file has an unknown version");
    (void) anx_read_view(&r, 16);
    out->page_size = (uint32_t) anx_load_le(r.data + r.at, 4); /* kept in the head of the first tree */
    out->free = read_tree(&r);
    out->main = read_tree(&r);
    out->last_page = anx_read_u64(&r);
    out->txnid = anx_read_u64(&r);
    return ANX_OK;
}

/* The meta that LMDB will use: the one of the later transaction. Its page size is where to find the other. */
static anx_status
pick_meta(struct check *check)
{
    struct meta first;
    struct meta second;
    anx_status st = read_meta(check, 0, &first);

    if (st != ANX_OK)
        return st;
    if (first.page_size < 512 || first.page_size > 65536 || (first.page_size & (first.page_size - 1)))
        return damaged(check, 0, "impossible page size");
    st = read_meta(check, first.page_size, &second);
    if (st != ANX_OK)
        return st;
    if (second.page_size != first.page_size)
        return damaged(check, 1, "the two heads differ in page size");
    check->meta = second.txnid > first.txnid ? second : first;
    if (check->meta.last_page < 1 || check->meta.last_page > UINT64_MAX / 65536)
        return damaged(check, check->meta.txnid & 1, "impossible number of pages");
    return ANX_OK;
}

/* Marks a run of pages as used, once. */
static anx_status
take_pages(struct check *check, uint64_t page, uint64_t n)
{
    if (page < 2 || n == 0 || page > check->meta.last_page || n > check->meta.last_page - page + 1)
        return damaged(check, page, "outside of the file's pages");
    for (uint64_t p = page; p < page + n; p++) {
        if (check->used[p / 8] & (1u << (p % 8)))
            return damaged(check, p, "used twice");
        check->used[p / 8] |= (uint8_t) (1u << (p % 8));
    }
    return ANX_OK;
}

struct node {
    uint64_t child; /* branch */
    size_t data_size;
    uint16_t flags;
    const uint8_t *key, *data;
    size_t key_size;
};

/* A node of a page, everything of it inside of the page. */
static bool
page_node(const struct check *check, const uint8_t *page, size_t i, bool is_leaf, struct node *out)
{
    size_t size = check->meta.page_size;
    size_t at = anx_load_le(page + PAGE_HEAD + 2 * i, 2);
    uint64_t low;

    if (at < PAGE_HEAD || at > size - NODE_HEAD)
        return false;
    low = anx_load_le(page + at, 4);
    out->flags = (uint16_t) anx_load_le(page + at + 4, 2);
    out->key_size = anx_load_le(page + at + 6, 2);
    if (out->key_size > size - NODE_HEAD - at)
        return false;
    out->key = page + at + NODE_HEAD;
    out->data = out->key + out->key_size;
    out->child = low | (uint64_t) out->flags << 32;
    out->data_size = is_leaf ? low : 0;
    return !is_leaf
           || (out->flags & NODE_BIG ? 8 : out->data_size) <= size - NODE_HEAD - at - out->key_size;
}

static int
key_order(const struct tree *tree, const struct node *a, const struct node *b)
{
    size_t n = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order;

    if (tree->flags & DB_INTEGER_KEY) {
        uint64_t x = anx_load_le(a->key, a->key_size > 8 ? 8 : a->key_size);
        uint64_t y = anx_load_le(b->key, b->key_size > 8 ? 8 : b->key_size);

        return x < y ? -1 : x > y;
    }
    order = n > 0 ? memcmp(a->key, b->key, n) : 0;
    return order ? order : (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

/* The data of a leaf node that lie on overflow pages: checks the run, gives its place in the file. The run
 * may be longer than needed, where a value was replaced by a shorter one within one transaction. */
static anx_status
overflow_run(struct check *check, const struct node *node, uint64_t *at)
{
    uint64_t page = anx_load_le(node->data, 8);
    uint64_t need = ((uint64_t) PAGE_HEAD + node->data_size - 1) / check->meta.page_size + 1;
    uint8_t head[PAGE_HEAD];
    uint64_t n_page;
    anx_status st;

    if (page > check->meta.last_page || (page + need) * check->meta.page_size > check->file_size)
        return damaged(check, page, "beyond the end of the file");
    st = read_at(check, page * check->meta.page_size, head, sizeof(head));
    if (st != ANX_OK)
        return st;
    n_page = anx_load_le(head + 12, 4);
    if (anx_load_le(head, 8) != page || !(anx_load_le(head + 10, 2) & PAGE_OVERFLOW) || n_page < need)
        return damaged(check, page, "not the overflow page it should be");
    *at = page * check->meta.page_size + PAGE_HEAD;
    return take_pages(check, page, n_page);
}

/* A list of free pages: a count, then the pages. None of them may be in use; the free tree is walked last. */
static anx_status
free_list(struct check *check, const uint8_t *list, size_t size, uint64_t page)
{
    uint64_t n = size >= 8 ? anx_load_le(list, 8) : UINT64_MAX;

    if (n > size / 8 - 1)
        return damaged(check, page, "a list of free pages is longer than its bytes");
    for (uint64_t i = 1; i <= n; i++) {
        uint64_t freed = anx_load_le(list + 8 * i, 8);
        anx_status st = take_pages(check, freed, 1);

        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
leaf_node(struct check *check, const struct tree *tree, const struct node *node, uint64_t page)
{
    bool is_free_tree = tree == &check->meta.free;
    uint64_t at = 0;
    uint8_t *list;
    anx_status st = ANX_OK;

    if (node->flags & NODE_DUP)
        return damaged(check, page, "a kind of node that we never write");
    if (node->flags & NODE_SUB) {
        anx_reader r = anx_reader_init(node->data, node->data_size);
        struct tree *more;

        if (tree != &check->meta.main || node->data_size != DB_SIZE)
            return damaged(check, page, "a table inside of a table");
        more = anx_realloc_array(NULL, check->subtrees, check->n_subtree + 1, sizeof(*more));
        if (!more)
            return anx_fail(check->err, ANX_E_NOMEM, "out of memory");
        check->subtrees = more;
        more[check->n_subtree++] = read_tree(&r);
        return ANX_OK;
    }
    if (node->flags & NODE_BIG)
        st = overflow_run(check, node, &at);
    if (st != ANX_OK || !is_free_tree)
        return st;
    if (!(node->flags & NODE_BIG))
        return free_list(check, node->data, node->data_size, page);
    list = anx_alloc_bytes(NULL, node->data_size); /* the run lies in the file, so the file bounds the size */
    if (!list)
        return anx_fail(check->err, ANX_E_NOMEM, "out of memory");
    st = read_at(check, at, list, node->data_size);
    if (st == ANX_OK)
        st = free_list(check, list, node->data_size, page);
    anx_free(NULL, list);
    return st;
}

/* Head of a page: its number, kind, and a plausible number of nodes. */
static anx_status
page_head(struct check *check, const struct tree *tree, uint64_t page, unsigned depth, uint8_t *bytes,
          size_t *n_node)
{
    size_t size = check->meta.page_size;
    unsigned kind = depth + 1 == tree->depth ? PAGE_LEAF : PAGE_BRANCH;
    size_t lower;
    size_t upper;
    anx_status st = take_pages(check, page, 1);

    if (st == ANX_OK && (page + 1) * size > check->file_size)
        return damaged(check, page, "beyond the end of the file");
    if (st == ANX_OK)
        st = read_at(check, page * size, bytes, size);
    if (st != ANX_OK)
        return st;
    lower = anx_load_le(bytes + 12, 2);
    upper = anx_load_le(bytes + 14, 2);
    if (anx_load_le(bytes, 8) != page || (anx_load_le(bytes + 10, 2) & ~0x10u) != kind)
        return damaged(check, page, "another page than the one that should be there");
    if (lower < PAGE_HEAD || lower % 2 || upper < lower || upper > size || lower == PAGE_HEAD)
        return damaged(check, page, "impossible bounds");
    *n_node = (lower - PAGE_HEAD) / 2;
    return ANX_OK;
}

static anx_status
walk(struct check *check, const struct tree *tree, uint64_t page, unsigned depth, uint64_t *entries)
{
    uint8_t *bytes = check->pages[depth];
    bool is_leaf = depth + 1 == tree->depth;
    struct node before = { 0 };
    struct node node;
    size_t n_node = 0;
    anx_status st = page_head(check, tree, page, depth, bytes, &n_node);

    for (size_t i = 0; st == ANX_OK && i < n_node; i++) {
        if (!page_node(check, bytes, i, is_leaf, &node))
            return damaged(check, page, "a node reaches out of its page");
        /* The first key of a branch page stands for everything before the second and is empty. */
        if (i > (is_leaf ? 0 : 1) && key_order(tree, &before, &node) >= 0)
            return damaged(check, page, "keys out of order");
        before = node;
        st = is_leaf ? leaf_node(check, tree, &node, page)
                     : walk(check, tree, node.child, depth + 1, entries);
    }
    if (is_leaf)
        *entries += n_node;
    return st;
}

static anx_status
walk_tree(struct check *check, const struct tree *tree, const char *name)
{
    uint64_t entries = 0;
    anx_status st;

    check->tree_name = name;
    if (tree->root == NO_PAGE)
        return tree->entries == 0 ? ANX_OK : damaged(check, tree->root, "a tree without a root has entries");
    if (tree->depth == 0 || tree->depth > DEPTH_MAX)
        return damaged(check, tree->root, "impossible depth");
    for (unsigned level = 0; level < tree->depth; level++)
        if (!check->pages[level] && !(check->pages[level] = anx_alloc_bytes(NULL, check->meta.page_size)))
            return anx_fail(check->err, ANX_E_NOMEM, "out of memory");
    st = walk(check, tree, tree->root, 0, &entries);
    if (st == ANX_OK && entries != tree->entries)
        return damaged(check, tree->root, "the number of entries is not the one recorded");
    return st;
}

anx_status
lmdb_check_file(int fd, anx_error *err)
{
    struct check check = { .fd = fd, .err = err, .tree_name = "root" };
    struct stat info;
    uint64_t last;
    anx_status st;

    if (fstat(fd, &info) != 0)
        return anx_fail(err, ANX_E_IO, "could not examine the data file: error %d", errno);
    if (info.st_size == 0)
        return ANX_OK;
    check.file_size = (uint64_t) info.st_size;
    st = pick_meta(&check);
    if (st != ANX_OK)
        return st;
    /* Pages at the end may never have been written, but a number far behind the file is forged. */
    last = check.meta.last_page;
    if (last > check.file_size / check.meta.page_size + (1u << 20))
        return damaged(&check, 0, "impossible number of pages");
    check.used = anx_alloc_zeroed(NULL, last / 8 + 1, 1);
    if (!check.used)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = walk_tree(&check, &check.meta.main, "main");
    for (size_t i = 0; st == ANX_OK && i < check.n_subtree; i++)
        st = walk_tree(&check, &check.subtrees[i], "table");
    if (st == ANX_OK)
        st = walk_tree(&check, &check.meta.free, "free page");
    for (unsigned level = 0; level < DEPTH_MAX; level++)
        anx_free(NULL, check.pages[level]);
    anx_free(NULL, check.subtrees);
    anx_free(NULL, check.used);
    return st;
}
