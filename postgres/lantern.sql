-- The SQL objects of the extension.
\echo Use "CREATE EXTENSION lantern" to load this file. \quit

CREATE FUNCTION hnsw_handler(internal) RETURNS index_am_handler
    AS 'MODULE_PATHNAME', 'lantern_hnsw_handler' LANGUAGE C;
CREATE ACCESS METHOD lantern_hnsw TYPE INDEX HANDLER hnsw_handler;

CREATE FUNCTION l2sq_dist(real[], real[]) RETURNS real
    AS 'MODULE_PATHNAME', 'lantern_l2sq_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION cos_dist(real[], real[]) RETURNS real
    AS 'MODULE_PATHNAME', 'lantern_cos_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION hamming_dist(integer[], integer[]) RETURNS integer
    AS 'MODULE_PATHNAME', 'lantern_hamming_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION ldb_generic_dist(real[], real[]) RETURNS real
    AS 'MODULE_PATHNAME', 'lantern_generic_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION ldb_generic_dist(integer[], integer[]) RETURNS real
    AS 'MODULE_PATHNAME', 'lantern_generic_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR <-> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = l2sq_dist, COMMUTATOR = '<->');
CREATE OPERATOR <=> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = cos_dist, COMMUTATOR = '<=>');
CREATE OPERATOR <+> (LEFTARG = integer[], RIGHTARG = integer[], FUNCTION = hamming_dist, COMMUTATOR = '<+>');
CREATE OPERATOR <?> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = ldb_generic_dist, COMMUTATOR = '<?>');
CREATE OPERATOR <?> (LEFTARG = integer[], RIGHTARG = integer[], FUNCTION = ldb_generic_dist, COMMUTATOR = '<?>');

CREATE OPERATOR CLASS dist_l2sq_ops DEFAULT FOR TYPE real[] USING lantern_hnsw AS
    OPERATOR 1 <?> (real[], real[]) FOR ORDER BY float_ops,
    OPERATOR 2 <-> (real[], real[]) FOR ORDER BY float_ops,
    FUNCTION 1 l2sq_dist(real[], real[]), FUNCTION 2 l2sq_dist(real[], real[]);
CREATE OPERATOR CLASS dist_cos_ops FOR TYPE real[] USING lantern_hnsw AS
    OPERATOR 1 <?> (real[], real[]) FOR ORDER BY float_ops,
    OPERATOR 2 <=> (real[], real[]) FOR ORDER BY float_ops,
    FUNCTION 1 cos_dist(real[], real[]), FUNCTION 2 cos_dist(real[], real[]);
CREATE OPERATOR CLASS dist_hamming_ops FOR TYPE integer[] USING lantern_hnsw AS
    OPERATOR 1 <?> (integer[], integer[]) FOR ORDER BY float_ops,
    OPERATOR 2 <+> (integer[], integer[]) FOR ORDER BY integer_ops,
    FUNCTION 1 hamming_dist(integer[], integer[]), FUNCTION 2 hamming_dist(integer[], integer[]);

COMMENT ON ACCESS METHOD lantern_hnsw IS
    'Hardware-accelerated index for vector embeddings: a hierarchical navigable small world graph over compressed codes';

-- ---- schemas ----

CREATE SCHEMA lantern;
GRANT USAGE ON SCHEMA lantern TO PUBLIC;
CREATE SCHEMA _lantern_internal;
GRANT USAGE ON SCHEMA _lantern_internal TO PUBLIC;

-- ---- maintenance ----

CREATE FUNCTION _lantern_internal.validate_index(index regclass, print_info boolean DEFAULT true) RETURNS void
    AS 'MODULE_PATHNAME', 'lantern_validate_index' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
CREATE FUNCTION _lantern_internal.failure_point_enable(func text, name text, dont_trigger_first_nr integer DEFAULT 0)
    RETURNS void
    AS 'MODULE_PATHNAME', 'lantern_failure_point_enable' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;

-- Every broken invariant of an index, a row each; with `heap` also rows of the table that the index does not know.
CREATE FUNCTION lantern_hnsw_check(index regclass, heap boolean DEFAULT false) RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'lantern_hnsw_check' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
-- What an index holds and how it lies in its pages.
CREATE FUNCTION lantern_hnsw_stats(index regclass, OUT name text, OUT value double precision) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'lantern_hnsw_stats' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- Builds one external index again. The settings lantern.external_index_* must name a server that is there.
CREATE FUNCTION lantern_reindex_external_index(index regclass) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    options text[];
BEGIN
    SELECT c.reloptions INTO options
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE c.oid = index AND a.amname = 'lantern_hnsw';
    IF NOT FOUND THEN
        RAISE EXCEPTION '"%" is not a lantern_hnsw index', index USING ERRCODE = 'wrong_object_type';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(options) WHERE option_name = 'external' AND option_value::boolean)
    THEN
        RAISE EXCEPTION 'index "%" is not an external one', index
            USING ERRCODE = 'wrong_object_type', HINT = 'REINDEX INDEX builds it again here.';
    END IF;
    EXECUTE pg_catalog.format('REINDEX INDEX %s', index);
END
$body$;

-- Builds every index of this access method again, one after the other, in one transaction.
CREATE FUNCTION _lantern_internal.reindex_lantern_indexes() RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    index regclass;
BEGIN
    FOR index IN
        SELECT c.oid::regclass
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
        WHERE a.amname = 'lantern_hnsw' AND c.relkind = 'i'
        ORDER BY c.oid
    LOOP
        RAISE NOTICE 'Reindexing index: %', index;
        EXECUTE pg_catalog.format('REINDEX INDEX %s', index);
        RAISE NOTICE 'Reindexed index: %', index;
    END LOOP;
END
$body$;
REVOKE ALL ON FUNCTION _lantern_internal.reindex_lantern_indexes() FROM PUBLIC;

CREATE FUNCTION _lantern_internal.forbid_table_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'Cannot modify readonly table.';
END
$body$;

-- ---- EXPLAIN without the numbers ----

-- Array and vector constants of an expression, replaced.
CREATE FUNCTION _lantern_internal.mask_arrays(arr text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $body$
    SELECT pg_catalog.regexp_replace(pg_catalog.regexp_replace(pg_catalog.regexp_replace(arr,
        $$'\[[^']*\]'$$, $$'[MASKED_VECTOR]'$$, 'g'),
        $$'\{[^']*\}'$$, $$'{MASKED_ARRAY}'$$, 'g'),
        'ARRAY\[[^][]*\]', 'ARRAY[MASKED_ARRAY]', 'gi')
$body$;

-- The same in every expression of a plan.
CREATE FUNCTION _lantern_internal.mask_order_by_in_plan(json_data jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    IF pg_catalog.jsonb_typeof(json_data) = 'object' THEN
        RETURN (SELECT coalesce(pg_catalog.jsonb_object_agg(key, CASE
                WHEN key IN ('Order By', 'Filter', 'Sort Key', 'Index Cond', 'Join Filter', 'Output', 'Presorted Key')
                THEN _lantern_internal.mask_arrays(value::text)::jsonb
                ELSE _lantern_internal.mask_order_by_in_plan(value) END), '{}')
            FROM pg_catalog.jsonb_each(json_data));
    ELSIF pg_catalog.jsonb_typeof(json_data) = 'array' THEN
        RETURN (SELECT coalesce(pg_catalog.jsonb_agg(_lantern_internal.mask_order_by_in_plan(value) ORDER BY place), '[]')
            FROM pg_catalog.jsonb_array_elements(json_data) WITH ORDINALITY AS element(value, place));
    END IF;
    RETURN json_data;
END
$body$;

CREATE FUNCTION lantern.masked_explain(query text, do_analyze boolean = true, buffers boolean = true,
                                       costs boolean = true, timing boolean = true)
RETURNS text LANGUAGE plpgsql AS $body$
DECLARE
    plan jsonb;
BEGIN
    -- TIMING is refused without ANALYZE.
    EXECUTE pg_catalog.format('EXPLAIN (ANALYZE %s, BUFFERS %s, COSTS %s, %s FORMAT JSON) %s', do_analyze::text, buffers::text,
        costs::text, CASE WHEN do_analyze THEN pg_catalog.format('TIMING %s,', timing::text) END, query) INTO plan;
    RETURN pg_catalog.jsonb_pretty(_lantern_internal.mask_order_by_in_plan(plan));
END
$body$;

-- ---- product quantization ----

CREATE TYPE pqvec;
CREATE FUNCTION ldb_pqvec_in(cstring, oid, integer) RETURNS pqvec
    AS 'MODULE_PATHNAME', 'lantern_pqvec_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION ldb_pqvec_out(pqvec) RETURNS cstring
    AS 'MODULE_PATHNAME', 'lantern_pqvec_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION ldb_pqvec_recv(internal, oid, integer) RETURNS pqvec
    AS 'MODULE_PATHNAME', 'lantern_pqvec_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION ldb_pqvec_send(pqvec) RETURNS bytea
    AS 'MODULE_PATHNAME', 'lantern_pqvec_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE TYPE pqvec (INPUT = ldb_pqvec_in, OUTPUT = ldb_pqvec_out, RECEIVE = ldb_pqvec_recv, SEND = ldb_pqvec_send,
                   STORAGE = extended);
CREATE FUNCTION ldb_cast_array_pqvec(integer[], integer, boolean) RETURNS pqvec
    AS 'MODULE_PATHNAME', 'lantern_cast_array_pqvec' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION ldb_cast_pqvec_array(pqvec, integer, boolean) RETURNS integer[]
    AS 'MODULE_PATHNAME', 'lantern_cast_pqvec_array' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE CAST (integer[] AS pqvec) WITH FUNCTION ldb_cast_array_pqvec(integer[], integer, boolean) AS ASSIGNMENT;
CREATE CAST (pqvec AS integer[]) WITH FUNCTION ldb_cast_pqvec_array(pqvec, integer, boolean) AS ASSIGNMENT;

-- Centroids by k-means: [subvector][centroid][component].
CREATE FUNCTION _lantern_internal.create_pq_codebook(regclass, name, integer, integer, text, integer) RETURNS real[]
    AS 'MODULE_PATHNAME', 'lantern_create_pq_codebook' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
CREATE FUNCTION _lantern_internal.quantize_with_codebook(v real[], codebook regclass) RETURNS pqvec
    AS 'MODULE_PATHNAME', 'lantern_quantize_vector' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION _lantern_internal.dequantize_with_codebook(v pqvec, codebook regclass) RETURNS real[]
    AS 'MODULE_PATHNAME', 'lantern_dequantize_vector' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION _lantern_internal.check_pq_metric(distance_metric text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    IF distance_metric IS NULL OR distance_metric NOT IN ('l2sq', 'cos', 'hamming') THEN
        RAISE EXCEPTION 'Unsupported metric kind: % . Should be one of (l2sq, cos, hamming)', distance_metric
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$body$;

CREATE FUNCTION create_pq_codebook(p_tbl regclass, p_col name, cluster_cnt integer, subvector_count integer,
                                   distance_metric text, dataset_size_limit integer DEFAULT 0)
RETURNS name LANGUAGE plpgsql AS $body$
DECLARE
    tbl name := (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = p_tbl);
    codebook text := pg_catalog.format('pq_%s_%s', tbl, p_col);
    centroids real[];
BEGIN
    IF pg_catalog.octet_length(codebook) > 63 THEN
        RAISE EXCEPTION 'Codebook table name "%" exceeds 63 char limit', codebook USING ERRCODE = 'name_too_long';
    END IF;
    PERFORM _lantern_internal.check_pq_metric(distance_metric);
    centroids := _lantern_internal.create_pq_codebook(p_tbl, p_col, cluster_cnt, subvector_count, distance_metric,
                                                      dataset_size_limit);
    IF pg_catalog.to_regclass(pg_catalog.format('_lantern_internal.%I', codebook)) IS NOT NULL THEN
        EXECUTE pg_catalog.format('DROP TABLE _lantern_internal.%I', codebook);
    END IF;
    EXECUTE pg_catalog.format('CREATE UNLOGGED TABLE _lantern_internal.%I '
                              '(subvector_id integer, centroid_id integer, c real[])', codebook);
    EXECUTE pg_catalog.format('INSERT INTO _lantern_internal.%I SELECT s - 1, n - 1, array_agg($1[s][n][i] ORDER BY i) '
        'FROM generate_series(1, array_length($1, 1)) s, generate_series(1, array_length($1, 2)) n, '
        'generate_series(1, array_length($1, 3)) i GROUP BY s, n ORDER BY s, n', codebook) USING centroids;
    EXECUTE pg_catalog.format('CREATE INDEX ON _lantern_internal.%I (subvector_id, centroid_id)', codebook);
    EXECUTE pg_catalog.format('ALTER TABLE _lantern_internal.%I SET LOGGED', codebook);
    EXECUTE pg_catalog.format('CREATE TRIGGER readonly_guard BEFORE INSERT OR UPDATE OR DELETE ON _lantern_internal.%I '
                              'EXECUTE FUNCTION _lantern_internal.forbid_table_change()', codebook);
    RETURN codebook;
END
$body$;

CREATE FUNCTION quantize_vector(v real[], codebook regclass, distance_metric text) RETURNS pqvec
LANGUAGE plpgsql VOLATILE STRICT AS $body$
BEGIN
    PERFORM _lantern_internal.check_pq_metric(distance_metric);
    RETURN _lantern_internal.quantize_with_codebook(v, codebook);
END
$body$;

CREATE FUNCTION dequantize_vector(v pqvec, codebook regclass) RETURNS real[] LANGUAGE sql VOLATILE STRICT AS $body$
    SELECT _lantern_internal.dequantize_with_codebook(v, codebook)
$body$;

-- For generated columns, which ask for IMMUTABLE: a codebook does not change once it is made (its trigger sees to that).
CREATE FUNCTION _lantern_internal.quantize_vector(v real[], subvector_count integer, codebook regclass, distance_metric text)
RETURNS pqvec LANGUAGE plpgsql IMMUTABLE STRICT AS $body$
DECLARE
    code @extschema@.pqvec := _lantern_internal.quantize_with_codebook(v, codebook);
BEGIN
    IF pg_catalog.array_length(code::integer[], 1) <> subvector_count THEN
        RAISE EXCEPTION 'Codebook has % subvectors, but vector is quantized in % subvectors',
            pg_catalog.array_length(code::integer[], 1), subvector_count;
    END IF;
    RETURN code;
END
$body$;

CREATE FUNCTION quantize_table(p_tbl regclass, p_col name, cluster_cnt integer, subvector_count integer,
                               distance_metric text, dataset_size_limit integer DEFAULT 0)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    pq_col name := p_col || '_pq';
    codebook name;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = p_tbl AND a.attname = pq_col AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'Column % already exists in table', pq_col USING ERRCODE = 'duplicate_column';
    END IF;
    codebook := @extschema@.create_pq_codebook(p_tbl, p_col, cluster_cnt, subvector_count, distance_metric, dataset_size_limit);
    RAISE INFO 'Compressing vectors...';
    EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN %I @extschema@.pqvec GENERATED ALWAYS AS '
        '(_lantern_internal.quantize_vector(%I, %s, %L::regclass, %L)) STORED', p_tbl, pq_col, p_col, subvector_count,
        pg_catalog.format('_lantern_internal.%I', codebook), distance_metric);
END
$body$;

CREATE FUNCTION drop_quantization(p_tbl regclass, p_col name) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    tbl name := (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = p_tbl);
BEGIN
    EXECUTE pg_catalog.format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', p_tbl, p_col || '_pq');
    EXECUTE pg_catalog.format('DROP TABLE IF EXISTS _lantern_internal.%I', pg_catalog.format('pq_%s_%s', tbl, p_col));
END
$body$;

-- ---- pgvector: its type, when it is there ----

-- The type of pgvector, 0 when there is none.
CREATE FUNCTION _lantern_internal.get_vector_type_oid() RETURNS oid LANGUAGE sql STABLE AS $body$
    SELECT coalesce((SELECT t.oid
        FROM pg_catalog.pg_type t
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
            AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE t.typname = 'vector' AND e.extname = 'vector'), 0)
$body$;

DO $body$
DECLARE
    v text; -- the type, with its schema
    s text; -- the schema, where its operators are
    variant text;
    op text;
BEGIN
    SELECT pg_catalog.format('%I.vector', n.nspname), pg_catalog.quote_ident(n.nspname) INTO v, s
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid = _lantern_internal.get_vector_type_oid();
    IF v IS NULL THEN
        RAISE NOTICE 'pgvector extension not found. Skipping lantern weighted vector search setup';
        RETURN;
    END IF;
    EXECUTE pg_catalog.format($sql$
        CREATE FUNCTION @extschema@.l2sq_dist(%1$s, %1$s) RETURNS double precision
            AS 'MODULE_PATHNAME', 'lantern_vector_l2sq_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
        CREATE FUNCTION @extschema@.cos_dist(%1$s, %1$s) RETURNS double precision
            AS 'MODULE_PATHNAME', 'lantern_vector_cos_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
        CREATE FUNCTION @extschema@.ldb_generic_dist(%1$s, %1$s) RETURNS real
            AS 'MODULE_PATHNAME', 'lantern_generic_dist' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
        CREATE OPERATOR @extschema@.<?> (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = @extschema@.ldb_generic_dist,
            COMMUTATOR = '<?>');
        CREATE OPERATOR CLASS @extschema@.dist_vec_l2sq_ops DEFAULT FOR TYPE %1$s USING lantern_hnsw AS
            OPERATOR 1 @extschema@.<?> (%1$s, %1$s) FOR ORDER BY pg_catalog.float_ops,
            OPERATOR 2 %2$s.<-> (%1$s, %1$s) FOR ORDER BY pg_catalog.float_ops,
            FUNCTION 1 @extschema@.l2sq_dist(%1$s, %1$s), FUNCTION 2 @extschema@.l2sq_dist(%1$s, %1$s);
        CREATE OPERATOR CLASS @extschema@.dist_vec_cos_ops FOR TYPE %1$s USING lantern_hnsw AS
            OPERATOR 1 @extschema@.<?> (%1$s, %1$s) FOR ORDER BY pg_catalog.float_ops,
            OPERATOR 2 %2$s.<=> (%1$s, %1$s) FOR ORDER BY pg_catalog.float_ops,
            FUNCTION 1 @extschema@.cos_dist(%1$s, %1$s), FUNCTION 2 @extschema@.cos_dist(%1$s, %1$s);
        $sql$, v, s);

    -- Rows near several vectors at once: for each column its `ef` nearest rows, together ordered by the weighted sum.
    EXECUTE pg_catalog.format($sql$
        CREATE FUNCTION lantern.weighted_vector_search(
            relation_type anyelement, w1 numeric, col1 text, vec1 %1$s,
            w2 numeric = 0, col2 text = NULL, vec2 %1$s = NULL, w3 numeric = 0, col3 text = NULL, vec3 %1$s = NULL,
            ef integer = 100, max_dist numeric = NULL, distance_operator text = '<->', id_col text = 'id',
            exact boolean = false, debug_output boolean = false, analyze_output boolean = false)
        RETURNS TABLE ("row" anyelement) LANGUAGE plpgsql AS $function$
        DECLARE
            tbl regclass := (SELECT t.typrelid FROM pg_catalog.pg_type t WHERE t.oid = pg_typeof(relation_type));
            weights numeric[] := ARRAY[w1, w2, w3];
            cols text[] := ARRAY[col1, col2, col3];
            vecs %1$s[] := ARRAY[vec1, vec2, vec3];
            op text;
            parts text[] := '{}';
            terms text[] := '{}';
            query text;
            line text;
        BEGIN
            IF tbl IS NULL OR tbl = 0 THEN
                RAISE EXCEPTION 'relation_type must be a row of a table, for example NULL::items'
                    USING ERRCODE = 'wrong_object_type';
            END IF;
            IF distance_operator IS NULL OR distance_operator NOT IN ('<->', '<=>', '<#>', '<+>') THEN
                RAISE EXCEPTION 'distance_operator is %%, it must be <->, <=>, <#> or <+>', distance_operator
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            IF ef IS NULL OR ef < 1 THEN
                RAISE EXCEPTION 'ef is %%, it must be at least 1', ef USING ERRCODE = 'invalid_parameter_value';
            END IF;
            op := pg_catalog.format('OPERATOR(%%s)', %2$L || '.' || distance_operator);
            FOR i IN 1 .. 3 LOOP
                CONTINUE WHEN cols[i] IS NULL OR coalesce(weights[i], 0) = 0;
                IF vecs[i] IS NULL THEN
                    RAISE EXCEPTION 'vec%% is missing, though col%% is "%%"', i, i, cols[i]
                        USING ERRCODE = 'null_value_not_allowed';
                END IF;
                parts := parts || pg_catalog.format('(SELECT * FROM %%s ORDER BY %%I %%s ($1)[%%s] LIMIT %%s)',
                                                    tbl, cols[i], op, i, ef);
                terms := terms || pg_catalog.format('($2)[%%s] * (u.%%I %%s ($1)[%%s])::numeric', i, cols[i], op, i);
            END LOOP;
            IF pg_catalog.array_length(parts, 1) IS NULL THEN
                RAISE EXCEPTION 'no column with a weight' USING ERRCODE = 'invalid_parameter_value';
            END IF;
            IF exact THEN
                query := pg_catalog.format('SELECT * FROM %%s', tbl);
            ELSE
                query := pg_catalog.format('SELECT DISTINCT ON (%%I) * FROM (%%s) AS near', id_col,
                                           pg_catalog.array_to_string(parts, ' UNION ALL '));
            END IF;
            query := pg_catalog.format('SELECT u.* FROM (%%s) AS u%%s ORDER BY %%s', query,
                CASE WHEN max_dist IS NOT NULL
                     THEN pg_catalog.format(' WHERE %%s < %%L::numeric', pg_catalog.array_to_string(terms, ' + '), max_dist) END,
                pg_catalog.array_to_string(terms, ' + ')) || CASE WHEN exact THEN ' LIMIT ' || ef ELSE '' END;
            IF NOT exact THEN
                PERFORM pg_catalog.set_config('hnsw.ef_search', least(ef, 1000)::text, true);
            END IF;
            IF debug_output OR analyze_output THEN
                RAISE WARNING 'Query: %%', _lantern_internal.mask_arrays(query);
            END IF;
            IF analyze_output THEN
                FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS) ' || query USING vecs, weights LOOP
                    RAISE WARNING '%%', _lantern_internal.mask_arrays(line);
                END LOOP;
            END IF;
            RETURN QUERY EXECUTE query USING vecs, weights;
        END
        $function$;
        $sql$, v, s);
    FOR variant, op IN VALUES ('cos', '<=>'), ('l2sq', '<->') LOOP
        EXECUTE pg_catalog.format($sql$
            CREATE FUNCTION lantern.weighted_vector_search_%2$s(
                relation_type anyelement, w1 numeric, col1 text, vec1 %1$s,
                w2 numeric = 0, col2 text = NULL, vec2 %1$s = NULL, w3 numeric = 0, col3 text = NULL, vec3 %1$s = NULL,
                ef integer = 100, max_dist numeric = NULL, id_col text = 'id', exact boolean = false,
                debug_output boolean = false, analyze_output boolean = false)
            RETURNS TABLE ("row" anyelement) LANGUAGE sql AS $function$
                SELECT * FROM lantern.weighted_vector_search(relation_type, w1, col1, vec1, w2, col2, vec2, w3, col3, vec3,
                    ef, max_dist, %3$L, id_col, exact, debug_output, analyze_output)
            $function$;
            $sql$, v, variant, op);
    END LOOP;
END
$body$;

-- ---- statements that run later: pg_cron, when it is there ----

DO $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'cron') THEN
        RAISE NOTICE 'pg_cron extension not found. Skipping lantern async task setup';
        RETURN;
    END IF;
    CREATE TABLE lantern.tasks (
        jobid bigserial PRIMARY KEY,
        pg_cron_jobid bigint DEFAULT NULL,
        query text NOT NULL,
        pg_cron_job_name text DEFAULT NULL,
        job_name text DEFAULT NULL,
        username text NOT NULL DEFAULT current_user,
        started_at timestamp with time zone NOT NULL DEFAULT now(),
        duration interval,
        status text,
        error_message text
    );
    GRANT SELECT, INSERT, UPDATE, DELETE ON lantern.tasks TO PUBLIC;
    GRANT USAGE ON SEQUENCE lantern.tasks_jobid_seq TO PUBLIC;
    ALTER TABLE lantern.tasks ENABLE ROW LEVEL SECURITY;
    CREATE POLICY lantern_tasks_policy ON lantern.tasks USING (username OPERATOR(pg_catalog.=) current_user);

    -- A job that has ended is taken off the schedule, and its row is finished.
    CREATE FUNCTION _lantern_internal.async_task_finalizer_trigger() RETURNS trigger LANGUAGE plpgsql AS $function$
    DECLARE
        task lantern.tasks;
    BEGIN
        SELECT * INTO task FROM lantern.tasks t WHERE t.pg_cron_jobid = NEW.jobid;
        IF task.jobid IS NULL OR NEW.status IN ('starting', 'running', 'sending', 'connecting') THEN
            RETURN NEW;
        END IF;
        PERFORM cron.unschedule(NEW.jobid);
        UPDATE lantern.tasks t
        SET duration = coalesce(NEW.end_time, pg_catalog.clock_timestamp()) - coalesce(NEW.start_time, t.started_at),
            status = NEW.status, error_message = CASE WHEN NEW.status = 'succeeded' THEN NULL ELSE NEW.return_message END,
            pg_cron_job_name = NULL
        WHERE t.jobid = task.jobid;
        RETURN NEW;
    END
    $function$;
    CREATE TRIGGER status_change_trigger AFTER UPDATE OF status ON cron.job_run_details
        FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
        EXECUTE FUNCTION _lantern_internal.async_task_finalizer_trigger();

    CREATE FUNCTION lantern.async_task(query text, job_name text) RETURNS integer LANGUAGE plpgsql AS $function$
    DECLARE
        id bigint;
        cron_id bigint;
        cron_name text;
    BEGIN
        INSERT INTO lantern.tasks (query, job_name, status) VALUES (query, job_name, 'pending') RETURNING jobid INTO id;
        cron_name := 'async_task_' || id;
        cron_id := cron.schedule(cron_name, '1 seconds', query);
        UPDATE lantern.tasks t SET pg_cron_jobid = cron_id, pg_cron_job_name = cron_name WHERE t.jobid = id;
        RAISE NOTICE 'Job scheduled with pg_cron name: ''%''', cron_name;
        RETURN id;
    END
    $function$;
    CREATE FUNCTION lantern.async_task(query text) RETURNS integer LANGUAGE sql AS $function$
        SELECT lantern.async_task(query, '')
    $function$;
    CREATE FUNCTION lantern.cancel_all_async_tasks() RETURNS void LANGUAGE plpgsql AS $function$
    BEGIN
        PERFORM cron.unschedule(t.pg_cron_job_name) FROM lantern.tasks t WHERE t.duration IS NULL AND t.pg_cron_job_name IS NOT NULL;
        UPDATE lantern.tasks t
        SET duration = pg_catalog.clock_timestamp() - t.started_at, status = 'canceled', pg_cron_job_name = NULL,
            error_message = coalesce(t.error_message, 'Canceled by user')
        WHERE t.duration IS NULL;
    END
    $function$;
END
$body$;
