/* Memory: what every build holds, and a limit on all of it together.
 *
 *     struct budget budget;
 *     anx_budget_init(&budget, limit);
 *     struct budget_account account;
 *     anx_budget_open(&account, &budget);
 *     params.alloc = &account.alloc;             what the index allocates is counted, and refused at the
 * limit anx_budget_charge(&account, bytes, &err);      what it maps itself
 *     ...
 *     anx_budget_close(&account);
 *
 * The counts are of bytes asked for, not of pages touched; the process needs a little more (stacks, read
 * buffers, the allocator's own overhead), which is why the default limit leaves a quarter of the machine.
 * Threads: an account may be used by any number at once; open and close by its owner. */
#ifndef ANX_INDEXING_BUDGET_H
#define ANX_INDEXING_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "annex/alloc.h"
#include "annex/status.h"

struct budget {
    size_t limit; /* immutable */
    atomic_size_t used;
};

struct budget_account {
    anx_alloc alloc;      /* hand it to the index; valid until anx_budget_close */
    struct budget *budget; /* borrowed */
    atomic_size_t used, peak; /* bytes, allocated and charged */
    size_t charged;           /* of them by anx_budget_charge; its caller's thread */
    atomic_size_t refused;    /* the largest request that the limit refused; 0: none */
};

void anx_budget_init(struct budget *budget, size_t limit);
void anx_budget_open(struct budget_account *account, struct budget *budget);
/* Gives back what was charged; what was allocated must have been freed. */
void anx_budget_close(struct budget_account *account);
/* Sets the charge to `bytes`, more or less than before. ANX_E_LIMIT, with limit and need in the message; the
 * charge is then unchanged. */
ANX_NODISCARD anx_status anx_budget_charge(struct budget_account *account, size_t bytes, anx_error *err);
/* A failure of a build as its client should see it: "out of memory" that was the limit's doing becomes
 * ANX_E_LIMIT with the limit's name; other errors stay. Returns err->status. */
anx_status anx_budget_explain(const struct budget_account *account, anx_error *err);
bool anx_budget_has_room(const struct budget *budget, size_t bytes);

/* Bytes of memory that this process may use: the machine's, cut by the limits of its control groups. */
size_t anx_budget_machine(void);

#endif
