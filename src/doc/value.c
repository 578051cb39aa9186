/* Values: order and conversions. */
#include "doc/value.h"

#include <math.h>

#include "base/error.h"
#include "doc/doc_int.h"

const char *
field_type_name(enum field_type type)
{
    static const char *const names[FIELD_TYPE_COUNT] = {
        [FIELD_INT] = "int",       [FIELD_INT64] = "int64", [FIELD_DOUBLE] = "double",
        [FIELD_STRING] = "string", [FIELD_BOOL] = "bool",   [FIELD_UUID] = "uuid",
        [FIELD_POINT] = "point",   [FIELD_COMPOSITE] = "composite", [FIELD_FLOAT_VECTOR] = "float_vector",
    };

    return type < FIELD_TYPE_COUNT ? names[type] : "unknown";
}

const char *
value_type_name(enum value_type type)
{
    static const char *const names[] = {
        [VALUE_NULL] = "null",     [VALUE_BOOL] = "bool", [VALUE_INT] = "int64",   [VALUE_DOUBLE] = "double",
        [VALUE_STRING] = "string", [VALUE_UUID] = "uuid", [VALUE_TUPLE] = "tuple",
    };

    return (size_t) type < ANX_COUNT_OF(names) ? names[type] : "unknown";
}

/* ---- UUIDs ---- */

bool
uuid_parse(anx_text text, uint8_t out[16])
{
    bool has_dashes = text.size == 36;
    size_t n = 0;

    if (!has_dashes && text.size != 32)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        int digit;

        if (has_dashes && (i == 8 || i == 13 || i == 18 || i == 23)) {
            if (text.data[i] != '-')
                return false;
            continue;
        }
        digit = anx_hex_digit(text.data[i]);
        if (digit < 0)
            return false;
        out[n / 2] = (uint8_t) (n % 2 == 0 ? digit << 4 : out[n / 2] | digit);
        n++;
    }
    return true;
}

void
uuid_print(const uint8_t uuid[16], char out[36])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[uuid[i] >> 4];
        *out++ = digits[uuid[i] & 15];
    }
}

/* ---- Order ---- */

static int
compare_integers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

/* NaN before every number, equal to itself. */
static int
compare_reals(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (isnan(b) != 0) - (isnan(a) != 0);
    return a < b ? -1 : a > b;
}

/* Exact: a double of this size has no room for the low bits of the integer. */
static int
compare_integer_real(int64_t a, double b)
{
    int64_t whole;

    if (isnan(b))
        return 1;
    if (b >= 0x1p63)
        return -1;
    if (b < -0x1p63)
        return 1;
    whole = (int64_t) b;
    return a != whole ? compare_integers(a, whole) : compare_reals(0, b - (double) whole);
}

static bool
is_number(const struct value *value)
{
    return value->type == VALUE_INT || value->type == VALUE_DOUBLE || value->type == VALUE_BOOL;
}

static int
compare_numbers(const struct value *a, const struct value *b)
{
    int64_t x = a->type == VALUE_BOOL ? a->boolean : a->integer;
    int64_t y = b->type == VALUE_BOOL ? b->boolean : b->integer;

    if (a->type == VALUE_DOUBLE)
        return b->type == VALUE_DOUBLE ? compare_reals(a->real, b->real) : -compare_integer_real(y, a->real);
    return b->type == VALUE_DOUBLE ? compare_integer_real(x, b->real) : compare_integers(x, y);
}

static int
compare_tuples(const struct values *a, const struct values *b, const struct collation *collation,
               bool *comparable)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        int order = value_compare(&a->items[i], &b->items[i], collation, comparable);

        if (order != 0 || !*comparable)
            return order;
    }
    return a->n < b->n ? -1 : a->n > b->n;
}

static anx_text
trim(anx_text text)
{
    while (text.size > 0 && strchr(" \t\r\n", text.data[0]) != NULL && text.data[0] != '\0') {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && strchr(" \t\r\n", text.data[text.size - 1]) && text.data[text.size - 1] != '\0')
        text.size--;
    return text;
}

static bool
read_number(anx_text text, struct value *out)
{
    text = trim(text);
    out->type = VALUE_INT;
    if (number_parse_int(text, &out->integer))
        return true;
    out->type = VALUE_DOUBLE;
    return number_parse_double(text, &out->real);
}

static int
compare_text_uuid(anx_text text, const uint8_t uuid[16])
{
    uint8_t bytes[16];
    char printed[36];

    if (uuid_parse(text, bytes))
        return memcmp(bytes, uuid, sizeof(bytes));
    uuid_print(uuid, printed);
    return text_compare(text, (anx_text) { printed, sizeof(printed) }, NULL);
}

int
value_compare(const struct value *a, const struct value *b, const struct collation *collation,
              bool *comparable)
{
    struct value number;

    *comparable = true;
    if (a->type == VALUE_NULL || b->type == VALUE_NULL)
        return (a->type != VALUE_NULL) - (b->type != VALUE_NULL);
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b);
    if (a->type == VALUE_STRING && b->type == VALUE_STRING)
        return text_compare(a->text, b->text, collation);
    if (a->type == VALUE_UUID && b->type == VALUE_UUID)
        return memcmp(a->uuid, b->uuid, sizeof(a->uuid));
    if (a->type == VALUE_TUPLE && b->type == VALUE_TUPLE)
        return compare_tuples(&a->tuple, &b->tuple, collation, comparable);
    if (a->type == VALUE_STRING && b->type == VALUE_UUID)
        return compare_text_uuid(a->text, b->uuid);
    if (a->type == VALUE_UUID && b->type == VALUE_STRING)
        return -compare_text_uuid(b->text, a->uuid);
    if (a->type == VALUE_STRING && is_number(b) && b->type != VALUE_BOOL && read_number(a->text, &number))
        return compare_numbers(&number, b);
    if (b->type == VALUE_STRING && is_number(a) && a->type != VALUE_BOOL && read_number(b->text, &number))
        return compare_numbers(a, &number);
    *comparable = false;
    return a->type < b->type ? -1 : 1;
}

/* ---- Conversions ---- */

static anx_status
fail_convert(const struct value *in, enum field_type type, anx_error *err)
{
    const char *from = value_type_name(in->type);

    return anx_fail(err, ANX_E_PARAMS, "Can't convert value of type '%s' to type '%s'", from,
                    field_type_name(type));
}

static anx_status
to_integer(const struct value *in, enum field_type type, struct value *out, anx_error *err)
{
    int64_t result;

    switch (in->type) {
    case VALUE_BOOL:
        result = in->boolean;
        break;
    case VALUE_INT:
        result = in->integer;
        break;
    case VALUE_DOUBLE: /* what an integer cannot hold stays at the nearest one */
        result = isnan(in->real)          ? 0
                 : in->real >= 0x1p63     ? INT64_MAX
                 : in->real < -0x1p63     ? INT64_MIN
                                          : (int64_t) in->real;
        break;
    case VALUE_STRING:
        if (!number_parse_int(trim(in->text), &result))
            return anx_fail(err, ANX_E_PARAMS, "Can't convert '%.*s' to number", ANX_TEXT_ARG(in->text));
        break;
    default:
        return fail_convert(in, type, err);
    }
    *out = (struct value) { .type = VALUE_INT, .integer = result };
    return ANX_OK;
}

static anx_status
to_real(const struct value *in, struct value *out, anx_error *err)
{
    double result = 0;
    anx_text text;

    switch (in->type) {
    case VALUE_BOOL:
        result = in->boolean;
        break;
    case VALUE_INT:
        result = (double) in->integer;
        break;
    case VALUE_DOUBLE:
        result = in->real;
        break;
    case VALUE_STRING:
        text = trim(in->text);
        if (text.size > 0 && !number_parse_double(text, &result))
            return anx_fail(err, ANX_E_PARAMS, "Can't convert '%.*s' to number", ANX_TEXT_ARG(in->text));
        break;
    default:
        return fail_convert(in, FIELD_DOUBLE, err);
    }
    *out = (struct value) { .type = VALUE_DOUBLE, .real = result };
    return ANX_OK;
}

static anx_status
to_boolean(const struct value *in, struct value *out, anx_error *err)
{
    struct value number = { .type = VALUE_INT };
    bool result;

    switch (in->type) {
    case VALUE_BOOL:
        result = in->boolean;
        break;
    case VALUE_INT:
        result = in->integer != 0;
        break;
    case VALUE_DOUBLE:
        result = in->real != 0;
        break;
    case VALUE_STRING:
        if (anx_text_equal_fold(in->text, ANX_TEXT("true")))
            result = true;
        else if (anx_text_equal_fold(in->text, ANX_TEXT("false")))
            result = false;
        else if (read_number(in->text, &number))
            result = number.type == VALUE_INT ? number.integer != 0 : number.real != 0;
        else
            return anx_fail(err, ANX_E_PARAMS, "Can't convert '%.*s' to bool", ANX_TEXT_ARG(in->text));
        break;
    default:
        return fail_convert(in, FIELD_BOOL, err);
    }
    *out = (struct value) { .type = VALUE_BOOL, .boolean = result };
    return ANX_OK;
}

static anx_status
to_text(const struct value *in, anx_arena *arena, struct value *out, anx_error *err)
{
    char number[NUMBER_TEXT_MAX];
    char uuid[36];
    anx_text text;

    switch (in->type) {
    case VALUE_STRING:
        *out = *in;
        return ANX_OK;
    case VALUE_BOOL:
        text = in->boolean ? ANX_TEXT("true") : ANX_TEXT("false");
        break;
    case VALUE_INT:
        text = (anx_text) { number, number_print_int(number, in->integer) };
        break;
    case VALUE_DOUBLE:
        text = (anx_text) { number, number_print_double(number, in->real) };
        break;
    case VALUE_UUID:
        uuid_print(in->uuid, uuid);
        text = (anx_text) { uuid, sizeof(uuid) };
        break;
    default:
        return fail_convert(in, FIELD_STRING, err);
    }
    text = anx_arena_text(arena, text);
    if (!text.data)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    *out = (struct value) { .type = VALUE_STRING, .text = text };
    return ANX_OK;
}

static anx_status
to_uuid(const struct value *in, struct value *out, anx_error *err)
{
    struct value result = { .type = VALUE_UUID };

    if (in->type == VALUE_UUID) {
        *out = *in;
        return ANX_OK;
    }
    if (in->type != VALUE_STRING)
        return fail_convert(in, FIELD_UUID, err);
    if (!uuid_parse(in->text, result.uuid))
        return anx_fail(err, ANX_E_NOT_VALID, "UUID should consist of 32 hexadecimal digits: '%.*s'",
                        ANX_TEXT_ARG(in->text));
    *out = result;
    return ANX_OK;
}

anx_status
value_convert(const struct value *in, enum field_type type, anx_arena *arena, struct value *out,
              anx_error *err)
{
    if (in->type == VALUE_NULL) {
        *out = *in;
        return ANX_OK;
    }
    switch (type) {
    case FIELD_INT:
    case FIELD_INT64:
        return to_integer(in, type, out, err);
    case FIELD_DOUBLE:
        return to_real(in, out, err);
    case FIELD_BOOL:
        return to_boolean(in, out, err);
    case FIELD_STRING:
        return to_text(in, arena, out, err);
    case FIELD_UUID:
        return to_uuid(in, out, err);
    case FIELD_POINT:     /* conditions on them take values as they are */
    case FIELD_COMPOSITE: /* who knows the components converts the items */
    case FIELD_FLOAT_VECTOR:
    case FIELD_TYPE_COUNT:
        break;
    }
    *out = *in;
    return ANX_OK;
}
