/* Quantization in the background: a vector index with a quantization_config that has grown past its threshold
 * gets a library index of codes alone, built beside the one it has while readers and writers go on.
 *
 *     1. rows are read block by block, data_lock shared for well under a millisecond each
 *     2. the graph is built by threads of low priority, no lock held
 *     3. what changed meanwhile is brought over, in rounds that get shorter, no lock held
 *     4. the rest under write_lock, a few milliseconds at a time, until nothing is left;
 *        then the two change places under data_lock, which takes microseconds
 *
 * Nothing of it is on disk: after a crash the namespace is loaded as it was, and quantized again. The index
 * file that is written later holds codes, and a start with it has a quantized index at once.
 *
 * One at a time per engine. A change of the definition, a truncated or dropped namespace, or a closed engine
 * end it without a trace. Floats are read from the store afterwards (vector_floats.c), so namespaces without
 * storage are never quantized. */
#ifndef ANX_DB_QUANTIZE_H
#define ANX_DB_QUANTIZE_H

#include "db/ns.h"

struct quantizer;
struct quantizer *quantizer_create(void); /* NULL: out of memory */
/* Ends what is going on, and frees. The housekeeper has stopped. NULL is fine. */
void quantizer_destroy(struct quantizer *quantizer);
/* Starts unless one is running; the housekeeper alone. write_lock of the namespace held. False: not now. */
bool quantizer_start(struct quantizer *quantizer, struct ns *ns, struct vector_index *index);
/* The way back, by the caller's thread: builds an index of floats beside a quantized one and leaves it in
 * index->next, where vector_reconfigure finds it. write_lock is held at the call and afterwards, and released
 * in between, so the caller has to look again at everything, the index among it. ANX_OK without one when
 * something came in between. ANX_E_NOMEM, ANX_E_CORRUPT (floats are not in the store). */
ANX_NODISCARD anx_status quantizer_reset(struct quantizer *quantizer, struct ns *ns,
                                         struct vector_index *index, anx_error *err);
/* Is the index with that serial being quantized, and how much of the building is done, 0..1? Any thread. */
bool quantizer_progress(const struct quantizer *quantizer, uint64_t serial, double *out);

#endif
