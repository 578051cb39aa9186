/* Full-text search over rows of texts: an inverted index with positions, its query language, and the marking
 * of what was found. It knows nothing of documents; a row has one or several fields, each of any number of
 * texts.
 *
 *     text_config_read(NULL, &name, 1, &config, &err);
 *     text_index_create(config, &index, &err);
 *     text_index_begin(index, row, fields, &err);      then text_index_commit(index)
 *     text_search(index, ANX_TEXT("+fox \"quick brown\" jump*"), NULL, NULL, arena, &found, &err);
 *     for (size_t i = 0; i < found->n; i++) ... found->hits[i].row, .rank
 *
 * Texts are folded: case and accents do not count. The query language is in README.md of this room.
 *
 * Threads: a change (begin to commit, remove) excludes everything else; all the rest may run side by side. */
#ifndef ANX_TEXT_TEXT_H
#define ANX_TEXT_TEXT_H

#include "base/arena.h"
#include "base/buffer.h"
#include "doc/json.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TEXT_FIELDS_MAX = 63 };

/* ---- Configuration (config.c) ---- */

struct text_config;
/* The `config` of an index definition; NULL or null: all defaults. fields [n_field]: their names in queries
 * and in "fields", at least one; more than one makes a composite index. Unknown keys are ignored.
 * ANX_E_PARSE_JSON (types, ranges), ANX_E_PARSE_DSL, ANX_E_PARAMS, ANX_E_UNSUPPORTED (a splitter that is not
 * there), ANX_E_NOMEM. */
ANX_NODISCARD anx_status text_config_read(const struct json_node *config, const anx_text *fields,
                                          size_t n_field, struct text_config **out, anx_error *err);
void text_config_destroy(struct text_config *config); /* NULL is fine */

/* ---- The index (index.c) ---- */

struct text_index;
/* Takes the config, also on failure. ANX_E_NOMEM. */
ANX_NODISCARD anx_status text_index_create(struct text_config *config, struct text_index **out,
                                           anx_error *err);
void text_index_destroy(struct text_index *index); /* NULL is fine */

/* The texts of one field of a row; borrowed for the call. Words of two texts are never neighbors. */
struct text_field {
    const anx_text *texts;
    size_t n;
};
/* New texts of a row, one field for each of the config's, in two steps: what can fail is in begin; commit and
 * abort cannot. One change at a time. ANX_E_NOMEM; ANX_E_LIMIT: a field of more than 2^25 words. */
ANX_NODISCARD anx_status text_index_begin(struct text_index *index, uint32_t row,
                                          const struct text_field *fields, anx_error *err);
void text_index_commit(struct text_index *index);
void text_index_abort(struct text_index *index);
void text_index_remove(struct text_index *index, uint32_t row); /* a row it does not have is fine */

size_t text_index_rows(const struct text_index *index);
size_t text_index_words(const struct text_index *index); /* different ones */
size_t text_index_memory(const struct text_index *index);
/* Every invariant of dictionary, postings and rows; ANX_E_CORRUPT. */
ANX_NODISCARD anx_status text_index_check(const struct text_index *index, anx_error *err);
/* Is the row indexed with exactly these texts? ANX_E_CORRUPT says what differs. */
ANX_NODISCARD anx_status text_index_check_row(const struct text_index *index, uint32_t row,
                                              const struct text_field *fields, anx_error *err);

/* ---- Searching (query.c, expand.c, search.c) ---- */

struct text_hit {
    uint32_t row;
    float rank; /* a whole number, 1 to 255 */
};
/* What made hits, for marking. Opaque. */
struct text_marks;
struct text_found {
    struct text_hit *hits; /* best first, equal ranks by row */
    size_t n;
    const struct text_marks *marks;
};
/* goes_on (may be NULL) is asked now and then; false ends the search with ANX_E_CANCELLED. Everything of *out
 * is in the arena. ANX_E_PARSE_DSL, ANX_E_PARAMS (the query; texts that clients know), ANX_E_LOGIC (unknown
 * field), ANX_E_NOMEM. */
ANX_NODISCARD anx_status text_search(const struct text_index *index, anx_text query,
                                     bool (*goes_on)(void *context), void *context, anx_arena *arena,
                                     struct text_found *out, anx_error *err);

/* ---- Marking what was found (areas.c) ---- */

/* One found stretch of a text, in bytes. */
struct text_area {
    size_t begin, end;
};
/* The stretches of a text of field `field` that a search found, in order; neighbors in a phrase are one. At
 * most max_areas_in_doc of the config. ANX_E_NOMEM. */
ANX_NODISCARD anx_status text_find_areas(const struct text_index *index, const struct text_marks *marks,
                                         size_t field, anx_text text, anx_arena *arena,
                                         struct text_area **out, size_t *n, anx_error *err);
/* How a stretch is shown: highlight (the whole text) or snippets around the stretches. */
struct text_show {
    bool is_snippet;
    anx_text before, after;         /* the stretch */
    size_t n_before, n_after;       /* characters around a snippet's stretch */
    anx_text pre_delim, post_delim; /* around a snippet */
    bool with_area;                 /* "[B,E]" in characters in front of a snippet */
    anx_text left_bound, right_bound; /* characters at which a snippet may begin and end earlier */
};
/* "highlight(<b>,</b>)", "snippet(<b>,</b>,5,5[,pre[,post]])",
 * "snippet_n('<b>','</b>',5,5,pre_delim='{',...)": the call without the field. Texts of *out are in the
 * arena. ANX_E_PARAMS. */
ANX_NODISCARD anx_status text_show_read(anx_text call, anx_arena *arena, struct text_show *out,
                                        anx_error *err);
/* The text as it is to be shown. areas NULL and n 0: nothing was found; highlight then gives the text itself,
 * snippets nothing. */
void text_show_print(const struct text_show *show, anx_text text, const struct text_area *areas, size_t n,
                     anx_buffer *out);

#ifdef __cplusplus
}
#endif
#endif
