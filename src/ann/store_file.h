/* The sections of a row store in an index file, shared by the kinds that stand on one:
 *
 *     labels    u64 [n]
 *     rows      [n][row_size], rows as given
 *     norms     f32 [n], inverse lengths; cosine only
 *
 * The container around them: src/ann/FILES.md. */
#ifndef ANX_ANN_STORE_FILE_H
#define ANX_ANN_STORE_FILE_H

#include "ann/file_int.h"
#include "ann/store.h"

/* Appends the store's sections; they read from `store` until the save is over. */
void store_sections(const struct row_store *store, struct section_list *list);
/* Fills an initialized, empty store. ANX_E_CORRUPT, ANX_E_NOMEM; the store is then to be freed as usual. */
ANX_NODISCARD anx_status store_restore(struct row_store *store, const struct section_set *set,
                                       anx_error *err);
/* The section, which must be there and have exactly this size. */
ANX_NODISCARD anx_status section_require(const struct section_set *set, const char *tag, uint64_t size,
                                         const struct section_in **out, anx_error *err);
/* Adds a section to a list that has room. */
void section_add(struct section_list *list, const char *tag, uint64_t size,
                 anx_status (*emit)(const void *, const anx_sink *, anx_error *), const void *context);

#endif
