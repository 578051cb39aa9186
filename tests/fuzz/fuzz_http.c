/* Fuzz target: what we read of an HTTP request ourselves: target, form parameters, addresses. (Heads and
 * framing are libevent's.) The input is the target, a zero byte, the form. */
#include <stdint.h>
#include <stdio.h>

#include "http/http_int.h"
#include "net/listen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    size_t head = zero ? (size_t) (zero - data) : size;
    struct http_request request = { 0 };
    anx_text form = { zero ? (const char *) zero + 1 : NULL, zero ? size - head - 1 : 0 };
    char host[32], address[128];
    uint16_t port;
    anx_error err;
    size_t number;
    int order;

    request.arena = anx_arena_create(NULL, 1 << 20);
    request.method = (enum http_verb)(size % VERB_COUNT);
    if (http_request_parse(&request, (anx_text) { (const char *) data, head }, form, &err) == ANX_OK) {
        const struct http_route *route = http_route_find(&request);

        if (route && route->has_db && !request.names[0].data)
            __builtin_trap(); /* such a handler is given a database's name */
        if (http_param_size(&request, "limit", 1, &number, &err) != ANX_OK && err.message[0] == '\0')
            __builtin_trap();
        if (http_param_order(&request, &order, &err) != ANX_OK && err.message[0] == '\0')
            __builtin_trap();
        if (http_check_format(&request, &err) != ANX_OK && err.message[0] == '\0')
            __builtin_trap();
    }
    snprintf(address, sizeof(address), "%.*s", (int) (head < 100 ? head : 100), (const char *) data);
    if (anx_address_parse(address, host, sizeof(host), &port, &err) == ANX_OK &&
        strlen(host) >= sizeof(host))
        __builtin_trap();
    anx_arena_destroy(request.arena);
    return 0;
}
