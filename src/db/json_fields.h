/* Members of a JSON object read into C, with the error texts that clients know from definitions and settings:
 * "<prefix>Can't convert json field 'm' to number". A member that is absent leaves the value as it is.
 *
 *     struct json_fields in = { .object = node, .prefix = "IndexDef: ", .err = err };
 *     fields_text(&in, "name", &def->name);
 *     fields_bool(&in, "is_pk", &def->is_pk);
 *     if (in.status != ANX_OK) return in.status;
 *
 * The first failure latches; later calls do nothing. */
#ifndef ANX_DB_JSON_FIELDS_H
#define ANX_DB_JSON_FIELDS_H

#include "base/error.h"
#include "doc/json.h"

struct json_fields {
    const struct json_node *object;
    const char *prefix; /* of error texts */
    anx_error *err;
    anx_status status; /* ANX_OK until something failed: always ANX_E_PARSE_JSON */
};

/* Each returns whether the member is there (and fine). */
bool fields_text(struct json_fields *in, const char *key, anx_text *out);
bool fields_bool(struct json_fields *in, const char *key, bool *out);
/* "Value of 'm' - 1 is out of bounds: [2,128]" */
bool fields_int(struct json_fields *in, const char *key, int64_t min, int64_t max, int64_t *out);
bool fields_u32(struct json_fields *in, const char *key, uint32_t min, uint32_t max, uint32_t *out);
bool fields_double(struct json_fields *in, const char *key, double *out);
/* An array; NULL when absent. */
const struct json_node *fields_array(struct json_fields *in, const char *key);
const struct json_node *fields_object(struct json_fields *in, const char *key);
/* The prefix and a text. */
void fields_fail(struct json_fields *in, const char *format, ...) ANX_PRINTF(2, 3);
/* The member itself, NULL when absent or after a failure. */
const struct json_node *fields_member(struct json_fields *in, const char *key);

/* An array of texts; the list is in the arena. ANX_E_NOMEM is possible. */
ANX_NODISCARD anx_status fields_texts(struct json_fields *in, const char *key, anx_arena *arena,
                                      const anx_text **out, size_t *n);

#endif
