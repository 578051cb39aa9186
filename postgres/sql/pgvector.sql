-- Columns of pgvector's type.
\set QUIET on
CREATE SCHEMA vec;
CREATE EXTENSION vector WITH SCHEMA vec;
CREATE EXTENSION lantern;
SET search_path = public, vec;
SELECT opcname, opcintype::regtype, opcdefault, amvalidate(oid) FROM pg_opclass
WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'lantern_hnsw') AND opcname LIKE '%vec%' ORDER BY 1;
SELECT l2sq_dist('[1,2,3]'::vector, '[0,0,0]'), round(cos_dist('[1,0]'::vector, '[1,1]')::numeric, 4), pg_typeof(l2sq_dist('[1]'::vector, '[1]'));
SELECT round(('[1,2,3]'::vector <-> '[0,0,0]')::numeric, 4) AS root;
SELECT l2sq_dist('[1,2,3]'::vector, '[0,0]');
SELECT '[1]'::vector <?> '[1]'::vector;
CREATE TABLE t (id int, v vector(3), free vector, wide vector(16000));
INSERT INTO t SELECT i, ARRAY[i >> 2 & 1, i >> 1 & 1, i & 1]::real[]::vector FROM generate_series(0, 7) i;
SET enable_seqscan = off;
CREATE INDEX ON t USING lantern_hnsw (v);
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> '[0,1,0]' LIMIT 3;
SELECT round(l2sq_dist(v, '[0,1,0]')::numeric, 2) AS d FROM t ORDER BY v <-> '[0,1,0]';
SELECT round((v <-> '[0,1,0]')::numeric, 2) AS d FROM t ORDER BY v <-> '[0,1,0]';
INSERT INTO t VALUES (8, '[5,5,5]');
SELECT id FROM t ORDER BY v <-> '[5,5,4]' LIMIT 1;
SELECT id FROM t ORDER BY v <-> '[5,5]' LIMIT 1;
DROP INDEX t_v_idx;
CREATE INDEX ON t USING lantern_hnsw (v dist_vec_cos_ops);
SELECT round((v <=> '[0,1,0]')::numeric, 2) AS d FROM t ORDER BY v <=> '[0,1,0]';
-- The dimension comes from the type.
CREATE INDEX ON t USING lantern_hnsw (free);
CREATE INDEX ON t USING lantern_hnsw ((free::vector(3)));
CREATE INDEX ON t USING lantern_hnsw (wide);
-- Both extensions' indexes on one table.
CREATE TABLE both_ (id int, v vector(2));
INSERT INTO both_ SELECT i, ARRAY[i, i % 7]::real[]::vector FROM generate_series(1, 2000) i;
CREATE INDEX ON both_ USING hnsw (v vector_l2_ops);
CREATE INDEX ON both_ USING lantern_hnsw (v) WITH (m = 8);
SELECT id FROM both_ ORDER BY v <-> '[100.2,2]' LIMIT 3;
SELECT * FROM lantern_hnsw_check('both__v_idx1', true);
-- Weighted search.
CREATE TABLE items (id int PRIMARY KEY, a vector(2), b vector(2));
INSERT INTO items SELECT i, ARRAY[i, 0]::real[]::vector, ARRAY[0, 10 - i]::real[]::vector FROM generate_series(1, 10) i;
SELECT id FROM lantern.weighted_vector_search(NULL::items, 1, 'a', '[2.9,0]', ef => 4);
SELECT id FROM lantern.weighted_vector_search(NULL::items, 1, 'a', '[3,0]', 10, 'b', '[0,5]', ef => 3) LIMIT 2;
SELECT id FROM lantern.weighted_vector_search_l2sq(NULL::items, 1, 'a', '[3,0]', 10, 'b', '[0,5]', exact => true, ef => 2);
SELECT count(*) FROM lantern.weighted_vector_search_cos(NULL::items, 1, 'a', '[3,0]', max_dist => 0.5, ef => 5);
SELECT id FROM lantern.weighted_vector_search(NULL::items, 1, 'a"; DROP TABLE items; --', '[3,0]');
SELECT id FROM lantern.weighted_vector_search(NULL::items, 1, 'a', '[3,0]', distance_operator => '<-> v, (SELECT 1)');
SELECT id FROM lantern.weighted_vector_search(NULL::items, 1, 'a', NULL);
SELECT lantern.masked_explain('SELECT id FROM t ORDER BY v <=> ''[1,2,3]'' LIMIT 1', false, false, false) LIKE '%[MASKED_VECTOR]%' AS masked;
