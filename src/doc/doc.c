/* Walking the bytes of documents. The layout is in README.md; doc_check (doc_check.c) made sure of everything
 * that is taken for granted here. */
#include "doc/doc.h"

#include <string.h>

#include "doc/doc_int.h"

struct doc_node
doc_root(struct doc doc)
{
    return (struct doc_node) { .kind = DOC_OBJECT, .body = doc.bytes + 1, .end = doc.bytes + doc.size };
}

const uint8_t *
doc_first(const struct doc_node *parent)
{
    return parent->kind == DOC_ARRAY || parent->kind == DOC_OBJECT ? parent->body : parent->end;
}

static const uint8_t *
read_text(const uint8_t *at, size_t size, struct doc_node *node)
{
    node->kind = DOC_STRING;
    node->value = (struct value) { .type = VALUE_STRING, .text = { (const char *) at, size } };
    return at + size;
}

static const uint8_t *
read_real(const uint8_t *at, bool is_float, struct doc_node *node)
{
    node->kind = DOC_DOUBLE;
    node->value.type = VALUE_DOUBLE;
    node->is_float = is_float;
    if (is_float) {
        float real;

        memcpy(&real, at, sizeof(real));
        node->value.real = (double) real;
        return at + sizeof(real);
    }
    memcpy(&node->value.real, at, sizeof(node->value.real));
    return at + sizeof(node->value.real);
}

static const uint8_t *
read_integer(const uint8_t *at, struct doc_node *node)
{
    node->kind = DOC_INT;
    node->value = (struct value) { .type = VALUE_INT, .integer = unzigzag(get_varint(&at)) };
    return at;
}

static const uint8_t *
read_container(const uint8_t *at, enum doc_kind kind, uint8_t packed, struct doc_node *node)
{
    size_t size = (size_t) get_varint(&at);

    node->kind = kind;
    node->packed = packed;
    node->body = at;
    node->end = at + size;
    return node->end;
}

static const uint8_t *
read_vector(const uint8_t *at, uint8_t form, struct doc_node *node)
{
    node->kind = DOC_VECTOR;
    node->field = (uint32_t) get_varint(&at);
    node->form = (enum doc_vector_form) form;
    node->n_vector = form == VECTOR_ONLY || form == VECTOR_ELEMENT;
    node->vector = form == VECTOR_ELEMENT ? (uint32_t) get_varint(&at) : 0;
    return at;
}

/* What follows a head byte. Returns the end of it. */
static const uint8_t *
read_payload(const uint8_t *at, uint8_t head, struct doc_node *node)
{
    uint8_t high = head >> 4;

    switch ((enum stored_kind)(head & 15)) {
    case STORED_FALSE:
    case STORED_TRUE:
        node->kind = DOC_BOOL;
        node->value = (struct value) { .type = VALUE_BOOL, .boolean = (head & 15) == STORED_TRUE };
        return at;
    case STORED_SMALL:
        node->kind = DOC_INT;
        node->value = (struct value) { .type = VALUE_INT, .integer = high };
        return at;
    case STORED_INT:
        return read_integer(at, node);
    case STORED_DOUBLE:
    case STORED_FLOAT:
        return read_real(at, (head & 15) == STORED_FLOAT, node);
    case STORED_SHORT:
        return read_text(at, high, node);
    case STORED_STRING: {
        size_t size = (size_t) get_varint(&at);

        return read_text(at, size, node);
    }
    case STORED_UUID:
        node->kind = DOC_UUID;
        node->value.type = VALUE_UUID;
        memcpy(node->value.uuid, at, sizeof(node->value.uuid));
        return at + sizeof(node->value.uuid);
    case STORED_ARRAY:
        return read_container(at, DOC_ARRAY, 0, node);
    case STORED_PACKED:
        return read_container(at, DOC_ARRAY, high, node);
    case STORED_OBJECT:
        return read_container(at, DOC_OBJECT, 0, node);
    case STORED_VECTOR:
        return read_vector(at, high, node);
    case STORED_NULL:
    case STORED_KIND_COUNT:
        break;
    }
    node->kind = DOC_NULL;
    node->value.type = VALUE_NULL;
    return at;
}

bool
doc_next(const struct doc_node *parent, const uint8_t **at, struct doc_node *child)
{
    const uint8_t *p = *at;
    uint8_t head;

    if (p >= parent->end)
        return false;
    child->is_float = false;
    child->tag = 0;
    child->body = NULL;
    child->end = NULL;
    child->packed = 0;
    if (parent->packed) {
        *at = parent->packed == STORED_INT ? read_integer(p, child)
                                           : read_real(p, parent->packed == STORED_FLOAT, child);
        return true;
    }
    head = *p++;
    if (parent->kind == DOC_OBJECT)
        child->tag = (uint32_t) get_varint(&p);
    *at = read_payload(p, head, child);
    return true;
}

static const struct doc_node absent = { .kind = DOC_ABSENT };

struct doc_node
doc_child(const struct doc_node *object, uint32_t tag)
{
    struct doc_node child;

    if (object->kind != DOC_OBJECT || tag == 0)
        return absent;
    for (const uint8_t *at = object->body; doc_next(object, &at, &child);)
        if (child.tag == tag)
            return child;
    return absent;
}

static struct doc_node
element_at(const struct doc_node *array, uint32_t wanted)
{
    struct doc_node child;
    uint32_t i = 0;

    if (array->kind != DOC_ARRAY)
        return absent;
    for (const uint8_t *at = array->body; doc_next(array, &at, &child); i++)
        if (i == wanted)
            return child;
    return absent;
}

struct doc_node
doc_find(struct doc doc, const struct doc_path *path)
{
    struct doc_node node = doc_root(doc);

    for (uint32_t i = 0; i < path->n && node.kind != DOC_ABSENT; i++) {
        node = doc_child(&node, path->steps[i].tag);
        if (path->steps[i].kind == STEP_AT)
            node = element_at(&node, path->steps[i].at);
    }
    return node;
}

/* ---- Visiting ---- */

struct visit {
    const struct doc_path *path;
    bool whole;
    doc_visit_fn fn;
    void *context;
    size_t n_visited;
    bool is_stopped;
    uint32_t positions[DOC_PATH_MAX];
    size_t n_position;
};

static void visit_step(struct visit *visit, const struct doc_node *node, uint32_t step);

static void
visit_leaf(struct visit *visit, const struct doc_node *node)
{
    visit->n_visited++;
    if (!visit->fn(visit->context, node, visit->positions, visit->n_position))
        visit->is_stopped = true;
}

/* Every element, or only the one at `wanted`. */
static void
visit_elements(struct visit *visit, const struct doc_node *array, uint32_t step, const uint32_t *wanted)
{
    bool is_counted = visit->n_position < DOC_PATH_MAX;
    struct doc_node child;
    uint32_t i = 0;

    visit->n_position += is_counted;
    for (const uint8_t *at = array->body; !visit->is_stopped && doc_next(array, &at, &child); i++) {
        if (wanted && i != *wanted)
            continue;
        if (is_counted)
            visit->positions[visit->n_position - 1] = i;
        visit_step(visit, &child, step);
        if (wanted)
            break;
    }
    visit->n_position -= is_counted;
}

/* node is what the first `step` steps lead to. */
static void
visit_step(struct visit *visit, const struct doc_node *node, uint32_t step)
{
    const struct doc_path *path = visit->path;
    struct doc_node child;

    if (node->kind == DOC_ARRAY && (step < path->n || !visit->whole)) {
        visit_elements(visit, node, step, NULL);
        return;
    }
    if (step == path->n) {
        visit_leaf(visit, node);
        return;
    }
    if (node->kind != DOC_OBJECT || path->steps[step].tag == 0)
        return;
    for (const uint8_t *at = node->body; !visit->is_stopped && doc_next(node, &at, &child);) {
        if (child.tag != path->steps[step].tag)
            continue;
        if (path->steps[step].kind == STEP_AT && child.kind == DOC_ARRAY)
            visit_elements(visit, &child, step + 1, &path->steps[step].at);
        else if (path->steps[step].kind == STEP_ALL && child.kind == DOC_ARRAY)
            visit_elements(visit, &child, step + 1, NULL);
        else if (path->steps[step].kind != STEP_AT)
            visit_step(visit, &child, step + 1);
    }
}

size_t
doc_visit(struct doc doc, const struct doc_path *path, bool whole, doc_visit_fn fn, void *context)
{
    struct visit visit = { .path = path, .whole = whole, .fn = fn, .context = context };
    struct doc_node root = doc_root(doc);

    visit_step(&visit, &root, 0);
    return visit.n_visited;
}
