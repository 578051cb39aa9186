/* Temporary files: a private folder, and in it finished indexes whose download broke, until their client
 * comes back for the rest.
 *
 *     TMP_DIR/annex-indexing-XXXXXX/    mode 0700, made at start, removed at the end
 *         lock                          held locked (flock) as long as the process lives
 *
 * The indexes themselves have no name: their files are unlinked as soon as they are open, so whatever happens
 * to the process, the system takes their space back. What a killed server leaves is its folder with the lock
 * file, which nobody holds any more; the next server that starts on the same TMP_DIR removes it.
 *
 * Threads: any; one lock, a leaf. A kept index that was found stays valid until it is released. */
#ifndef ANX_INDEXING_SPOOL_H
#define ANX_INDEXING_SPOOL_H

#include <pthread.h>
#include <stdint.h>

#include "annex/index_file.h"
#include "indexing/jobs.h"
#include "indexing/wire.h"

struct kept {
    struct kept *next; /* spool's lock, with the next four */
    uint64_t until_ns;
    unsigned n_user;
    bool is_over;    /* goes when the last user releases it */
    struct job *job; /* owned by the entry: ended when it goes */
    /* Immutable after anx_spool_keep. */
    uint8_t session[ANX_WIRE_SESSION_SIZE];
    uint8_t key[ANX_WIRE_PROOF_SIZE]; /* secret: what a RESUME must prove to know */
    int fd;                           /* owned; -1: the index could not be kept, see error */
    anx_wire_index index;
    uint8_t sum[ANX_WIRE_SUM_SIZE];
    anx_error error;
};

struct spool {
    char *path; /* owned: the private folder */
    int lock_fd; /* owned */
    struct jobs *jobs; /* borrowed */
    uint64_t timeout_ns;
    pthread_mutex_t lock;
    struct kept *first;
};

/* Removes what killed servers left in tmp_dir, and makes the private folder. ANX_E_IO names option, folder
 * and cause. timeout_ms: how long an index is kept. */
ANX_NODISCARD anx_status anx_spool_open(struct spool *spool, const char *tmp_dir, unsigned timeout_ms,
                                        struct jobs *jobs, anx_error *err);
/* Gives up what is kept and removes the folder. A zeroed one is fine. No user may be left. */
void anx_spool_close(struct spool *spool);

/* Writes the index to a file and keeps it. kept: session, key, index, job set by the caller, who hands it
 * over (allocated with anx_alloc); also when this fails: the client who comes back is then told why. The
 * index may be destroyed afterwards. */
void anx_spool_keep(struct spool *spool, struct kept *kept, const anx_index *index,
                    const anx_save_params *params);
/* NULL: nothing kept under that id (any more). */
struct kept *anx_spool_find(struct spool *spool, const uint8_t session[ANX_WIRE_SESSION_SIZE]);
/* is_delivered: the client has it all; the job has succeeded, and the entry is over. */
void anx_spool_release(struct spool *spool, struct kept *kept, bool is_delivered);
/* Releases an entry that its client does not want any more. */
void anx_spool_give_up(struct spool *spool, struct kept *kept);
/* Gives up what has been kept too long. Called about once a second. */
void anx_spool_expire(struct spool *spool);

#endif
