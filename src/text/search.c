/* Searching: every part of the query becomes a list of rows with ranks, in order of rows; the lists are
 * merged; what is left is put in order of rank. The formula of a rank is in README.md. */
#include <math.h>
#include <stdlib.h>

#include "text/text_int.h"

#include <libstemmer.h>

enum { ROWS_PER_CHECK = 4096, RANK_MAX = 255 };

/* A word (or phrase) in a row. */
struct match {
    uint32_t row, n_place;
    float rank;
    uint32_t field;
    const uint8_t *places; /* distances; of the best form */
};
struct matches {
    struct match *items; /* arena; by row */
    size_t n;
};
/* A row on its way through the parts. */
struct candidate {
    struct match last; /* rank: of the whole; the rest of the part before */
    uint32_t n_part, n_and;
};
struct candidates {
    struct candidate *items;
    size_t n;
};
struct search {
    const struct text_index *index;
    const struct text_config *config;
    struct expander expander;
    struct text_query query;
    anx_arena *arena;
    struct text_marks *marks;
    double average[TEXT_FIELDS_MAX]; /* words per row and field */
    /* Places of the words of a phrase */
    uint32_t *places[2];
    size_t n_place[2], place_capacity[2];
    unsigned ticks;
    anx_error *err;
};

static anx_status
fail_memory(struct search *s)
{
    return anx_fail(s->err, ANX_E_NOMEM, "could not allocate memory for a full text query");
}

static anx_status
tick(struct search *s)
{
    if (++s->ticks % ROWS_PER_CHECK == 0 && s->expander.goes_on && !s->expander.goes_on(s->expander.context))
        return anx_fail(s->err, ANX_E_CANCELLED, "full text search was cancelled");
    return ANX_OK;
}

/* ---- Ranks ---- */

static double
bound(double k, double weight, double boost)
{
    return 1 - weight + k * boost * weight;
}

/* Words at the start of a field count more: steps of the original. */
static double
position_rank(uint32_t position)
{
    double step = 10, top = 1;

    if (position > 100000)
        return 0.5;
    while (position > step) {
        step *= 10;
        top -= 0.1;
    }
    return top - position / (step * 10);
}

static double
bm25(const struct search *s, double n_row, double n_here, double length, double average)
{
    double all = (double) s->index->n_row, k1 = s->config->k1, b = s->config->b, idf, tf = n_here;

    switch (s->config->bm25) {
    case BM25_WORD_COUNT:
        return n_here;
    case BM25_CLASSIC:
        idf = log(all / (n_row + 1)) + 1;
        tf = n_here / (length > 0 ? length : 1);
        break;
    default:
        idf = log((all - n_row + 1) / n_row) / log(1 + all);
        idf = idf < 0.2 ? 0.2 : idf;
        break;
    }
    return idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / (average > 0 ? average : 1)));
}

/* What a part of the query gives all rows of a form. */
struct ranking {
    const struct query_part *part;
    double percent, boost, length, n_row;
};

static double
field_rank(const struct search *s, const struct ranking *r, uint32_t row, uint32_t field, uint32_t n_here,
           uint32_t first, bool is_whole)
{
    const struct text_field_config *f = &s->config->fields[field];
    double length = index_length(s->index, row, field);
    double rank = r->part->fields[field].boost * r->percent * r->boost;

    rank *= bound(bm25(s, r->n_row, n_here, length, s->average[field]), f->bm25_weight, f->bm25_boost);
    rank *= bound(r->length, f->term_len_weight, f->term_len_boost);
    rank *= bound(position_rank(first), f->position_weight, f->position_boost);
    return is_whole ? rank : rank * (double) s->config->ranking.delimited / 100;
}

/* The best field counts; those marked with + are added, each with a smaller share. */
static double
sum_fields(const struct search *s, double best, double *others, size_t n)
{
    double share = s->config->sum_ratio;

    for (size_t i = 0; i < n; i++) { /* selection: few fields */
        size_t at = i;

        for (size_t j = i + 1; j < n; j++)
            if (others[j] > others[at])
                at = j;
        best += share * others[at];
        share *= s->config->sum_ratio;
        others[at] = others[i];
    }
    return best;
}

struct tally { /* of one row */
    double best, sums[TEXT_FIELDS_MAX];
    uint32_t best_field;
    size_t n_sum;
    bool best_sums;
};

static void
add_field(const struct search *s, const struct ranking *r, uint32_t field, double rank, struct tally *t)
{
    bool sums = r->part->fields[field].sums && s->config->sum_ratio > 0;

    if (rank > t->best) {
        if (t->best_sums)
            t->sums[t->n_sum++] = t->best;
        t->best = rank;
        t->best_field = field;
        t->best_sums = sums;
    } else if (sums) {
        t->sums[t->n_sum++] = rank;
    }
}

/* The rank of one entry; 0: not in a field that is searched. */
static double
entry_rank(const struct search *s, const struct ranking *r, const struct cursor *c, uint32_t *field)
{
    const uint8_t *at = c->places;
    struct tally t = { 0 };
    uint32_t place = 0, n_here = 0, first = 0, current = 0;
    bool is_whole = false;

    for (uint32_t i = 0; i <= c->n_place; i++) {
        uint32_t next = 0;

        if (i < c->n_place) {
            place += varint_read(&at);
            next = place >> PLACE_FIELD_SHIFT;
        }
        if (n_here > 0 && (i == c->n_place || next != current)) {
            if (r->part->fields[current].boost > 0)
                add_field(s, r, current, field_rank(s, r, c->row, current, n_here, first, is_whole), &t);
            n_here = 0;
            is_whole = false;
        }
        if (i == c->n_place)
            break;
        if (n_here++ == 0)
            first = place >> 1 & PLACE_POSITION_MAX;
        current = next;
        is_whole |= !(place & 1);
    }
    *field = t.best_field;
    return t.n_sum > 0 ? sum_fields(s, t.best, t.sums, t.n_sum) : t.best;
}

/* ---- Rows of a word ---- */

static int
compare_matches(const void *a, const void *b)
{
    const struct match *x = a, *y = b;

    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->rank < y->rank) - (x->rank > y->rank);
}

static void
keep_best(struct matches *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n; i++)
        if (n == 0 || m->items[n - 1].row != m->items[i].row)
            m->items[n++] = m->items[i];
    m->n = n;
}

static anx_status
add_rows(struct search *s, const struct ranking *r, const struct word *word, struct matches *out)
{
    struct cursor c;
    anx_status st = ANX_OK;

    cursor_begin(&c, &word->rows);
    while (st == ANX_OK && cursor_next(&c)) {
        uint32_t field;
        double rank = entry_rank(s, r, &c, &field);

        if (rank > 0)
            out->items[out->n++] = (struct match) { c.row, c.n_place, (float) rank, field, c.places };
        st = tick(s);
    }
    return st;
}

/* Rows of all forms, by row; all: several per row when several forms are in it, the best first. */
static anx_status
find_rows(struct search *s, const struct query_part *part, const struct query_word *word,
          const struct forms *forms, bool all, struct matches *out)
{
    const struct word *list = s->index->words.list;
    size_t n = 0;
    anx_status st = ANX_OK;

    for (size_t i = 0; i < forms->n; i++)
        n += list[forms->items[i].word].n_row;
    *out = (struct matches) { anx_arena_bytes(s->arena, (n + 1) * sizeof(struct match)), 0 };
    if (!out->items)
        return fail_memory(s);
    for (size_t i = 0; st == ANX_OK && i < forms->n; i++) {
        const struct word *form = &list[forms->items[i].word];
        struct ranking r = { .part = part, .percent = forms->items[i].percent, .boost = word->boost };

        r.boost *= config_boost(s->config, word->word);
        r.length = s->query.longest > 0 ? (double) word->n_letter / (double) s->query.longest : 1;
        r.n_row = form->n_row;
        st = add_rows(s, &r, form, out);
    }
    if (forms->n > 1)
        qsort(out->items, out->n, sizeof(*out->items), compare_matches);
    if (!all && forms->n > 1)
        keep_best(out);
    return st;
}

/* ---- Several words together ---- */

static anx_status
push_place(struct search *s, unsigned list, uint32_t place)
{
    if (s->n_place[list] == s->place_capacity[list]) {
        size_t capacity = s->place_capacity[list] ? 2 * s->place_capacity[list] : 64;
        uint32_t *places = anx_arena_bytes(s->arena, capacity * sizeof(*places));

        if (!places)
            return fail_memory(s);
        if (s->n_place[list] > 0)
            memcpy(places, s->places[list], s->n_place[list] * sizeof(*places));
        s->places[list] = places;
        s->place_capacity[list] = capacity;
    }
    s->places[list][s->n_place[list]++] = place;
    return ANX_OK;
}

/* Is there a place in front of this one, in the same field, near enough? The places ascend, so it is the last
 * one before it or none. */
static bool
follows(const struct search *s, uint32_t place, uint32_t distance)
{
    const uint32_t *places = s->places[0];
    size_t low = 0, high = s->n_place[0];

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (places[middle] < place)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && place - places[low - 1] <= distance &&
           places[low - 1] >> (PLACE_FIELD_SHIFT - 1) == place >> (PLACE_FIELD_SHIFT - 1);
}

static int
compare_places(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Places of a word's matches in a row that follow those of the word before. Places are without their lowest
 * bit. */
static anx_status
step(struct search *s, const struct match *items, size_t n, bool is_first, uint32_t distance)
{
    uint32_t *swap = s->places[0];
    size_t capacity = s->place_capacity[0];
    anx_status st = ANX_OK;

    s->n_place[1] = 0;
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        const uint8_t *at = items[i].places;
        uint32_t place = 0;

        for (uint32_t p = 0; st == ANX_OK && p < items[i].n_place; p++) {
            place += varint_read(&at);
            if (is_first || follows(s, place >> 1, distance))
                st = push_place(s, 1, place >> 1);
            if (st == ANX_OK)
                st = tick(s);
        }
    }
    if (n > 1 && s->n_place[1] > 1) /* those of each form ascend */
        qsort(s->places[1], s->n_place[1], sizeof(*s->places[1]), compare_places);
    s->places[0] = s->places[1];
    s->place_capacity[0] = s->place_capacity[1];
    s->n_place[0] = s->n_place[1];
    s->places[1] = swap;
    s->place_capacity[1] = capacity;
    return st;
}

struct together {
    const struct matches *words; /* [n], all forms */
    size_t *at;                  /* [n]: where the row begins */
    size_t n;
    uint32_t distance; /* 0: anywhere */
    double share;      /* of the sum of ranks */
};

static size_t
run_length(const struct matches *m, size_t at)
{
    size_t n = 1;

    while (at + n < m->n && m->items[at + n].row == m->items[at].row)
        n++;
    return n;
}

/* Moves every word to a row that all have; false: there is none left. */
static bool
align(const struct together *t)
{
    for (size_t i = 0; i < t->n;) {
        const struct matches *m = &t->words[i], *first = &t->words[0];

        if (t->at[0] >= first->n)
            return false;
        while (t->at[i] < m->n && m->items[t->at[i]].row < first->items[t->at[0]].row)
            t->at[i]++;
        if (t->at[i] >= m->n)
            return false;
        if (m->items[t->at[i]].row == first->items[t->at[0]].row) {
            i++;
            continue;
        }
        while (t->at[0] < first->n && first->items[t->at[0]].row < m->items[t->at[i]].row)
            t->at[0]++;
        i = 0;
    }
    return true;
}

static anx_status
match_together(struct search *s, const struct together *t, struct matches *out)
{
    struct match match = t->words[0].items[t->at[0]];
    double rank = 0;
    anx_status st = ANX_OK;

    s->n_place[0] = 0;
    for (size_t i = 0; st == ANX_OK && i < t->n; i++) {
        const struct match *items = &t->words[i].items[t->at[i]];

        rank += items->rank;
        if (t->distance == 0)
            continue;
        st = step(s, items, run_length(&t->words[i], t->at[i]), i == 0, t->distance);
        if (s->n_place[0] == 0)
            return st;
    }
    match.rank = (float) (rank * t->share);
    out->items[out->n++] = match;
    return st;
}

static anx_status
find_together(struct search *s, struct together *t, struct matches *out)
{
    anx_status st = ANX_OK;

    t->at = anx_arena_array(s->arena, t->n, sizeof(*t->at));
    *out = (struct matches) { anx_arena_bytes(s->arena, (t->words[0].n + 1) * sizeof(struct match)), 0 };
    if (!t->at || !out->items)
        return fail_memory(s);
    while (st == ANX_OK && align(t)) {
        st = match_together(s, t, out);
        t->at[0] += run_length(&t->words[0], t->at[0]);
        if (st == ANX_OK)
            st = tick(s);
    }
    return st;
}

/* Two lists as one, the better rank where both have a row. */
static anx_status
unite(struct search *s, struct matches *into, const struct matches *more)
{
    struct match *items = anx_arena_bytes(s->arena, (into->n + more->n + 1) * sizeof(*items));
    size_t n = 0, i = 0, j = 0;

    if (!items)
        return fail_memory(s);
    while (i < into->n || j < more->n) {
        bool takes_more =
            i == into->n || (j < more->n && compare_matches(&more->items[j], &into->items[i]) < 0);
        const struct match *next = takes_more ? &more->items[j++] : &into->items[i++];

        if (n == 0 || items[n - 1].row != next->row)
            items[n++] = *next;
    }
    *into = (struct matches) { items, n };
    return ANX_OK;
}

/* ---- Marks ---- */

static uint64_t
field_bits(const struct search *s, const struct query_part *part)
{
    uint64_t bits = 0;

    for (size_t f = 0; f < s->config->n_field; f++)
        if (part->fields[f].boost > 0)
            bits |= (uint64_t) 1 << f;
    return bits;
}

static anx_status
mark_forms(struct search *s, const struct query_part *part, const struct forms *forms)
{
    struct text_marks *m = s->marks;

    if (part->op == TEXT_NOT)
        return ANX_OK;
    if (m->n + forms->n > m->capacity) {
        size_t capacity = 2 * m->capacity + forms->n;
        struct mark_word *words = anx_arena_array(s->arena, capacity, sizeof(*words));

        if (!words)
            return fail_memory(s);
        if (m->n > 0)
            memcpy(words, m->words, m->n * sizeof(*words));
        m->words = words;
        m->capacity = capacity;
    }
    for (size_t i = 0; i < forms->n; i++)
        m->words[m->n++] = (struct mark_word) { forms->items[i].word, field_bits(s, part) };
    return ANX_OK;
}

static anx_status
mark_phrase(struct search *s, const struct query_part *part, struct forms *words)
{
    struct mark_phrase *phrase = anx_arena_array(s->arena, 1, sizeof(*phrase));

    if (!phrase)
        return fail_memory(s);
    *phrase = (struct mark_phrase) { words, part->n, part->distance, field_bits(s, part), s->marks->phrases };
    if (part->op != TEXT_NOT)
        s->marks->phrases = phrase;
    return ANX_OK;
}

static int
compare_marks(const void *a, const void *b)
{
    const struct mark_word *x = a, *y = b;

    return (x->word > y->word) - (x->word < y->word);
}

static void
settle_marks(struct text_marks *m)
{
    size_t n = 0;

    if (m->n > 1)
        qsort(m->words, m->n, sizeof(*m->words), compare_marks);
    for (size_t i = 0; i < m->n; i++) {
        if (n > 0 && m->words[n - 1].word == m->words[i].word)
            m->words[n - 1].fields |= m->words[i].fields;
        else
            m->words[n++] = m->words[i];
    }
    m->n = n;
}

/* ---- Parts ---- */

static anx_status
find_group(struct search *s, const struct query_part *part, const struct query_word *word,
           const struct form_group *group, struct matches *out)
{
    struct matches *words = anx_arena_array(s->arena, group->n, sizeof(*words)), found;
    struct together t = {
        .words = words, .n = group->n, .distance = group->distance, .share = 1.0 / (double) group->n
    };
    anx_status st = ANX_OK;

    if (!words)
        return fail_memory(s);
    for (size_t i = 0; st == ANX_OK && i < group->n; i++) {
        st = find_rows(s, part, word, &group->words[i], true, &words[i]);
        if (st == ANX_OK)
            st = mark_forms(s, part, &group->words[i]);
    }
    if (st == ANX_OK)
        st = find_together(s, &t, &found);
    return st == ANX_OK ? unite(s, out, &found) : st;
}

/* "di caprio" is "dicaprio", too. */
static anx_status
add_joined(struct search *s, const struct query_word *a, const struct query_word *b, struct forms *out)
{
    char text[2 * WORD_MAX];
    uint32_t number;

    if (a->word.size + b->word.size > WORD_MAX || a->is_exact || b->is_exact)
        return ANX_OK;
    memcpy(text, a->word.data, a->word.size);
    memcpy(text + a->word.size, b->word.data, b->word.size);
    number = words_find(&s->index->words, (anx_text) { text, a->word.size + b->word.size });
    if (number == NO_WORD)
        return ANX_OK;
    return forms_add(&s->expander, out, number, (float) s->config->ranking.concat / 2);
}

static bool
may_join(const struct search *s, size_t at, size_t other)
{
    const struct query_part *a = &s->query.parts[at], *b;

    if (!s->config->concat || other >= s->query.n || a->is_phrase || a->op == TEXT_NOT)
        return false;
    b = &s->query.parts[other];
    return !b->is_phrase && b->op != TEXT_NOT;
}

static anx_status
find_word(struct search *s, size_t at, struct matches *out)
{
    const struct query_part *part = &s->query.parts[at];
    struct forms forms = { 0 };
    struct form_group *groups = NULL;
    anx_status st = expand_word(&s->expander, &part->words[0], &forms, &groups);

    if (st == ANX_OK && may_join(s, at, at + 1))
        st = add_joined(s, &part->words[0], &s->query.parts[at + 1].words[0], &forms);
    if (st == ANX_OK && at > 0 && may_join(s, at, at - 1))
        st = add_joined(s, &s->query.parts[at - 1].words[0], &part->words[0], &forms);
    forms_settle(&forms);
    if (st == ANX_OK)
        st = find_rows(s, part, &part->words[0], &forms, false, out);
    if (st == ANX_OK)
        st = mark_forms(s, part, &forms);
    for (; st == ANX_OK && groups; groups = groups->next)
        st = find_group(s, part, &part->words[0], groups, out);
    return st;
}

static anx_status
find_phrase(struct search *s, const struct query_part *part, struct matches *out)
{
    struct matches *words = anx_arena_array(s->arena, part->n, sizeof(*words));
    struct forms *forms = anx_arena_array(s->arena, part->n, sizeof(*forms));
    struct together t = { .words = words, .n = part->n, .distance = part->distance, .share = 1 };
    anx_status st = ANX_OK;

    if (!words || !forms)
        return fail_memory(s);
    for (size_t i = 0; st == ANX_OK && i < part->n; i++) {
        struct form_group *ignored = NULL; /* several words in the place of one have no place in a phrase */

        st = expand_word(&s->expander, &part->words[i], &forms[i], &ignored);
        if (st == ANX_OK)
            st = find_rows(s, part, &part->words[i], &forms[i], true, &words[i]);
    }
    if (st == ANX_OK)
        st = mark_phrase(s, part, forms);
    return st == ANX_OK ? find_together(s, &t, out) : st;
}

/* ---- Merging ---- */

/* How near two words of a row are, as the original weighs it. Words of different fields have no distance. */
static double
nearness(const struct search *s, const struct match *a, const struct match *b)
{
    const uint8_t *at_a = a->places, *at_b = b->places;
    uint32_t place_a = 0, place_b = 0, i = 0, j = 0, least = UINT32_MAX;

    if (!at_a || !at_b)
        return 1;
    place_a = varint_read(&at_a);
    place_b = varint_read(&at_b);
    for (;;) {
        uint32_t p = place_a >> 1, q = place_b >> 1, distance = p > q ? p - q : q - p;

        if (p >> (PLACE_FIELD_SHIFT - 1) == q >> (PLACE_FIELD_SHIFT - 1) && distance < least)
            least = distance;
        if (p < q ? ++i == a->n_place : ++j == b->n_place)
            break;
        if (p < q)
            place_a += varint_read(&at_a);
        else
            place_b += varint_read(&at_b);
    }
    if (least == UINT32_MAX)
        return 1;
    return bound(1.0 / (least > 1 ? least : 1), s->config->distance_weight, s->config->distance_boost);
}

static anx_status
merge_part(struct search *s, struct candidates *into, const struct matches *part, bool is_and)
{
    struct candidate *items = anx_arena_bytes(s->arena, (into->n + part->n + 1) * sizeof(*items));
    size_t n = 0, i = 0, j = 0;

    if (!items)
        return fail_memory(s);
    while (i < into->n || j < part->n) {
        bool has_old = i < into->n && (j == part->n || into->items[i].last.row <= part->items[j].row);
        bool has_new = j < part->n && (i == into->n || part->items[j].row <= into->items[i].last.row);
        struct candidate *c = &items[n++];
        double rank = 0, near = 1;

        *c = (struct candidate) { 0 };
        if (has_old) {
            *c = into->items[i++];
            rank = c->last.rank;
        }
        if (has_new) {
            if (has_old)
                near = nearness(s, &c->last, &part->items[j]);
            c->last = part->items[j++];
            c->last.rank = (float) (rank + near * c->last.rank);
            c->n_part++;
            c->n_and += is_and;
        }
    }
    *into = (struct candidates) { items, n };
    return ANX_OK;
}

static void
subtract(struct candidates *from, const struct matches *part)
{
    size_t n = 0, j = 0;

    for (size_t i = 0; i < from->n; i++) {
        while (j < part->n && part->items[j].row < from->items[i].last.row)
            j++;
        if (j == part->n || part->items[j].row != from->items[i].last.row)
            from->items[n++] = from->items[i];
    }
    from->n = n;
}

static anx_status
run_part(struct search *s, size_t at, struct candidates *c, bool is_not)
{
    const struct query_part *part = &s->query.parts[at];
    struct matches found = { NULL, 0 };
    anx_status st;

    if ((part->op == TEXT_NOT) != is_not)
        return ANX_OK;
    st = part->is_phrase ? find_phrase(s, part, &found) : find_word(s, at, &found);
    if (st != ANX_OK)
        return st;
    if (!is_not)
        return merge_part(s, c, &found, part->op == TEXT_AND);
    subtract(c, &found);
    return ANX_OK;
}

/* ---- The end ---- */

static void
keep_required(const struct search *s, struct candidates *c)
{
    uint32_t n_and = 0, n_part = 0;
    size_t n = 0;

    for (size_t p = 0; p < s->query.n; p++) {
        n_and += s->query.parts[p].op == TEXT_AND;
        n_part += s->query.parts[p].op != TEXT_NOT;
    }
    for (size_t i = 0; i < c->n; i++) {
        struct candidate *one = &c->items[i];

        if (one->n_and < n_and)
            continue;
        if (one->n_part == n_part &&
            index_length(s->index, one->last.row, one->last.field) == s->query.n_word)
            one->last.rank *= (float) s->config->full_match_boost;
        if (one->last.rank >= (float) s->config->min_rank)
            c->items[n++] = *one;
    }
    c->n = n;
}

/* Whole ranks, best first: a counting sort, which keeps rows of one rank in order. */
static anx_status
order(struct search *s, const struct candidates *c, struct text_found *out)
{
    size_t starts[RANK_MAX + 2] = { 0 };
    float most = RANK_MAX, scale;
    uint8_t *ranks = anx_arena_bytes(s->arena, c->n + 1);

    out->hits = anx_arena_bytes(s->arena, (c->n + 1) * sizeof(*out->hits));
    if (!ranks || !out->hits)
        return fail_memory(s);
    for (size_t i = 0; i < c->n; i++)
        most = c->items[i].last.rank > most ? c->items[i].last.rank : most;
    scale = RANK_MAX / most;
    for (size_t i = 0; i < c->n; i++) {
        float rank = c->items[i].last.rank * scale;

        ranks[i] = rank >= RANK_MAX ? RANK_MAX : rank < 1 ? 1 : (uint8_t) rank;
        starts[RANK_MAX - ranks[i] + 1]++;
    }
    for (size_t r = 1; r < ANX_COUNT_OF(starts); r++)
        starts[r] += starts[r - 1];
    for (size_t i = 0; i < c->n; i++)
        out->hits[starts[RANK_MAX - ranks[i]]++] = (struct text_hit) { c->items[i].last.row, ranks[i] };
    out->n = c->n < (size_t) s->config->merge_limit ? c->n : (size_t) s->config->merge_limit;
    return ANX_OK;
}

static anx_status
run(struct search *s, struct text_found *out)
{
    struct candidates c = { NULL, 0 };
    anx_status st = ANX_OK;

    for (size_t p = 0; st == ANX_OK && p < s->query.n; p++)
        st = run_part(s, p, &c, false);
    for (size_t p = 0; st == ANX_OK && p < s->query.n; p++)
        st = run_part(s, p, &c, true);
    if (st != ANX_OK)
        return st;
    keep_required(s, &c);
    settle_marks(s->marks);
    out->marks = s->marks;
    return order(s, &c, out);
}

anx_status
text_search(const struct text_index *index, anx_text query, bool (*goes_on)(void *context), void *context,
            anx_arena *arena, struct text_found *out, anx_error *err)
{
    struct search s = { .index = index, .config = index->config, .arena = arena, .err = err };
    anx_status st = text_query_read(index->config, query, arena, &s.query, err);

    *out = (struct text_found) { 0 };
    if (st != ANX_OK)
        return st;
    s.marks = anx_arena_array(arena, 1, sizeof(*s.marks));
    if (!s.marks)
        return fail_memory(&s);
    for (size_t f = 0; f < index->config->n_field && index->n_row > 0; f++)
        s.average[f] = (double) index->total_lengths[f] / (double) index->n_row;
    s.expander = (struct expander) { .index = index, .arena = arena, .goes_on = goes_on, .context = context,
                                     .err = err };
    st = stemmers_open(index->config, s.expander.stemmers, err);
    if (st == ANX_OK)
        st = run(&s, out);
    stemmers_close(s.expander.stemmers);
    return st;
}
