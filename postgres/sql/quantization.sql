-- Product quantization: the type, codebooks, quantized columns.
\i cube.psql
SELECT '{1,2,255}'::pqvec AS v, pg_column_size('{1,2,255}'::pqvec) AS bytes, '{7,8}'::pqvec::int[] AS array;
CREATE TABLE codes (v pqvec);
INSERT INTO codes VALUES (ARRAY[3, 4]);
SELECT v FROM codes;
SELECT '{1,256}'::pqvec;
SELECT '{-1}'::pqvec;
SELECT '{}'::pqvec;
SELECT ARRAY[0, 300]::pqvec;
SELECT '{1,x}'::pqvec;
SELECT ldb_pqvec_send('{1,2,255}');
CREATE TABLE t (id serial PRIMARY KEY, v real[], i int);
INSERT INTO t (v) SELECT ARRAY[i % 4, i % 4 + 1, (i / 4) % 3, 5] FROM generate_series(1, 240) i;
-- Refused.
SELECT create_pq_codebook('t', 'w', 4, 2, 'l2sq');
SELECT create_pq_codebook('t', 'v', 4, 0, 'l2sq');
SELECT create_pq_codebook('t', 'v', 4, 3, 'l2sq');
SELECT create_pq_codebook('t', 'v', 257, 2, 'l2sq');
SELECT create_pq_codebook('t', 'v', 250, 2, 'l2sq');
SELECT create_pq_codebook('t', 'v', 4, 2, 'l2sq', 3);
SELECT create_pq_codebook('t', 'v', 4, 2, 'manhattan');
CREATE TABLE a_table_with_a_name_that_is_rather_long (a_column_with_a_long_name real[]);
SELECT create_pq_codebook('a_table_with_a_name_that_is_rather_long', 'a_column_with_a_long_name', 4, 2, 'l2sq');
-- Made.
SELECT create_pq_codebook('t', 'v', 4, 2, 'l2sq');
SELECT count(*), min(subvector_id), max(subvector_id), max(centroid_id) FROM _lantern_internal.pq_t_v;
DELETE FROM _lantern_internal.pq_t_v;
-- Four different first halves and three second halves: every vector has a centroid of its own value.
SELECT max(v <-> dequantize_vector(quantize_vector(v, '_lantern_internal.pq_t_v', 'l2sq'), '_lantern_internal.pq_t_v')) < 0.6
    AS is_near FROM t;
SELECT quantize_table('t', 'v', 4, 2, 'l2sq');
SELECT count(*), count(DISTINCT v_pq::int[]) <= 16 AS few FROM t WHERE v_pq IS NOT NULL;
INSERT INTO t (v) VALUES ('{1,2,1,5}'), (NULL);
SELECT v_pq IS NULL AS none FROM t ORDER BY id DESC LIMIT 2;
SELECT quantize_table('t', 'v', 4, 2, 'l2sq');
SELECT quantize_vector('{1,2}', '_lantern_internal.pq_t_v', 'l2sq');
SELECT dequantize_vector('{1,2,3}', '_lantern_internal.pq_t_v');
SELECT dequantize_vector('{1,200}', '_lantern_internal.pq_t_v');
-- An index over a quantized column.
CREATE INDEX ON t USING lantern_hnsw (v) WITH (pq = true);
SELECT v FROM t ORDER BY v <-> '{1,2,1,5}' LIMIT 1;
SELECT drop_quantization('t', 'v');
REINDEX TABLE t;
SELECT to_regclass('_lantern_internal.pq_t_v') IS NULL AS is_gone;
