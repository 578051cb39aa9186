/* Values and names in SQL. What is printed is read as the same value again. */
#include "doc/json.h"
#include "query/sql/sql_int.h"

void
sql_print_name(anx_text name, anx_buffer *out)
{
    bool is_bare = is_sql_name(name) && !is_sql_keyword(name);

    if (!is_bare)
        anx_buffer_char(out, '"');
    anx_buffer_text(out, name);
    if (!is_bare)
        anx_buffer_char(out, '"');
}

/* A namespace, and a path behind SELECT, may also be written as a string, and is when it could not stand in
 * double quotes. */
void
sql_print_ns(anx_text ns, anx_buffer *out)
{
    if (ns.size == 0 || is_sql_quotable(ns))
        sql_print_name(ns, out);
    else
        sql_print_string(ns, out);
}

void
sql_print_string(anx_text text, anx_buffer *out)
{
    static const char plain[] = "\n\r\t\b\f\\'", escaped[] = "nrtbf\\'";

    anx_buffer_char(out, '\'');
    for (size_t i = 0; i < text.size; i++) {
        const char *found = text.data[i] ? strchr(plain, text.data[i]) : NULL;

        if (found) {
            anx_buffer_char(out, '\\');
            anx_buffer_char(out, escaped[found - plain]);
        } else {
            anx_buffer_char(out, text.data[i]);
        }
    }
    anx_buffer_char(out, '\'');
}

/* "5.0" reads as an integer and so becomes "5"; what has too many digits for one becomes "5...e0". */
void
sql_print_double(double value, anx_buffer *out)
{
    enum { INTEGER_DIGITS = 18 };
    size_t start = out->size, size;

    if (value == 0)
        anx_buffer_char(out, '0'); /* also minus zero: SQL has none */
    else
        json_print_double(out, value);
    size = out->size - start;
    if (out->failed || size < 2 || memcmp(out->data + out->size - 2, ".0", 2) != 0)
        return;
    if (size <= INTEGER_DIGITS)
        out->size -= 2;
    else
        memcpy(out->data + out->size - 2, "e0", 2);
}

static void
print_tuple(const struct values *values, anx_buffer *out)
{
    anx_buffer_char(out, '{');
    for (size_t i = 0; i < values->n; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        sql_print_value(&values->items[i], false, out);
    }
    anx_buffer_char(out, '}');
}

void
sql_print_value(const struct value *value, bool normalized, anx_buffer *out)
{
    char uuid[36];

    if (normalized) {
        anx_buffer_char(out, '?');
        return;
    }
    switch (value->type) {
    case VALUE_NULL:
        anx_buffer_text(out, ANX_TEXT("NULL"));
        break;
    case VALUE_BOOL:
        anx_buffer_text(out, value->boolean ? ANX_TEXT("true") : ANX_TEXT("false"));
        break;
    case VALUE_INT:
        json_print_int(out, value->integer);
        break;
    case VALUE_DOUBLE:
        sql_print_double(value->real, out);
        break;
    case VALUE_STRING:
        sql_print_string(value->text, out);
        break;
    case VALUE_UUID:
        uuid_print(value->uuid, uuid);
        sql_print_string((anx_text) { uuid, sizeof(uuid) }, out);
        break;
    case VALUE_TUPLE:
        print_tuple(&value->tuple, out);
        break;
    }
}
