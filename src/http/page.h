/* The web console's page, made a part of the program by web/embed. */
#ifndef ANX_HTTP_PAGE_H
#define ANX_HTTP_PAGE_H

#include <stddef.h>

/* Everything is constant and lives as long as the program. */
struct http_page {
    const unsigned char *plain; /* [plain_size] */
    size_t plain_size;
    const unsigned char *gzipped; /* [gzipped_size] */
    size_t gzipped_size;
    const char *etag;   /* weak: the same for both forms, which differ in their coding */
    const char *policy; /* value of Content-Security-Policy */
};
extern const struct http_page http_console_page;

#endif
