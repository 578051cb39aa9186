/* CJSON: documents as the binary protocol carries them: a tree of tagged values whose field names are numbers
 * of the namespace's dictionary. Vectors are runs of raw floats in both directions.
 *
 * Layout (numbers little-endian; a varint is LEB128, a zigzag varint has its sign in the lowest bit):
 *
 *     document  tag(OBJECT, 0) member... tag(END)
 *     member    tag(type, name) value
 *     tag       varint of  type & 7 | name << 3 | (field + 1) << 15 | (type >> 3) << 29;  field is never set
 * here value     VARINT zigzag; DOUBLE 8 bytes; STRING varint size, bytes; BOOL varint; NULL nothing; ARRAY 4
 * bytes (count | type << 24), then bare values of that type, or for OBJECT a tag (without name) and value
 * each; OBJECT members and END; UUID two 8-byte halves; FLOAT 4 bytes bundle    tag(END), 4 bytes offset of
 * the dictionary from here, document, dictionary dictionary varint count, then names: varint size, bytes; the
 * first has number 1
 */
#ifndef ANX_DOC_CJSON_H
#define ANX_DOC_CJSON_H

#include "base/bytes.h"
#include "doc/json.h"

enum cjson_type {
    CJSON_VARINT,
    CJSON_DOUBLE,
    CJSON_STRING,
    CJSON_BOOL,
    CJSON_NULL,
    CJSON_ARRAY,
    CJSON_OBJECT,
    CJSON_END,
    CJSON_UUID,
    CJSON_FLOAT,
    CJSON_TYPE_COUNT
};
enum { CJSON_NAME_MAX = 4095, CJSON_COUNT_MAX = (1 << 24) - 1 };

/* Appends the document with the members that the projection shows (NULL: all). out->failed says whether there
 * was room. False: a member's name has a number above CJSON_NAME_MAX, or an array has too many elements; what
 * was written is then useless. */
ANX_NODISCARD bool cjson_print_doc(anx_buffer *out, struct doc doc, const struct doc_projection *projection,
                                   doc_vectors_fn vectors, void *context);
/* ANX_E_LIMIT for the false above. */
anx_status cjson_fail_limit(const struct doc_names *names, anx_error *err);
/* All names of a dictionary that there are now, up to `count`. */
void cjson_print_names(anx_buffer *out, const struct doc_names *names, uint32_t count);

struct cjson_reader;
struct cjson_reader *cjson_reader_create(void); /* NULL: out of memory */
void cjson_reader_destroy(struct cjson_reader *reader); /* NULL is fine */
/* Does the item bring its own dictionary? */
static inline bool
cjson_is_bundle(anx_text item)
{
    return item.size > 0 && item.data[0] == CJSON_END;
}
/* One document. Without a dictionary of its own its numbers are those of `names`; the names that a document
 * uses enter the dictionary. Errors: ANX_E_PARSE_BIN (malformed), ANX_E_TAGS (a number that the dictionary
 * does not have), and those of json_read_doc for values that indexes do not take.
 * Threads: a reader is used by one thread at a time. */
ANX_NODISCARD anx_status cjson_read_doc(struct cjson_reader *reader, anx_text item, struct doc_names *names,
                                        const struct doc_shape *shape, anx_arena *arena,
                                        struct doc_draft *out, anx_error *err);

#endif
