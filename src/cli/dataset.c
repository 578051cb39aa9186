/* See dataset.h. */
#include "cli/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "kernel/kernel.h"

static const struct {
    const char *name;
    const char *descr; /* as in the head of .npy */
    size_t size;
} types[DATASET_TYPE_COUNT] = {
    [DATASET_F32] = { "f32", "<f4", 4 }, [DATASET_F64] = { "f64", "<f8", 8 },
    [DATASET_F16] = { "f16", "<f2", 2 }, [DATASET_U8] = { "u8", "|u1", 1 },
    [DATASET_I8] = { "i8", "|i1", 1 },   [DATASET_I32] = { "i32", "<i4", 4 },
    [DATASET_I64] = { "i64", "<i8", 8 },
};

const char *
dataset_type_name(enum dataset_type type)
{
    return types[type].name;
}

/* ---- .npy: magic, version, size of the head, a Python dict literal with descr, fortran_order, shape ---- */

struct text {
    const char *at, *end;
};

static void
skip_space(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t'))
        t->at++;
}

static bool
take(struct text *t, char c)
{
    skip_space(t);
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool
take_word(struct text *t, const char *word)
{
    size_t size = strlen(word);

    skip_space(t);
    if ((size_t) (t->end - t->at) < size || memcmp(t->at, word, size) != 0)
        return false;
    t->at += size;
    return true;
}

/* A quoted text without escapes, as a view. */
static bool
take_quoted(struct text *t, struct text *out)
{
    char quote;

    skip_space(t);
    if (t->at == t->end || (*t->at != '\'' && *t->at != '"'))
        return false;
    quote = *t->at++;
    out->at = t->at;
    while (t->at < t->end && *t->at != quote)
        t->at++;
    out->end = t->at;
    return take(t, quote);
}

static bool
take_size(struct text *t, size_t *out)
{
    size_t v = 0;

    skip_space(t);
    if (t->at == t->end || *t->at < '0' || *t->at > '9')
        return false;
    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++)
        if (__builtin_mul_overflow(v, (size_t) 10, &v) ||
            __builtin_add_overflow(v, (size_t) (*t->at - '0'), &v))
            return false;
    *out = v;
    return true;
}

static bool
text_is(const struct text *t, const char *word)
{
    return (size_t) (t->end - t->at) == strlen(word) && memcmp(t->at, word, strlen(word)) == 0;
}

struct npy_head {
    struct text descr;
    size_t shape[2];
    size_t n_shape; /* counts further dimensions too */
    bool is_fortran, has_descr, has_order, has_shape;
};

static bool
take_shape(struct text *t, struct npy_head *head)
{
    head->has_shape = true;
    head->n_shape = 0;
    if (!take(t, '('))
        return false;
    while (!take(t, ')')) {
        size_t v;

        if (!take_size(t, &v))
            return false;
        if (head->n_shape < 2)
            head->shape[head->n_shape] = v;
        head->n_shape++;
        if (!take(t, ','))
            return take(t, ')');
    }
    return true;
}

static bool
take_npy_dict(struct text *t, struct npy_head *head)
{
    if (!take(t, '{'))
        return false;
    while (!take(t, '}')) {
        struct text key;

        if (!take_quoted(t, &key) || !take(t, ':'))
            return false;
        if (text_is(&key, "descr")) {
            head->has_descr = take_quoted(t, &head->descr);
            if (!head->has_descr)
                return false;
        } else if (text_is(&key, "fortran_order")) {
            head->has_order = true;
            head->is_fortran = take_word(t, "True");
            if (!head->is_fortran && !take_word(t, "False"))
                return false;
        } else if (!text_is(&key, "shape") || !take_shape(t, head)) {
            return false;
        }
        if (!take(t, ',') && !(t->at < t->end && *t->at == '}'))
            return false;
    }
    return head->has_descr && head->has_order && head->has_shape;
}

static anx_status
find_type(const struct text *descr, enum dataset_type *out, anx_error *err)
{
    struct text d = *descr;
    char shown[32];
    size_t n = (size_t) (d.end - d.at);

    for (int i = 0; i < DATASET_TYPE_COUNT; i++) {
        /* one byte has no byte order: '|u1', '<u1' and '>u1' are the same */
        if (n == 3 && memcmp(d.at + 1, types[i].descr + 1, 2) == 0 &&
            (d.at[0] == types[i].descr[0] || d.at[0] == '=' || types[i].size == 1)) {
            *out = (enum dataset_type) i;
            return ANX_OK;
        }
    }
    n = n < sizeof(shown) - 1 ? n : sizeof(shown) - 1;
    for (size_t i = 0; i < n; i++)
        shown[i] = d.at[i] >= ' ' && d.at[i] <= '~' ? d.at[i] : '?';
    shown[n] = '\0';
    return anx_fail(err, ANX_E_UNSUPPORTED,
                    "element kind \"%s\" is not read, must be little-endian f2, f4, f8, u1, i1, i4 or i8",
                    shown);
}

/* Checks that rows * dim elements are there, `stride` bytes a row, and fills the dataset. */
static anx_status
set_shape(struct dataset *out, const uint8_t *data, size_t size, size_t rows, size_t dim, anx_error *err)
{
    size_t row_size, total;

    if (rows == 0 || dim == 0 || dim > ANX_DIM_MAX)
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "shape is %zu x %zu, must be at least 1 x 1 and at most %d columns", rows, dim,
                        ANX_DIM_MAX);
    if (__builtin_mul_overflow(dim, types[out->type].size, &row_size) ||
        __builtin_mul_overflow(rows, row_size, &total) || total > size)
        return anx_fail(err, ANX_E_CORRUPT, "file has %zu bytes of data, too few for %zu x %zu %s", size,
                        rows, dim, types[out->type].name);
    out->data = data;
    out->rows = rows;
    out->dim = dim;
    out->stride = row_size;
    return ANX_OK;
}

static anx_status
parse_npy(const uint8_t *bytes, size_t size, struct dataset *out, anx_error *err)
{
    static const uint8_t magic[6] = { 0x93, 'N', 'U', 'M', 'P', 'Y' };
    anx_reader r = anx_reader_init(bytes, size);
    const uint8_t *got_magic = anx_read_view(&r, sizeof(magic));
    unsigned major = anx_read_u8(&r);
    size_t head_size;
    const uint8_t *dict;
    struct npy_head head = { 0 };
    struct text t;
    anx_status st;

    anx_read_u8(&r); /* minor version: no meaning so far */
    if (!got_magic || memcmp(got_magic, magic, sizeof(magic)) != 0)
        return anx_fail(err, ANX_E_CORRUPT, "not a .npy file: it does not begin with the .npy magic");
    if (major < 1 || major > 3)
        return anx_fail(err, ANX_E_VERSION, ".npy version is %u, must be 1 to 3", major);
    head_size = (size_t) anx_read_le(&r, major == 1 ? 2 : 4);
    dict = anx_read_view(&r, head_size);
    if (r.failed)
        return anx_fail(err, ANX_E_CORRUPT, ".npy head is cut short: file has %zu bytes", size);
    t = (struct text) { (const char *) dict, (const char *) dict + head_size };
    if (!take_npy_dict(&t, &head))
        return anx_fail(err, ANX_E_CORRUPT, ".npy head is not understood at byte %zu",
                        (size_t) ((const uint8_t *) t.at - bytes));
    st = find_type(&head.descr, &out->type, err);
    if (st != ANX_OK)
        return st;
    if (head.n_shape != 2)
        return anx_fail(err, ANX_E_UNSUPPORTED, "array has %zu dimensions, must be 2 (rows and columns)",
                        head.n_shape);
    if (head.is_fortran && head.shape[0] > 1 && head.shape[1] > 1)
        return anx_fail(err, ANX_E_UNSUPPORTED, "array is in Fortran order, must be in C order");
    return set_shape(out, bytes + r.at, size - r.at, head.shape[0], head.shape[1], err);
}

/* ---- .fvecs and kin: every row is its dimension as i32, then the numbers ---- */

static anx_status
parse_vecs(const uint8_t *bytes, size_t size, struct dataset *out, anx_error *err)
{
    uint64_t dim = size >= 4 ? anx_load_le(bytes, 4) : 0;
    size_t stride, rows;
    anx_status st;

    if (dim == 0 || dim > ANX_DIM_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "first row says %llu dimensions, must be 1 to %d",
                        (unsigned long long) dim, ANX_DIM_MAX);
    stride = 4 + (size_t) dim * types[out->type].size;
    if (size % stride != 0)
        return anx_fail(err, ANX_E_CORRUPT,
                        "file has %zu bytes, not a multiple of a row of %zu bytes (%llu dimensions)", size,
                        stride, (unsigned long long) dim);
    rows = size / stride;
    for (size_t i = 0; i < rows; i++)
        if (anx_load_le(bytes + i * stride, 4) != dim)
            return anx_fail(err, ANX_E_CORRUPT, "row %zu says %llu dimensions, row 0 says %llu", i,
                            (unsigned long long) anx_load_le(bytes + i * stride, 4),
                            (unsigned long long) dim);
    st = set_shape(out, bytes + 4, size, rows, (size_t) dim, err);
    if (st == ANX_OK)
        out->stride = stride;
    return st;
}

anx_status
dataset_parse(const void *bytes, size_t size, enum dataset_format format, struct dataset *out, anx_error *err)
{
    static const enum dataset_type vecs_types[] = {
        [DATASET_FVECS] = DATASET_F32,
        [DATASET_BVECS] = DATASET_U8,
        [DATASET_IVECS] = DATASET_I32,
    };
    anx_status st;

    memset(out, 0, sizeof(*out));
    if (format == DATASET_NPY) {
        st = parse_npy(bytes, size, out, err);
    } else {
        out->type = vecs_types[format];
        st = parse_vecs(bytes, size, out, err);
    }
    if (st != ANX_OK)
        memset(out, 0, sizeof(*out));
    return st;
}

static anx_status
find_format(const char *path, enum dataset_format *out, anx_error *err)
{
    static const struct {
        const char *end;
        enum dataset_format format;
    } ends[] = { { ".npy", DATASET_NPY },
                 { ".fvecs", DATASET_FVECS },
                 { ".bvecs", DATASET_BVECS },
                 { ".ivecs", DATASET_IVECS } };

    for (size_t i = 0; i < ANX_COUNT_OF(ends); i++) {
        size_t n = strlen(ends[i].end);

        if (strlen(path) >= n && strcmp(path + strlen(path) - n, ends[i].end) == 0) {
            *out = ends[i].format;
            return ANX_OK;
        }
    }
    return anx_fail(err, ANX_E_UNSUPPORTED, "\"%s\" must end in .npy, .fvecs, .bvecs or .ivecs", path);
}

static anx_status
map_file(const char *path, void **map, size_t *size, anx_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    anx_status st = ANX_OK;

    *map = NULL;
    if (fd < 0)
        return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", path, strerror(errno));
    if (fstat(fd, &info) != 0) {
        st = anx_fail(err, ANX_E_IO, "could not read the size of \"%s\": %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode) || info.st_size <= 0) {
        st = anx_fail(err, ANX_E_UNSUPPORTED, "\"%s\" is empty or no ordinary file", path);
    } else {
        *size = (size_t) info.st_size;
        *map = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (*map == MAP_FAILED) {
            *map = NULL;
            st = anx_fail(err, ANX_E_IO, "could not map \"%s\": %s", path, strerror(errno));
        }
    }
    close(fd);
    return st;
}

anx_status
dataset_open(const char *path, struct dataset *out, anx_error *err)
{
    enum dataset_format format = DATASET_NPY;
    void *map = NULL;
    size_t size = 0;
    anx_status st = find_format(path, &format, err);

    memset(out, 0, sizeof(*out));
    if (st == ANX_OK)
        st = map_file(path, &map, &size, err);
    if (st != ANX_OK)
        return st;
    st = dataset_parse(map, size, format, out, err);
    if (st != ANX_OK) {
        anx_error_context(err, "%s", path);
        munmap(map, size);
        return st;
    }
    out->map = map;
    out->map_size = size;
    return ANX_OK;
}

void
dataset_close(struct dataset *data)
{
    if (data->map)
        munmap(data->map, data->map_size);
    memset(data, 0, sizeof(*data));
}

/* ---- conversion ---- */

size_t
dataset_dim(const struct dataset *data, enum anx_scalar scalar)
{
    return scalar == ANX_SCALAR_B1 && data->type == DATASET_U8 ? data->dim * 8 : data->dim;
}

enum anx_scalar
dataset_scalar(const struct dataset *data)
{
    switch (data->type) {
    case DATASET_F16:
        return ANX_SCALAR_F16;
    case DATASET_U8:
        return ANX_SCALAR_U8;
    case DATASET_I8:
        return ANX_SCALAR_I8;
    default:
        return ANX_SCALAR_F32;
    }
}

static int64_t
load_integer(enum dataset_type type, const uint8_t *p)
{
    switch (type) {
    case DATASET_U8:
        return p[0];
    case DATASET_I8:
        return (int8_t) p[0];
    case DATASET_I32:
        return (int32_t) (uint32_t) anx_load_le(p, 4);
    default:
        return (int64_t) anx_load_le(p, 8);
    }
}

bool
dataset_integer(const struct dataset *data, size_t row, size_t column, int64_t *out)
{
    *out = 0;
    if (data->type < DATASET_U8 || row >= data->rows || column >= data->dim)
        return false;
    *out = load_integer(data->type, data->data + row * data->stride + column * types[data->type].size);
    return true;
}

#define PIECE 512 /* numbers widened at a time: keeps the scratch on the stack */

/* n numbers at p, n <= PIECE, as f32. */
static void
widen(enum dataset_type type, const uint8_t *p, size_t n, float *out)
{
    uint16_t half[PIECE];

    switch (type) {
    case DATASET_F32:
        memcpy(out, p, n * 4);
        break;
    case DATASET_F16:
        memcpy(half, p, n * 2); /* rows of a mapped file need not be aligned */
        anx_kernels_best()->f16_to_f32(half, n, out);
        break;
    case DATASET_F64:
        for (size_t i = 0; i < n; i++) {
            double v;

            memcpy(&v, p + 8 * i, 8);
            out[i] = fabs(v) > 3.4028234663852886e38 ? (float) copysign(HUGE_VAL, v) : (float) v;
        }
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = (float) load_integer(type, p + i * types[type].size);
    }
}

/* f32 to a narrower kind. For i8 and u8 returns the place of the first number that does not fit, or n. */
static size_t
narrow(enum anx_scalar scalar, const float *in, size_t n, uint8_t *out)
{
    float low = scalar == ANX_SCALAR_I8 ? -128.0f : 0.0f, high = scalar == ANX_SCALAR_I8 ? 127.0f : 255.0f;

    for (size_t i = 0; i < n; i++) {
        if (!(in[i] >= low && in[i] <= high) || rintf(in[i]) != in[i])
            return i;
        out[i] = scalar == ANX_SCALAR_I8 ? (uint8_t) (int8_t) in[i] : (uint8_t) in[i];
    }
    return n;
}

static void
pack_bits(const float *in, size_t n, size_t first, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        if (in[i] > 0.0f)
            out[(first + i) / 8] = (uint8_t) (out[(first + i) / 8] | (0x80u >> ((first + i) % 8)));
}

static anx_status
read_row(const struct dataset *data, enum anx_scalar scalar, size_t row, uint8_t *out, anx_error *err)
{
    const uint8_t *p = data->data + row * data->stride;
    size_t size = types[data->type].size;

    if (scalar == ANX_SCALAR_B1) {
        if (data->type == DATASET_U8) {
            memcpy(out, p, data->dim);
            return ANX_OK;
        }
        memset(out, 0, anx_row_size(scalar, data->dim));
    }
    for (size_t at = 0; at < data->dim; at += PIECE) {
        float piece[PIECE];
        size_t n = data->dim - at < PIECE ? data->dim - at : PIECE, fits = n;

        widen(data->type, p + at * size, n, piece);
        if (scalar == ANX_SCALAR_F32) {
            memcpy(out + at * 4, piece, n * 4);
        } else if (scalar == ANX_SCALAR_F16) {
            uint16_t half[PIECE];

            anx_kernels_best()->f32_to_f16(piece, n, half);
            memcpy(out + at * 2, half, n * 2);
        } else if (scalar == ANX_SCALAR_B1) {
            pack_bits(piece, n, at, out);
        } else {
            fits = narrow(scalar, piece, n, out + at);
        }
        if (fits < n)
            return anx_fail(err, ANX_E_VALUE, "row %zu, column %zu is %g, does not fit %s", row, at + fits,
                            (double) piece[fits], anx_scalar_name(scalar));
    }
    return ANX_OK;
}

anx_status
dataset_read(const struct dataset *data, enum anx_scalar scalar, size_t first, size_t n, void *out,
             anx_error *err)
{
    size_t row_size = anx_row_size(scalar, dataset_dim(data, scalar));
    bool is_same = dataset_scalar(data) == scalar && data->stride == row_size &&
                   (scalar != ANX_SCALAR_F32 || data->type == DATASET_F32);

    if (first > data->rows || n > data->rows - first)
        return anx_fail(err, ANX_E_INVALID, "rows %zu to %zu are asked for, file has %zu", first, first + n,
                        data->rows);
    if (is_same) {
        memcpy(out, data->data + first * data->stride, n * row_size);
        return ANX_OK;
    }
    for (size_t i = 0; i < n; i++) {
        anx_status st = read_row(data, scalar, first + i, (uint8_t *) out + i * row_size, err);

        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}
