/* Fuzz target: a frame of the binary protocol: its head, its arguments, and a list of precepts. */
#include <stdint.h>

#include "base/error.h"
#include "rpc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char sum = 0;
    struct rpc_head head;
    struct rpc_args args;
    anx_text list[16];
    anx_error err;
    size_t n;

    if (size < RPC_HEAD_SIZE || rpc_head_read(data, &head, &err) != ANX_OK)
        return 0;
    if (rpc_args_read((anx_text){ (const char *) data + RPC_HEAD_SIZE, size - RPC_HEAD_SIZE }, &args, &err) !=
        ANX_OK)
        return 0;
    for (size_t i = 0; i < args.n; i++) {
        anx_text text = args.list[i].text;

        if (args.list[i].type != RPC_STRING)
            continue;
        for (size_t j = 0; j < text.size; j++) /* all of it is there */
            sum = (char) (sum ^ text.data[j]);
        if (rpc_strings_read(text, list, ANX_COUNT_OF(list), &n, &err) == ANX_OK && n > ANX_COUNT_OF(list))
            __builtin_trap();
    }
    __asm__ volatile("" : : "r"(sum)); /* so that the reading is not optimized away */
    return 0;
}
