/* Users from users.yml or users.json (which is YAML too).
 *
 *     alice:
 *       hash: "$5$salt$hexdigest"
 *       roles:
 *         "*": data_read
 *         docs: db_admin
 *
 * A hash without a scheme is the password itself. $1$, $5$ and $6$ are what crypt(3) makes. */
#include "db/users.h"

#include <crypt.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"

struct grant {
    char *database; /* owned; "*" for all */
    enum db_role role;
    struct grant *next;
};
struct user {
    char *name, *hash;   /* owned */
    struct grant *grants; /* owned */
    struct user *next;
    /* A password that was right lately: a keyed sum of it, so that the password itself is not kept. Guarded
     * by the lock of users. */
    uint64_t known_sum, known_until_ns;
};
struct users {
    pthread_mutex_t lock;
    struct user *list; /* owned; immutable but for what is remembered */
    uint64_t key[2];   /* for the sums; random */
};

#define REMEMBERED_NS ((uint64_t) 3600 * 1000000000u)
enum { PASSWORD_MAX = 512, FILE_MAX = 16 << 20 };

static const char *const role_names[] = {
    [ROLE_NONE] = "none",         [ROLE_DATA_READ] = "data_read", [ROLE_DATA_WRITE] = "data_write",
    [ROLE_DB_ADMIN] = "db_admin", [ROLE_OWNER] = "owner",
};

const char *
db_role_name(enum db_role role)
{
    return role_names[role];
}

/* ---- Making ---- */

static char *
copy_text(const char *data, size_t size)
{
    char *copy = anx_alloc_zeroed(NULL, size + 1, 1);

    if (copy)
        memcpy(copy, data, size);
    return copy;
}

static struct user *
add_user(struct users *users, const char *name, size_t size)
{
    struct user *user = anx_alloc_zeroed(NULL, 1, sizeof(*user));

    if (!user)
        return NULL;
    user->name = copy_text(name, size);
    user->next = users->list;
    users->list = user;
    return user->name ? user : NULL;
}

static bool
add_grant(struct user *user, const char *database, size_t size, enum db_role role)
{
    struct grant *grant = anx_alloc_zeroed(NULL, 1, sizeof(*grant));

    if (!grant)
        return false;
    grant->database = copy_text(database, size);
    grant->role = role;
    grant->next = user->grants;
    user->grants = grant;
    return grant->database != NULL;
}

void
users_close(struct users *users)
{
    if (!users)
        return;
    while (users->list) {
        struct user *user = users->list;

        users->list = user->next;
        while (user->grants) {
            struct grant *grant = user->grants;

            user->grants = grant->next;
            anx_free(NULL, grant->database);
            anx_free(NULL, grant);
        }
        anx_free(NULL, user->name);
        anx_free(NULL, user->hash);
        anx_free(NULL, user);
    }
    pthread_mutex_destroy(&users->lock);
    anx_free(NULL, users);
}

/* ---- Reading ---- */

static anx_status
fail_at(const yaml_node_t *node, const char *what, anx_error *err)
{
    return anx_fail(err, ANX_E_INVALID, "users file, line %zu: %s", node->start_mark.line + 1, what);
}

static anx_status
scalar_at(yaml_document_t *document, int id, const yaml_node_t **out, const char *what, anx_error *err)
{
    *out = yaml_document_get_node(document, id);
    return (*out)->type == YAML_SCALAR_NODE ? ANX_OK : fail_at(*out, what, err);
}

/* The roles of the reference that have no use here: nobody replicates or shards. */
static bool
role_of(const yaml_node_t *node, enum db_role *out)
{
    const char *text = (const char *) node->data.scalar.value;

    for (unsigned role = 0; role < ANX_COUNT_OF(role_names); role++)
        if (strcmp(text, role_names[role]) == 0) {
            *out = (enum db_role) role;
            return true;
        }
    *out = ROLE_NONE;
    return strcmp(text, "replication") == 0 || strcmp(text, "sharding") == 0 ||
           strcmp(text, "unauthorized") == 0;
}

static anx_status
read_roles(yaml_document_t *document, const yaml_node_t *node, struct user *user, anx_error *err)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail_at(node, "roles must map databases (or \"*\") to roles", err);
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *database;
        const yaml_node_t *role;
        enum db_role value;
        anx_status st = scalar_at(document, pair->key, &database, "the name of a database must be text", err);

        if (st == ANX_OK)
            st = scalar_at(document, pair->value, &role, "a role must be text", err);
        if (st != ANX_OK)
            return st;
        if (!role_of(role, &value))
            return fail_at(role, "unknown role; known are none, data_read, data_write, db_admin, owner", err);
        if (!add_grant(user, (const char *) database->data.scalar.value, database->data.scalar.length, value))
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    return ANX_OK;
}

static anx_status
read_user(yaml_document_t *document, const yaml_node_t *node, struct user *user, anx_error *err)
{
    anx_status st = ANX_OK;

    if (node->type != YAML_MAPPING_NODE)
        return fail_at(node, "a user must have hash and roles", err);
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         st == ANX_OK && pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key;
        const yaml_node_t *value = yaml_document_get_node(document, pair->value);

        st = scalar_at(document, pair->key, &key, "a key must be text", err);
        if (st != ANX_OK)
            return st;
        if (strcmp((const char *) key->data.scalar.value, "roles") == 0) {
            st = read_roles(document, value, user, err);
        } else if (strcmp((const char *) key->data.scalar.value, "hash") == 0) {
            st = user->hash ? fail_at(key, "the hash is there twice", err)
                            : scalar_at(document, pair->value, &value, "hash must be text", err);
            if (st == ANX_OK &&
                !(user->hash = copy_text((const char *) value->data.scalar.value, value->data.scalar.length)))
                st = anx_fail(err, ANX_E_NOMEM, "out of memory");
        } else {
            st = fail_at(key, "unknown key; known are hash and roles", err);
        }
    }
    return st == ANX_OK && !user->hash ? fail_at(node, "the user has no hash", err) : st;
}

static anx_status
read_document(yaml_document_t *document, struct users *users, anx_error *err)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);

    if (!root)
        return anx_fail(err, ANX_E_INVALID, "users file: it is empty");
    if (root->type != YAML_MAPPING_NODE)
        return fail_at(root, "it must map names to users", err);
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *name;
        struct user *user;
        anx_status st = scalar_at(document, pair->key, &name, "the name of a user must be text", err);

        if (st != ANX_OK)
            return st;
        user = add_user(users, (const char *) name->data.scalar.value, name->data.scalar.length);
        if (!user)
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        st = read_user(document, yaml_document_get_node(document, pair->value), user, err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
read_file(FILE *file, struct users *users, anx_error *err)
{
    yaml_parser_t parser;
    yaml_document_t document;
    anx_status st;

    if (!yaml_parser_initialize(&parser))
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    yaml_parser_set_input_file(&parser, file);
    if (!yaml_parser_load(&parser, &document)) {
        st = anx_fail(err, ANX_E_INVALID, "users file, line %zu: %s", parser.problem_mark.line + 1,
                      parser.problem ? parser.problem : "cannot be read");
    } else {
        st = read_document(&document, users, err);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    return st;
}

static anx_status
find_file(const char *path, FILE **file, anx_error *err)
{
    static const char *const names[] = { "users.yml", "users.json" };

    *file = NULL;
    for (size_t i = 0; i < ANX_COUNT_OF(names) && !*file; i++) {
        char name[4096];

        if (snprintf(name, sizeof(name), "%s/%s", path, names[i]) >= (int) sizeof(name))
            return anx_fail(err, ANX_E_INVALID, "the path \"%.100s...\" is too long", path);
        *file = fopen(name, "rbe");
        if (!*file && errno != ENOENT)
            return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", name, strerror(errno));
    }
    return ANX_OK;
}

anx_status
users_open(const char *path, struct users **out, anx_error *err)
{
    struct users *users = anx_alloc_zeroed(NULL, 1, sizeof(*users));
    FILE *file = NULL;
    anx_status st;

    *out = NULL;
    if (!users)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    pthread_mutex_init(&users->lock, NULL);
    st = getrandom(users->key, sizeof(users->key), 0) == (ssize_t) sizeof(users->key)
             ? find_file(path, &file, err)
             : anx_fail(err, ANX_E_SYSTEM, "could not get random numbers: %s", strerror(errno));
    if (st == ANX_OK && file) {
        st = read_file(file, users, err);
        (void) fclose(file);
    } else if (st == ANX_OK) {
        struct user *user = add_user(users, "reindexer", 9);

        anx_log(ANX_LOG_WARN,
                "event=no_users_file hint=\"write users.yml; until then the one user is reindexer "
                "with the password reindexer\"");
        if (!user || !(user->hash = copy_text("reindexer", 9)) || !add_grant(user, "*", 1, ROLE_OWNER))
            st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    if (st != ANX_OK)
        users_close(users);
    else
        *out = users;
    return st;
}

/* ---- Asking ---- */

/* Equal without telling by its time where the first difference is. */
static bool
equal_slowly(const char *a, const char *b)
{
    size_t n_a = strlen(a);
    size_t n_b = strlen(b);
    unsigned difference = n_a != n_b;

    for (size_t i = 0; i < n_a; i++)
        difference |= (unsigned char) a[i] ^ (unsigned char) b[n_b ? i % n_b : 0];
    return difference == 0;
}

static bool
is_right(const char *hash, const char *password)
{
    struct crypt_data *data;
    const char *made;
    bool right = false;

    if (hash[0] != '$')
        return equal_slowly(hash, password);
    data = anx_alloc_zeroed(NULL, 1, sizeof(*data));
    if (!data)
        return false;
    made = crypt_r(password, hash, data);
    right = made && made[0] != '*' && equal_slowly(made, hash);
    anx_free(NULL, data);
    return right;
}

static uint64_t
sum_of(const struct users *users, const char *password)
{
    char bytes[PASSWORD_MAX + 16];
    size_t size = strlen(password);

    memcpy(bytes, users->key, sizeof(users->key));
    memcpy(bytes + sizeof(users->key), password, size);
    return anx_hash(bytes, sizeof(users->key) + size);
}

static struct user *
find_user(struct users *users, anx_text name)
{
    struct user *user = users->list;

    while (user && !anx_text_equal(anx_text_of(user->name), name))
        user = user->next;
    return user;
}

const struct user *
users_login(struct users *users, anx_text name, anx_text password)
{
    /* For unknown names: the same work as for known ones. */
    static const char nobody[] = "$5$nobodynobody$0";
    struct user *user = find_user(users, name);
    char text[PASSWORD_MAX + 1];
    uint64_t now_ns = anx_clock_ns();
    uint64_t sum;
    bool is_known;

    if (password.size > PASSWORD_MAX || (password.size > 0 && memchr(password.data, '\0', password.size)))
        return NULL;
    if (password.size > 0)
        memcpy(text, password.data, password.size);
    text[password.size] = '\0';
    if (!user) {
        (void) is_right(nobody, text);
        return NULL;
    }
    sum = sum_of(users, text);
    pthread_mutex_lock(&users->lock);
    is_known = user->known_until_ns > now_ns && user->known_sum == sum;
    pthread_mutex_unlock(&users->lock);
    if (is_known)
        return user;
    if (!is_right(user->hash, text))
        return NULL;
    pthread_mutex_lock(&users->lock);
    user->known_sum = sum;
    user->known_until_ns = now_ns + REMEMBERED_NS;
    pthread_mutex_unlock(&users->lock);
    return user;
}

enum db_role
users_role(const struct user *user, anx_text database)
{
    enum db_role role = ROLE_NONE;

    if (!user)
        return ROLE_OWNER;
    for (const struct grant *grant = user->grants; grant; grant = grant->next)
        if ((strcmp(grant->database, "*") == 0 || anx_text_equal_fold(anx_text_of(grant->database), database))
            && grant->role > role)
            role = grant->role;
    return role;
}

void
users_each_role(const struct user *user, users_role_fn each, void *context)
{
    if (!user)
        each(context, ANX_TEXT("*"), ROLE_OWNER);
    for (const struct grant *grant = user ? user->grants : NULL; grant; grant = grant->next)
        each(context, anx_text_of(grant->database), users_role(user, anx_text_of(grant->database)));
}
