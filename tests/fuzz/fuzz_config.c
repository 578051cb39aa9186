/* Fuzz target: settings of every kind. The first byte chooses, the rest is the text:
 *
 *     0 the YAML file of annex serve     1 users.yml     2 a document of #config
 *
 *     3 the JSON of an index             4 a precept */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/serve_config.h"
#include "db/config.h"
#include "db/index_def.h"
#include "db/precept.h"
#include "db/users.h"
#include "doc/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct engine *engine;
static struct database *db;
static char folder[] = "/dev/shm/annex-fuzz-XXXXXX";

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static void
stop(void)
{
    char name[64];

    database_release(db);
    engine_close(engine);
    snprintf(name, sizeof(name), "%s/users.yml", folder);
    (void) unlink(name);
    (void) rmdir(folder);
}

static void
start(void)
{
    struct engine_params params = { .path = NULL, .n_thread = 1 };
    struct db_session session = { .role = ROLE_OWNER };
    anx_error err;

    must(engine_open(&params, &engine, &err) == ANX_OK);
    must(engine_database_create(engine, ANX_TEXT("d"), &session, &err) == ANX_OK);
    must(database_acquire(engine, ANX_TEXT("d"), &db, &err) == ANX_OK);
    must(mkdtemp(folder) != NULL);
    atexit(stop);
}

static void
read_yaml(anx_text text)
{
    struct serve_config config;
    char path[64], name[] = "serve", option[] = "--config";
    char *argv[] = { name, option, path };
    int fd = memfd_create("config", 0);

    must(fd >= 0 && write(fd, text.data, text.size) == (ssize_t) text.size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    (void) serve_config_read(3, argv, &config);
    serve_config_free(&config);
    close(fd);
}

static void
read_users(anx_text text)
{
    struct users *users;
    char name[64];
    FILE *file;
    anx_error err;

    snprintf(name, sizeof(name), "%s/users.yml", folder);
    file = fopen(name, "wb");
    must(file && fwrite(text.data, 1, text.size, file) == text.size && fclose(file) == 0);
    if (users_open(folder, &users, &err) == ANX_OK)
        users_close(users);
    else
        must(err.message[0] != '\0');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anx_text text = { (const char *) data + 1, size - 1 };
    struct precept *precepts;
    struct json_node *node;
    struct index_def def;
    anx_arena *arena;
    anx_error err = { 0 };
    anx_status st = ANX_OK;

    if (!db)
        start();
    if (size == 0)
        return 0;
    arena = anx_arena_create(NULL, 64 << 20);
    must(arena != NULL);
    switch (data[0] % 5) {
    case 0: read_yaml(text); break;
    case 1: read_users(text); break;
    case 2:
        st = config_check(db, text, &err);
        if (st == ANX_OK)
            st = config_apply(db, text, &err);
        break;
    case 3:
        st = json_parse(text, arena, &node, &err);
        if (st == ANX_OK)
            st = index_def_read(node, arena, &def, &err);
        if (st == ANX_OK)
            st = index_def_check(&def, "add", ANX_TEXT("n"), &err);
        break;
    default: st = precepts_read(&text, 1, arena, &precepts, &err); break;
    }
    must(st == ANX_OK || err.message[0] != '\0');
    anx_arena_destroy(arena);
    return 0;
}
