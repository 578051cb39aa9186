/* See events.h. */
#include "db/events.h"

#include "db/precept.h"

void
engine_set_events(struct engine *engine, engine_event_fn report, void *context)
{
    pthread_rwlock_wrlock(&engine->clients_lock);
    engine->report_event = report;
    engine->event_context = context;
    pthread_rwlock_unlock(&engine->clients_lock);
}

void
engine_want_events(struct engine *engine, bool is_wanted)
{
    atomic_store_explicit(&engine->wants_events, is_wanted, memory_order_relaxed);
}

static void
emit(struct ns *ns, anx_text name, enum db_event_type type, size_t n)
{
    struct engine *engine = ns->database->engine;
    struct db_event event = { .type = type, .db = ns->database, .incarnation = ns->incarnation };

    if (!atomic_load_explicit(&engine->wants_events, memory_order_relaxed))
        return;
    event.database = anx_text_of(ns->database->name);
    event.ns = name;
    pthread_rwlock_rdlock(&engine->clients_lock);
    for (size_t i = 0; engine->report_event && i < n; i++) {
        event.version = rows_next_version();
        engine->report_event(engine->event_context, &event);
    }
    pthread_rwlock_unlock(&engine->clients_lock);
}

void
event_emit(struct ns *ns, enum db_event_type type, size_t n)
{
    emit(ns, anx_text_of(ns->name), type, n);
}

void
event_emit_as(struct ns *ns, anx_text name, enum db_event_type type)
{
    emit(ns, name, type, 1);
}

void
event_emit_items(struct ns *ns, enum db_write_mode mode, bool in_tx, const struct precept *precepts,
                 size_t n_precept, size_t n)
{
    static const enum db_event_type types[] = {
        [WRITE_INSERT] = EVENT_ITEM_INSERT,
        [WRITE_UPDATE] = EVENT_ITEM_UPDATE,
        [WRITE_UPSERT] = EVENT_ITEM_UPSERT,
        [WRITE_DELETE] = EVENT_ITEM_DELETE,
    };
    size_t n_counter = 0;

    if (!atomic_load_explicit(&ns->database->engine->wants_events, memory_order_relaxed))
        return;
    for (size_t i = 0; i < n_precept && mode != WRITE_DELETE; i++)
        n_counter += precepts[i].kind == PRECEPT_SERIAL;
    for (size_t i = 0; i < n; i++) {
        event_emit(ns, in_tx ? EVENT_PUT_META_TX : EVENT_PUT_META, n_counter);
        event_emit(ns, types[mode] + (in_tx ? EVENT_ITEM_UPDATE_TX - EVENT_ITEM_UPDATE : 0), 1);
    }
}
