/* Scalar indexes: a typed column (row -> value) and an ordered structure (value -> rows). One structure
 * serves hash and tree indexes alike: a binary search over words that order like the values costs about what
 * a hash table costs at these sizes, and every index can so sort and compare. "-" has the column alone.
 *
 * A change is made in two steps (scalar_begin, then commit or abort), because a document goes into several
 * indexes and an allocation can fail in the last of them: begin adds the row to its new keys while it is
 * still under its old ones, and what is left to do afterwards only takes away. */
#include "db/scalar_int.h"

#include <stdlib.h>

/* Up to so many comparisons, old and new elements of an array are compared each with each. Taste. */
#define COMPARISONS_MAX 1024

/* ---- Life ---- */

static enum cell_kind
cell_kind_of(const struct index_def *def)
{
    if (def->is_array || def->is_sparse || def->field_type == FIELD_COMPOSITE)
        return CELL_BLOCK;
    if (def->field_type == FIELD_STRING)
        return CELL_TEXT;
    return def->field_type == FIELD_UUID ? CELL_UUID : CELL_WORD;
}

static struct value
default_of(enum field_type type)
{
    switch (type) {
    case FIELD_STRING:
        return (struct value) { .type = VALUE_STRING, .text = { "", 0 } };
    case FIELD_UUID:
        return (struct value) { .type = VALUE_UUID };
    case FIELD_DOUBLE:
        return (struct value) { .type = VALUE_DOUBLE };
    case FIELD_BOOL:
        return (struct value) { .type = VALUE_BOOL };
    default:
        return (struct value) { .type = VALUE_INT };
    }
}

static anx_status
set_components(struct scalar_index *s, const struct ns *ns, const struct index_def *def, anx_error *err)
{
    s->ns = ns;
    s->components = anx_alloc_zeroed(NULL, def->n_path, sizeof(*s->components));
    if (!s->components)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    for (size_t i = 0; i < def->n_path; i++) {
        const struct ns_index *part = ns_index_find(ns, def->json_paths[i]);
        anx_text name = def->json_paths[i];

        if (!part || part->def->field_type == FIELD_COMPOSITE)
            return anx_fail(err, ANX_E_PARAMS, "composite index '%.*s' has no component '%.*s'",
                            ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(name));
        s->type.parts[i] = (struct key_part) { part->def->field_type, part->collation };
        s->components[i] = anx_alloc_bytes(NULL, name.size + 1);
        if (!s->components[i])
            return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
        memcpy(s->components[i], name.data, name.size);
        s->components[i][name.size] = 0;
    }
    return ANX_OK;
}

static anx_status
set_type(struct scalar_index *s, const struct ns *ns, const struct ns_index *index, anx_error *err)
{
    const struct index_def *def = index->def;
    bool is_composite = def->field_type == FIELD_COMPOSITE;

    s->type.kind = key_kind_of(def->field_type);
    s->type.n_part = is_composite ? def->n_path : 1;
    s->type.parts = anx_alloc_zeroed(NULL, s->type.n_part, sizeof(*s->type.parts));
    if (!s->type.parts)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    if (is_composite)
        return set_components(s, ns, def, err);
    s->type.parts[0] = (struct key_part) { def->field_type, index->collation };
    return ANX_OK;
}

anx_status
scalar_create(const struct ns *ns, const struct ns_index *index, struct scalar_index **out, anx_error *err)
{
    static const size_t cell_sizes[] = { sizeof(uint64_t), 16, sizeof(void *), sizeof(void *) };
    const struct index_def *def = index->def;
    struct scalar_index *s = anx_alloc_zeroed(NULL, 1, sizeof(*s));
    anx_status st;

    *out = NULL;
    if (!s)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    st = set_type(s, ns, index, err);
    s->cell_kind = cell_kind_of(def);
    chunks_init(&s->cells, cell_sizes[s->cell_kind]);
    s->is_array = def->is_array;
    s->is_list = def->is_array || def->is_sparse;
    s->is_sparse = def->is_sparse;
    s->default_value = default_of(def->field_type);
    s->owns_texts = def->index_type == INDEX_COLUMN || index->collation.mode != COLLATE_NONE;
    s->rows = roaring_bitmap_create();
    s->nulls = roaring_bitmap_create();
    if (st == ANX_OK && def->index_type != INDEX_COLUMN) {
        s->tree = tree_create(&s->type);
        if (!s->tree)
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    }
    if (st == ANX_OK && (!s->rows || !s->nulls))
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    if (st != ANX_OK) {
        scalar_destroy(s);
        return st;
    }
    *out = s;
    return ANX_OK;
}

static void
cell_free(struct scalar_index *index, uint64_t cell)
{
    if (index->cell_kind == CELL_BLOCK || (index->cell_kind == CELL_TEXT && index->owns_texts))
        anx_free(NULL, (void *) (uintptr_t) cell);
}

void
scalar_destroy(struct scalar_index *index)
{
    if (!index)
        return;
    if (index->cell_kind == CELL_BLOCK || index->cell_kind == CELL_TEXT)
        for (size_t row = 0; row < chunks_end(&index->cells); row++)
            cell_free(index, (uint64_t) (uintptr_t) *(void **) chunks_at(&index->cells, row));
    tree_destroy(index->tree);
    chunks_fini(&index->cells);
    if (index->rows)
        roaring_bitmap_free(index->rows);
    if (index->nulls)
        roaring_bitmap_free(index->nulls);
    for (size_t i = 0; index->components && i < index->type.n_part; i++)
        anx_free(NULL, index->components[i]);
    anx_free(NULL, index->components);
    anx_free(NULL, index->type.parts);
    anx_free(NULL, index);
}

/* ---- Cells ---- */

static struct value
word_value(enum field_type type, uint64_t word)
{
    struct value value;

    if (type == FIELD_DOUBLE) {
        value.type = VALUE_DOUBLE;
        memcpy(&value.real, &word, sizeof(value.real));
    } else if (type == FIELD_BOOL) {
        value = (struct value) { .type = VALUE_BOOL, .boolean = word != 0 };
    } else {
        value = (struct value) { .type = VALUE_INT, .integer = (int64_t) word };
    }
    return value;
}

static uint64_t
bits_of(double real)
{
    uint64_t bits;

    memcpy(&bits, &real, sizeof(bits));
    return bits;
}

static uint64_t
value_word(enum field_type type, const struct value *value)
{
    if (type == FIELD_DOUBLE)
        return bits_of(value->type == VALUE_DOUBLE ? value->real
                       : value->type == VALUE_INT  ? (double) value->integer
                                                   : (double) value->boolean);
    return value->type == VALUE_BOOL ? value->boolean : (uint64_t) value->integer;
}

struct values
scalar_cell_values(const struct scalar_index *index, uint32_t row, struct value *storage)
{
    const void *cell = chunks_at(&index->cells, row);
    const struct value_block *block;

    switch (index->cell_kind) {
    case CELL_WORD:
        *storage = word_value(index->type.parts[0].type, *(const uint64_t *) cell);
        break;
    case CELL_UUID:
        storage->type = VALUE_UUID;
        memcpy(storage->uuid, cell, sizeof(storage->uuid));
        break;
    case CELL_TEXT:
        if (!*(void *const *) cell)
            return (struct values) { NULL, 0 };
        *storage = (struct value) { .type = VALUE_STRING, .text = text_block_text(*(void *const *) cell) };
        break;
    default:
        block = *(void *const *) cell;
        if (!block)
            return (struct values) { NULL, 0 };
        if (index->type.kind != KEY_TUPLE)
            return (struct values) { (struct value *) block->items, block->n };
        *storage = (struct value) { .type = VALUE_TUPLE };
        storage->tuple = (struct values) { (struct value *) block->items, block->n };
        break;
    }
    return (struct values) { storage, 1 };
}

/* The values a row has now; none when the index does not have the row. */
static struct values
old_values(const struct scalar_index *index, uint32_t row, struct value *storage)
{
    if (!roaring_bitmap_contains(index->rows, row))
        return (struct values) { NULL, 0 };
    return scalar_cell_values(index, row, storage);
}

/* The same for whoever reads it: texts that only a collation takes for equal are not the same. */
static bool
is_identical(const struct value *a, const struct value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case VALUE_NULL:
        return true;
    case VALUE_BOOL:
        return a->boolean == b->boolean;
    case VALUE_INT:
        return a->integer == b->integer;
    case VALUE_DOUBLE:
        return bits_of(a->real) == bits_of(b->real); /* 0.0 and -0.0 print differently */
    case VALUE_STRING:
        return anx_text_equal(a->text, b->text);
    case VALUE_UUID:
        return memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0;
    default:
        break;
    }
    if (a->tuple.n != b->tuple.n)
        return false;
    for (size_t i = 0; i < a->tuple.n; i++)
        if (a->tuple.items[i].type == VALUE_TUPLE || !is_identical(&a->tuple.items[i], &b->tuple.items[i]))
            return false;
    return true;
}

static bool
are_identical(struct values a, struct values b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (!is_identical(&a.items[i], &b.items[i]))
            return false;
    return true;
}

/* ---- Change ---- */

/* What stands for null in a regular index is the default value. */
static const struct value *
effective(const struct scalar_index *index, const struct value *value)
{
    return value->type == VALUE_NULL && !index->is_sparse ? &index->default_value : value;
}

static bool
contains(const struct scalar_index *index, struct values values, const struct value *value)
{
    for (size_t i = 0; i < values.n; i++)
        if (key_compare_values(&index->type, effective(index, &values.items[i]), value) == 0)
            return true;
    return false;
}

static int
compare_items(const void *a, const void *b, void *context)
{
    return key_compare_values(context, *(const struct value *const *) a, *(const struct value *const *) b);
}

/* Long arrays: the new values in order, so that finding one of them is quick. NULL: compare one by one. */
static anx_status
sort_values(const struct scalar_index *index, struct values values, size_t n_old, const struct value ***out,
            anx_error *err)
{
    const struct value **sorted;

    *out = NULL;
    if (n_old == 0 || values.n <= COMPARISONS_MAX / n_old)
        return ANX_OK;
    sorted = anx_alloc_array(NULL, values.n, sizeof(const struct value *));
    if (!sorted)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the values of a document");
    for (size_t i = 0; i < values.n; i++)
        sorted[i] = &values.items[i];
    qsort_r(sorted, values.n, sizeof(const struct value *), compare_items, (void *) &index->type);
    *out = sorted;
    return ANX_OK;
}

static bool
sorted_contains(const struct scalar_index *index, const struct value **sorted, size_t n,
                const struct value *value)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (key_compare_values(&index->type, sorted[mid], value) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && key_compare_values(&index->type, sorted[low], value) == 0;
}

/* Takes the row from the keys of `values` (the first n) that are not among `kept`. */
static void
remove_keys(struct scalar_index *index, uint32_t row, struct values values, struct values kept,
            const struct value **sorted)
{
    struct key key;

    for (size_t i = 0; index->tree && i < values.n; i++) {
        const struct value *value = effective(index, &values.items[i]);

        if (!key_make(&index->type, value, &key))
            continue;
        if (sorted ? !sorted_contains(index, sorted, kept.n, value) : !contains(index, kept, value))
            tree_remove(index->tree, &key, row);
    }
}

/* *low: what the tree keeps of the last one. */
static anx_status
add_keys(struct scalar_index *index, uint32_t row, struct values values, struct values old, uint64_t *low,
         anx_error *err)
{
    *low = 0;
    for (size_t i = 0; index->tree && i < values.n; i++) {
        const struct value *value = effective(index, &values.items[i]);
        struct key key;
        bool added;
        anx_status st;

        if (value->type == VALUE_NULL)
            continue;
        if (!key_make(&index->type, value, &key))
            st = anx_fail(err, ANX_E_INTERNAL, "a value of type %d came to an index of another type",
                          (int) value->type);
        else
            st = tree_add(index->tree, &key, row, low, &added, err);
        if (st != ANX_OK) {
            remove_keys(index, row, (struct values) { values.items, i }, old, NULL);
            return st;
        }
    }
    return ANX_OK;
}

static anx_status
make_cell(struct scalar_index *index, struct values values, uint64_t low, struct scalar_change *change,
          anx_error *err)
{
    const void *block = NULL;

    change->cell = change->low = 0;
    if (values.n == 0)
        return ANX_OK;
    switch (index->cell_kind) {
    case CELL_WORD:
        change->cell = value_word(index->type.parts[0].type, &values.items[0]);
        return ANX_OK;
    case CELL_UUID:
        memcpy(&change->cell, values.items[0].uuid, 8);
        memcpy(&change->low, values.items[0].uuid + 8, 8);
        return ANX_OK;
    case CELL_TEXT:
        change->cell = low;
        if (!index->owns_texts)
            return ANX_OK;
        block = text_block_create(values.items[0].text);
        break;
    default:
        if (index->type.kind == KEY_TUPLE)
            values = values.items[0].tuple;
        block = value_block_create(values.items, values.n);
        break;
    }
    change->cell = (uint64_t) (uintptr_t) block;
    return block ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate the values of a document");
}

/* Nulls inside of an array of a regular index are kept as what they count as. */
static void
resolve_defaults(struct scalar_index *index, struct scalar_change *change)
{
    struct value_block *block = (struct value_block *) (uintptr_t) change->cell;

    if (!index->is_list || index->is_sparse || !block)
        return;
    for (uint32_t i = 0; i < block->n; i++)
        block->items[i] = *effective(index, &block->items[i]);
}

static bool
is_null(const struct scalar_index *index, struct values values)
{
    for (size_t i = 0; i < values.n; i++)
        if (values.items[i].type == VALUE_NULL && index->is_sparse)
            return true;
    return values.n == 0;
}

/* The values of a cell that is not in its place yet. */
static struct values
change_values(const struct scalar_index *index, const struct scalar_change *change, struct value *storage)
{
    const struct value_block *block = (const struct value_block *) (uintptr_t) change->cell;

    if (index->is_list)
        return block ? (struct values) { (struct value *) block->items, block->n }
                     : (struct values) { NULL, 0 };
    switch (index->cell_kind) {
    case CELL_WORD:
        *storage = word_value(index->type.parts[0].type, change->cell);
        break;
    case CELL_UUID:
        storage->type = VALUE_UUID;
        memcpy(storage->uuid, &change->cell, 8);
        memcpy(storage->uuid + 8, &change->low, 8);
        break;
    case CELL_TEXT:
        *storage = (struct value) { .type = VALUE_STRING };
        storage->text = text_block_text((const struct text_block *) (uintptr_t) change->cell);
        break;
    default:
        *storage = (struct value) { .type = VALUE_TUPLE };
        storage->tuple = (struct values) { (struct value *) block->items, block->n };
        break;
    }
    return (struct values) { storage, 1 };
}

anx_status
scalar_begin(struct scalar_index *index, uint32_t row, const struct values *values,
             struct scalar_change *change, anx_error *err)
{
    struct value storage, old_storage;
    struct values old = old_values(index, row, &old_storage);
    struct values new = *values;
    uint64_t low;
    anx_status st;

    if (!index->is_list && (new.n == 0 || new.items[0].type == VALUE_NULL))
        new = (struct values) { &index->default_value, 1 };
    else if (index->is_sparse && new.n == 1 && new.items[0].type == VALUE_NULL)
        new.n = 0;
    *change = (struct scalar_change) { .is_null = is_null(index, new) };
    if (roaring_bitmap_contains(index->rows, row) &&
        change->is_null == roaring_bitmap_contains(index->nulls, row) && are_identical(old, new)) {
        change->is_same = true;
        return ANX_OK;
    }
    st = chunks_reserve(&index->cells, (size_t) row + 1, err);
    if (st == ANX_OK)
        st = add_keys(index, row, new, old, &low, err);
    if (st != ANX_OK)
        return st;
    st = make_cell(index, new, low, change, err);
    if (st == ANX_OK) {
        resolve_defaults(index, change);
        if (index->is_list)
            st = sort_values(index, change_values(index, change, &storage), old.n, &change->sorted, err);
    }
    if (st != ANX_OK) {
        remove_keys(index, row, new, old, NULL);
        cell_free(index, change->cell);
    }
    return st;
}

static void
store_cell(struct scalar_index *index, uint32_t row, uint64_t cell, uint64_t low)
{
    uint8_t *place = chunks_at(&index->cells, row);

    memcpy(place, &cell, sizeof(cell));
    if (index->cell_kind == CELL_UUID)
        memcpy(place + sizeof(cell), &low, sizeof(low));
}

static uint64_t
load_cell(const struct scalar_index *index, uint32_t row)
{
    uint64_t cell;

    memcpy(&cell, chunks_at(&index->cells, row), sizeof(cell));
    return cell;
}

/* Sparse fields may hold arrays; as long as none does, their index is ordered like any other. */
static void
count_long(struct scalar_index *index, uint64_t cell, int sign)
{
    const struct value_block *block = (const struct value_block *) (uintptr_t) cell;

    if (index->is_list && block && block->n > 1)
        index->n_long += (size_t) sign;
}

void
scalar_commit(struct scalar_index *index, uint32_t row, struct scalar_change *change)
{
    struct value old_storage, new_storage;
    uint64_t old_cell;

    if (change->is_same)
        return;
    /* The old texts may be keys of the tree, freed with their last row: keys go first, then cells. */
    old_cell = load_cell(index, row);
    remove_keys(index, row, old_values(index, row, &old_storage), change_values(index, change, &new_storage),
                change->sorted);
    count_long(index, old_cell, -1);
    count_long(index, change->cell, 1);
    if (roaring_bitmap_contains(index->rows, row))
        cell_free(index, old_cell);
    store_cell(index, row, change->cell, change->low);
    roaring_bitmap_add(index->rows, row);
    if (change->is_null)
        roaring_bitmap_add(index->nulls, row);
    else
        roaring_bitmap_remove(index->nulls, row);
    anx_free(NULL, change->sorted);
}

void
scalar_abort(struct scalar_index *index, uint32_t row, struct scalar_change *change)
{
    struct value old_storage, new_storage;

    if (change->is_same)
        return;
    remove_keys(index, row, change_values(index, change, &new_storage), old_values(index, row, &old_storage),
                NULL);
    cell_free(index, change->cell);
    anx_free(NULL, change->sorted);
}

void
scalar_remove(struct scalar_index *index, uint32_t row)
{
    struct value storage;

    if (!roaring_bitmap_contains(index->rows, row))
        return;
    remove_keys(index, row, old_values(index, row, &storage), (struct values) { NULL, 0 }, NULL);
    count_long(index, load_cell(index, row), -1);
    cell_free(index, load_cell(index, row));
    store_cell(index, row, 0, 0);
    roaring_bitmap_remove(index->rows, row);
    roaring_bitmap_remove(index->nulls, row);
}

/* The tuple of a row from the components' own indexes. */
static anx_status
read_components(const struct scalar_index *index, uint32_t row, struct value *items, anx_error *err)
{
    for (size_t i = 0; i < index->type.n_part; i++) {
        const struct ns_index *part = ns_index_find(index->ns, anx_text_of(index->components[i]));
        struct values values = { NULL, 0 };

        if (part && part->scalar)
            values = scalar_values(part->scalar, row, &items[i]);
        if (values.n != 1)
            return anx_fail(err, ANX_E_INTERNAL, "component '%s' of a composite index has no value of row %u",
                            index->components[i], row);
    }
    return ANX_OK;
}

anx_status
scalar_insert(struct scalar_index *index, uint32_t row, const struct values *values, anx_error *err)
{
    struct value tuple = { .type = VALUE_TUPLE };
    struct values one = { &tuple, 1 };
    struct scalar_change change;
    struct value *items = NULL;
    anx_status st = ANX_OK;

    if (!values && index->type.kind == KEY_TUPLE) {
        items = anx_alloc_array(NULL, index->type.n_part, sizeof(*items));
        tuple.tuple = (struct values) { items, index->type.n_part };
        values = &one;
        st = items ? read_components(index, row, items, err)
                   : anx_fail(err, ANX_E_NOMEM, "could not allocate a composite value");
    }
    if (st == ANX_OK)
        st = scalar_begin(index, row, values, &change, err);
    if (st == ANX_OK)
        scalar_commit(index, row, &change);
    anx_free(NULL, items);
    return st;
}
