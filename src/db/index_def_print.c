/* Definitions as JSON: keys in the order in which clients have always seen them. */
#include "db/index_def_int.h"

static void
print_texts(anx_buffer *out, const anx_text *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        json_print_text(out, texts[i]);
    }
}

static void
print_conditions(const struct index_def *def, anx_buffer *out)
{
    const char *list;

    if (index_def_is_vector(def))
        list = "\"KNN\",\"ANY\",\"EMPTY\"";
    else if (def->field_type == FIELD_POINT)
        list = "\"DWITHIN\"";
    else if (def->index_type == INDEX_TEXT)
        list = "\"EQ\",\"SET\"";
    else if (def->is_array || def->is_sparse)
        list = "\"SET\",\"ALLSET\",\"EQ\",\"ANY\",\"EMPTY\",\"LT\",\"LE\",\"GT\",\"GE\",\"RANGE\"";
    else
        list = "\"SET\",\"ALLSET\",\"EQ\",\"LT\",\"LE\",\"GT\",\"GE\",\"RANGE\"";
    anx_buffer_printf(out, ",\"is_sortable\":%s,\"conditions\":[%s%s]",
                      index_def_is_vector(def) ? "false" : "true", list,
                      def->field_type == FIELD_STRING && def->index_type != INDEX_TEXT ? ",\"LIKE\"" : "");
}

void
index_def_print(const struct index_def *def, bool with_conditions, anx_buffer *out)
{
    static const char *const words[] = { "false", "true" };

    anx_buffer_text(out, ANX_TEXT("{\"name\":"));
    json_print_text(out, def->name);
    anx_buffer_printf(out,
                      ",\"field_type\":\"%s\",\"index_type\":\"%s\",\"is_pk\":%s,\"is_array\":%s,"
                      "\"is_dense\":%s,\"is_no_column\":%s,\"is_sparse\":%s",
                      field_type_name(def->field_type), index_type_name(def->index_type), words[def->is_pk],
                      words[def->is_array], words[def->is_dense], words[def->is_no_column],
                      words[def->is_sparse]);
    if (def->field_type == FIELD_POINT) {
        anx_buffer_text(out, ANX_TEXT(",\"rtree_type\":"));
        json_print_text(out, def->rtree_type);
    }
    anx_buffer_printf(out, ",\"collate_mode\":\"%s\",\"sort_order_letters\":",
                      collate_mode_name(def->collate_mode));
    json_print_text(out, def->sort_order_letters);
    anx_buffer_printf(out, ",\"expire_after\":%lld,\"config\":", (long long) def->expire_after);
    if (index_def_is_vector(def))
        vector_def_print(&def->vector, out);
    else
        anx_buffer_text(out, def->config_json);
    anx_buffer_text(out, ANX_TEXT(",\"json_paths\":["));
    print_texts(out, def->json_paths, def->n_path);
    anx_buffer_char(out, ']');
    if (with_conditions)
        print_conditions(def, out);
    anx_buffer_char(out, '}');
}
