/* Finds and opens the module of a peer: where ANX_PEER_DIR (the environment) says, or beside the program as
 * the build tree has it. Modules are not installed: they are built for one machine's CPU. */
#include "bench/peer.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of the running program, or an empty text. */
static void
program_dir(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    char *slash;

    out[n > 0 ? n : 0] = '\0';
    slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
    else
        out[0] = '\0';
}

static void *
open_in(const char *dir, const char *below, const char *name)
{
    char path[PATH_MAX + 64];
    int n = snprintf(path, sizeof(path), "%s%s/annex-peer-%s.so", dir, below, name);

    if (dir[0] == '\0' || n < 0 || (size_t) n >= sizeof(path) || access(path, R_OK) != 0)
        return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

const struct peer_ops *
peer_open(const char *name, char *message, size_t message_size)
{
    char dir[PATH_MAX];
    const char *from_env = getenv("ANX_PEER_DIR");
    void *module;
    peer_entry_fn entry;
    const struct peer_ops *ops;
    void *symbol;

    program_dir(dir, sizeof(dir));
    module = from_env ? open_in(from_env, "", name) : open_in(dir, "/bench", name);
    symbol = module ? dlsym(module, PEER_ENTRY) : NULL;
    if (!symbol) {
        const char *why = dlerror();

        snprintf(message, message_size, "peer \"%s\" is not there (%s); build with its library installed",
                 name, why ? why : "no module beside the program");
        return NULL;
    }
    memcpy(&entry, &symbol, sizeof(entry)); /* ISO C has no cast from data to function */
    ops = entry();
    if (ops->abi != PEER_ABI) {
        snprintf(message, message_size, "peer \"%s\" was built for another version of annex", name);
        return NULL;
    }
    return ops;
}
