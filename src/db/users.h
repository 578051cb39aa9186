/* Who may do what: users.yml (or users.json) in the storage root.
 *
 *     users_open("db", &users, &err);
 *     if (users_login(users, name, password, &login)) role = users_role(&login, database);
 *
 * Threads: any after open. */
#ifndef ANX_DB_USERS_H
#define ANX_DB_USERS_H

#include "db/db.h"

struct users;
struct user;

/* path: the storage root. Without a file there is one user, reindexer with the password reindexer, owner of
 * everything. ANX_E_IO, ANX_E_INVALID (which line, which key). */
ANX_NODISCARD anx_status users_open(const char *path, struct users **out, anx_error *err);
void users_close(struct users *users); /* NULL is fine */
/* NULL: unknown user or wrong password, told apart in neither time nor answer. Borrowed from users. Verifying
 * a hash is slow by design; a success is remembered for an hour. */
const struct user *users_login(struct users *users, anx_text name, anx_text password);
/* The greater of the role for the database and the role for "*". NULL user (security is off): ROLE_OWNER. */
enum db_role users_role(const struct user *user, anx_text database);
/* Every database that a user has a role for by name, and "*", with what users_role says for it. NULL user:
 * "*" alone. Databases that are not named have the role of "*", or none without one. */
typedef void (*users_role_fn)(void *context, anx_text database, enum db_role role);
void users_each_role(const struct user *user, users_role_fn each, void *context);
const char *db_role_name(enum db_role role); /* "none", "data_read", ... */

#endif
