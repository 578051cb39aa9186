/* The inside of a scalar index, shared by scalar.c (change) and scalar_select.c (questions). */
#ifndef ANX_DB_SCALAR_INT_H
#define ANX_DB_SCALAR_INT_H

#include "db/chunks.h"
#include "db/data.h"
#include "db/scalar_tree.h"

enum cell_kind {
    CELL_WORD,  /* int64_t or the bits of a double */
    CELL_UUID,  /* 16 bytes */
    CELL_TEXT,  /* struct text_block *: the tree's key where that is the text itself, else the cell's own */
    CELL_BLOCK, /* struct value_block *, owned: arrays, sparse fields, composites; NULL: no values */
};
struct scalar_index {
    struct key_type type;
    enum cell_kind cell_kind;
    bool is_array, is_sparse;
    bool is_list;                /* either of them: any number of values */
    size_t n_long;               /* rows with more than one value */
    bool owns_texts;             /* CELL_TEXT: the blocks are the cells' own */
    struct key_tree *tree;       /* owned; NULL for "-" */
    struct chunks cells;         /* by row */
    roaring_bitmap_t *rows;      /* that the index has */
    roaring_bitmap_t *nulls;     /* of them: those that satisfy EMPTY */
    struct value default_value;
    const struct ns *ns;         /* composites: where components are found */
    char **components;           /* composites: owned names [type.n_part] */
};

/* The values of a row that the index has; see scalar_values. */
struct values scalar_cell_values(const struct scalar_index *index, uint32_t row, struct value *storage);

#endif
