/* The one C++ file of the tree: JSON documents by simdjson's on-demand reader, and numbers as text.
 *
 * Where a document of a sequence ends is found first, by counting braces outside of strings: so an error
 * concerns one document, the ones before it are done, and memory follows the largest document and not the
 * body. The document is then read once, from the text itself when enough bytes follow it (the reader looks
 * ahead up to SIMDJSON_PADDING bytes), else from a copy. */
#include <simdjson.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <new>

#define _Noreturn [[noreturn]] /* base/error.h is C */
extern "C" {
#include "base/alloc.h"
#include "base/error.h"
}
#include "doc/doc_build.h"
#include "doc/doc_int.h"
#include "doc/json.h"
#include "doc/json_scan.h"

namespace ondemand = simdjson::ondemand;

namespace {

/* The shortest digits of a positive finite number and the power of ten of the first one: 1234 and 1
 * are 12.34. */
struct digits {
    char text[24];
    int n, exponent;
};

template <typename real>
digits
digits_of(real value)
{
    char raw[40];
    auto end = std::to_chars(raw, raw + sizeof(raw), value, std::chars_format::scientific).ptr;
    digits out {};
    const char *p = raw;

    for (; p < end && *p != 'e'; p++)
        if (*p != '.')
            out.text[out.n++] = *p;
    if (p < end)
        p++;
    if (p < end && *p == '+')
        p++;
    std::from_chars(p, end, out.exponent);
    return out;
}

char *
put_exponent(char *out, int exponent)
{
    *out++ = 'e';
    *out++ = exponent < 0 ? '-' : '+';
    exponent = exponent < 0 ? -exponent : exponent;
    if (exponent < 10)
        *out++ = '0';
    return std::to_chars(out, out + 4, exponent).ptr;
}

char *
put_digits(char *out, const digits &d)
{
    if (d.exponent < -4 || d.exponent >= 16) {
        *out++ = d.text[0];
        if (d.n > 1) {
            *out++ = '.';
            std::memcpy(out, d.text + 1, static_cast<size_t>(d.n) - 1);
            out += d.n - 1;
        }
        return put_exponent(out, d.exponent);
    }
    if (d.exponent < 0) {
        *out++ = '0';
        *out++ = '.';
        for (int i = d.exponent + 1; i < 0; i++)
            *out++ = '0';
        std::memcpy(out, d.text, static_cast<size_t>(d.n));
        return out + d.n;
    }
    for (int i = 0; i <= d.exponent; i++)
        *out++ = i < d.n ? d.text[i] : '0';
    *out++ = '.';
    if (d.n <= d.exponent + 1) {
        *out++ = '0';
        return out;
    }
    std::memcpy(out, d.text + d.exponent + 1, static_cast<size_t>(d.n - d.exponent - 1));
    return out + (d.n - d.exponent - 1);
}

/* Integers of this size are their own shortest digits, and the most frequent reals. */
template <typename real>
size_t
print_real(char *out, real value, real largest_plain)
{
    char *p = out;

    if (!std::isfinite(value)) {
        std::memcpy(out, "null", 4);
        return 4;
    }
    if (std::signbit(value)) {
        *p++ = '-';
        value = -value;
    }
    if (value < largest_plain && value == std::trunc(value)) {
        p = std::to_chars(p, p + 20, static_cast<int64_t>(value)).ptr;
        *p++ = '.';
        *p++ = '0';
    } else if (value >= real(1e-4) && value < largest_plain) { /* a fraction: the digits stand as they are */
        p = std::to_chars(p, out + NUMBER_TEXT_MAX, value, std::chars_format::fixed).ptr;
    } else {
        p = put_digits(p, digits_of(value));
    }
    return static_cast<size_t>(p - out);
}

}

size_t
number_print_double(char *out, double value)
{
    return print_real(out, value, 0x1p53);
}

size_t
number_print_float(char *out, float value)
{
    return print_real(out, value, 0x1p24f);
}

size_t
number_print_int(char *out, int64_t value)
{
    return static_cast<size_t>(std::to_chars(out, out + NUMBER_TEXT_MAX, value).ptr - out);
}

namespace {

/* Of a number that a double cannot hold: is it too small rather than too large? */
bool
is_tiny(const char *p, const char *end)
{
    std::string_view text(p, static_cast<size_t>(end - p));
    size_t exponent = text.find_first_of("eE");

    if (exponent != text.npos)
        return exponent + 1 < text.size() && text[exponent + 1] == '-';
    return text.substr(0, 2) == "0." || text.substr(0, 3) == "-0.";
}

}

bool
number_parse_double(anx_text text, double *out)
{
    const char *end = text.data + text.size;
    double value = 0;

    if (text.size > 1 && text.data[0] == '+' && text.data[1] != '-')
        text.data++;
    auto result = std::from_chars(text.data, end, value);
    if (result.ec == std::errc::result_out_of_range && is_tiny(text.data, end))
        value = 0;
    else if (result.ec != std::errc())
        return false;
    if (result.ptr != end || !std::isfinite(value))
        return false;
    *out = value;
    return true;
}

bool
number_parse_int(anx_text text, int64_t *out)
{
    const char *end = text.data + text.size;
    int64_t value = 0;

    if (text.size > 1 && text.data[0] == '+' && text.data[1] != '-')
        text.data++;
    auto result = std::from_chars(text.data, end, value);
    if (result.ec != std::errc() || result.ptr != end)
        return false;
    *out = value;
    return true;
}

/* ---- Reading a document ---- */

struct json_reader {
    ondemand::parser parser {};
    doc_builder builder {};
    char *padded = nullptr; /* owned */
    size_t padded_size = 0;
};

namespace {

/* A reader that met a document of this size gives the memory back. */
constexpr size_t keep_size = size_t { 16 } << 20;

const char *
error_text(simdjson::error_code code)
{
    switch (code) {
    case simdjson::STRING_ERROR:
    case simdjson::UNCLOSED_STRING:
    case simdjson::UNESCAPED_CHARS:
    case simdjson::UTF8_ERROR:
        return "bad string";
    case simdjson::NUMBER_ERROR:
    case simdjson::NUMBER_OUT_OF_RANGE:
        return "bad number";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
    case simdjson::INCORRECT_TYPE:
        return "bad identifier";
    default:
        return "breaking bad";
    }
}

/* One document being read. Functions return ANX_OK or fill err. */
struct reading {
    doc_builder *builder;
    ondemand::document *document;
    const char *start, *stop; /* of the document's text */
    anx_error *err;

    anx_status
    fail(simdjson::error_code code) const
    {
        const char *where = start;

        if (code == simdjson::MEMALLOC)
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        if (!document || document->current_location().get(where) != simdjson::SUCCESS)
            where = start;
        return anx_fail(err, ANX_E_PARSE_JSON,
                        "Error parsing json: 'Error parsing json: %s, pos %zu', pos: 0", error_text(code),
                        static_cast<size_t>(where - start));
    }

    anx_status
    scalar(ondemand::value &in, ondemand::json_type type) const
    {
        struct value out {};
        std::string_view text;
        bool is_null = false;
        simdjson::error_code code;

        switch (type) {
        case ondemand::json_type::number: /* not taken from `in`: whoever iterates skips it */
            code = scan_number(in.raw_json_token().data(), &out) ? simdjson::SUCCESS : simdjson::NUMBER_ERROR;
            break;
        case ondemand::json_type::string:
            out.type = VALUE_STRING;
            code = in.get_string().get(text);
            out.text = anx_text { text.data(), text.size() };
            break;
        case ondemand::json_type::boolean:
            out.type = VALUE_BOOL;
            code = in.get_bool().get(out.boolean);
            break;
        default:
            out.type = VALUE_NULL;
            code = in.is_null().get(is_null);
            if (code == simdjson::SUCCESS && !is_null)
                code = simdjson::N_ATOM_ERROR;
            break;
        }
        return code == simdjson::SUCCESS ? build_value(builder, &out, err) : fail(code);
    }

    static const char *
    type_text(ondemand::json_type type)
    {
        switch (type) {
        case ondemand::json_type::array:
            return "ARRAY";
        case ondemand::json_type::object:
            return "OBJECT";
        case ondemand::json_type::string:
            return "STRING";
        case ondemand::json_type::boolean:
            return "BOOL";
        default:
            return "NULL";
        }
    }

    /* An array of numbers from its first element on, straight into a row of floats. What the quick scan does
     * not like is read again element by element, which finds the error. */
    anx_status components(ondemand::array_iterator &at, ondemand::array_iterator &end, const char *first,
                          float *row) const
    {
        const uint32_t dim = build_vector_dim(builder);
        uint32_t n = scan_floats(first, stop, row, dim);

        if (n > 0) { /* what was not visited is skipped by the next step of whoever iterates */
            build_vector_count(builder, n);
            return ANX_OK;
        }
        for (; at != end; ++at) {
            ondemand::value in;
            ondemand::json_type type;
            double component;
            simdjson::error_code code = (*at).get(in);

            if (code == simdjson::SUCCESS)
                code = in.type().get(type);
            if (code != simdjson::SUCCESS)
                return fail(code);
            if (type != ondemand::json_type::number)
                return build_fail_component(builder, type_text(type), err);
            code = in.get_double().get(component);
            if (code != simdjson::SUCCESS)
                return fail(code);
            if (n < dim)
                row[n] = static_cast<float>(component);
            n++;
        }
        build_vector_count(builder, n);
        return ANX_OK;
    }

    anx_status
    elements(ondemand::array &in) const
    {
        ondemand::array_iterator at, end;
        simdjson::error_code code = in.begin().get(at);
        bool is_first = true;

        if (code == simdjson::SUCCESS)
            code = in.end().get(end);
        if (code != simdjson::SUCCESS)
            return fail(code);
        for (; at != end; ++at) {
            ondemand::value element;
            ondemand::json_type type;
            anx_status st = ANX_OK;

            code = (*at).get(element);
            if (code == simdjson::SUCCESS)
                code = element.type().get(type);
            if (code != simdjson::SUCCESS)
                return fail(code);
            if (is_first && type == ondemand::json_type::number) {
                float *row = build_vector_room(builder, err, &st);

                if (row)
                    return components(at, end, element.raw_json_token().data(), row);
            }
            if (st == ANX_OK)
                st = any(element, type);
            if (st != ANX_OK)
                return st;
            is_first = false;
        }
        return ANX_OK;
    }

    anx_status
    members(ondemand::object &in) const
    {
        for (auto field : in) {
            std::string_view key;
            ondemand::value value;
            ondemand::json_type type;
            anx_status st;
            simdjson::error_code code = field.unescaped_key().get(key);

            if (code == simdjson::SUCCESS)
                code = field.value().get(value);
            if (code == simdjson::SUCCESS)
                code = value.type().get(type);
            if (code != simdjson::SUCCESS)
                return fail(code);
            st = build_key(builder, anx_text { key.data(), key.size() }, err);
            if (st == ANX_OK)
                st = any(value, type);
            if (st != ANX_OK)
                return st;
        }
        return ANX_OK;
    }

    anx_status
    any(ondemand::value &in, ondemand::json_type type) const
    {
        ondemand::array array;
        ondemand::object object;
        simdjson::error_code code;
        anx_status st;

        if (type == ondemand::json_type::array) {
            st = build_begin_array(builder, err);
            if (st != ANX_OK)
                return st;
            code = in.get_array().get(array);
            if (code != simdjson::SUCCESS)
                return fail(code);
            st = elements(array);
        } else if (type == ondemand::json_type::object) {
            st = build_begin_object(builder, err);
            if (st != ANX_OK)
                return st;
            code = in.get_object().get(object);
            if (code != simdjson::SUCCESS)
                return fail(code);
            st = members(object);
        } else {
            return scalar(in, type);
        }
        return st == ANX_OK ? build_end(builder, err) : st;
    }
};

/* The text with room to look ahead behind it, or NULL. */
const char *
with_padding(json_reader *reader, const char *start, size_t size, size_t behind)
{
    size_t needed = size + simdjson::SIMDJSON_PADDING;

    if (behind >= simdjson::SIMDJSON_PADDING)
        return start;
    if (needed > reader->padded_size) {
        anx_free(nullptr, reader->padded);
        reader->padded = static_cast<char *>(anx_alloc_bytes(nullptr, needed * 2));
        reader->padded_size = reader->padded ? needed * 2 : 0;
        if (!reader->padded)
            return nullptr;
    }
    std::memcpy(reader->padded, start, size);
    std::memset(reader->padded + size, ' ', simdjson::SIMDJSON_PADDING);
    return reader->padded;
}

void
give_back(json_reader *reader)
{
    reader->parser = ondemand::parser();
    anx_free(nullptr, reader->padded);
    reader->padded = nullptr;
    reader->padded_size = 0;
}

/* The document at start, of `size` bytes; `behind` more can be read. */
anx_status
read_document(json_reader *reader, const char *start, size_t size, size_t behind, anx_error *err)
{
    const char *padded = with_padding(reader, start, size, behind);
    reading in { &reader->builder, nullptr, padded, padded + size, err };
    ondemand::document document;
    ondemand::object root;
    simdjson::error_code code;

    if (!padded)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    code = reader->parser.iterate(padded, size, size + simdjson::SIMDJSON_PADDING).get(document);
    if (code != simdjson::SUCCESS)
        return in.fail(code);
    in.document = &document;
    code = document.get_object().get(root);
    if (code != simdjson::SUCCESS)
        return in.fail(code);
    return in.members(root);
}

}

struct json_reader *
json_reader_create(void)
{
    void *memory = anx_alloc_zeroed(nullptr, 1, sizeof(json_reader));
    json_reader *reader = memory ? new (memory) json_reader() : nullptr;

    if (reader)
        build_init(&reader->builder, nullptr);
    return reader;
}

void
json_reader_destroy(struct json_reader *reader)
{
    if (!reader)
        return;
    build_fini(&reader->builder);
    anx_free(nullptr, reader->padded);
    reader->~json_reader();
    anx_free(nullptr, reader);
}

anx_status
json_read_doc(struct json_reader *reader, anx_text text, size_t *at, bool *more, struct doc_names *names,
              const struct doc_shape *shape, anx_arena *arena, struct doc_draft *out, anx_error *err)
{
    size_t start = *at;
    size_t end;
    anx_status st;

    while (start < text.size && json_is_space(text.data[start]))
        start++;
    *more = start < text.size;
    if (!*more) {
        *at = start;
        return ANX_OK;
    }
    if (text.data[start] != '{')
        return anx_fail(err, ANX_E_PARSE_JSON, "Expected json object");
    end = static_cast<size_t>(scan_object(text.data + start, text.data + text.size) - text.data);
    st = build_begin(&reader->builder, names, shape, arena, "json", err);
    if (st == ANX_OK)
        st = read_document(reader, text.data + start, end - start, text.size - end, err);
    if (st == ANX_OK)
        st = build_finish(&reader->builder, out, err);
    if (end - start > keep_size)
        give_back(reader);
    if (st == ANX_OK)
        *at = end;
    return st;
}
