-- Options of an index: ranges, messages, what is stored.
\i cube.psql
CREATE INDEX ON c USING lantern_hnsw (v) WITH (m = 1);
\echo :SQLSTATE
CREATE INDEX ON c USING lantern_hnsw (v) WITH (m = 129);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (ef = 0);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (ef = 401);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (ef_construction = 0);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (ef_construction = 401);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (dim = 0);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (dim = 16001);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (quant_bits = 3);
\echo :SQLSTATE
CREATE INDEX ON c USING lantern_hnsw (v) WITH (quant_bits = 0);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (external = maybe);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (dims = 3);
\echo :SQLSTATE
CREATE INDEX ON c USING lantern_hnsw (v) WITH (quant_bits = 2);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (quant_bits = 4);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (pq);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (pq, quant_bits = 8);
CREATE INDEX ON c USING lantern_hnsw (v) WITH (_experimental_index_path = '/x');
CREATE INDEX ON c USING lantern_hnsw (v) WITH (dim = 4);
SELECT count(*) AS indexes FROM pg_indexes WHERE tablename = 'c' AND indexdef LIKE '%lantern%';
-- Columns and forms that cannot be indexed.
CREATE TABLE x (a int, i int[], r real[], t text[]);
CREATE INDEX ON x USING lantern_hnsw (a);
\echo :SQLSTATE
CREATE INDEX ON x USING lantern_hnsw (i);
\echo :SQLSTATE
CREATE INDEX ON x USING lantern_hnsw (r dist_hamming_ops);
\echo :SQLSTATE
CREATE INDEX ON x USING lantern_hnsw (t dist_l2sq_ops);
CREATE UNIQUE INDEX ON c USING lantern_hnsw (v);
\echo :SQLSTATE
CREATE INDEX ON x USING lantern_hnsw (r, r);
CREATE INDEX ON c USING lantern_hnsw (v) INCLUDE (id);
CREATE INDEX ON c USING lantern_hnsw (v DESC);
CREATE INDEX ON c USING hnsw (v);
\echo :SQLSTATE
-- No dimension to be found.
CREATE INDEX ON x USING lantern_hnsw (r);
INSERT INTO x (r) VALUES (NULL), ('{1,2,3}');
CREATE INDEX ON x USING lantern_hnsw (r);
-- What is stored and what may be changed.
CREATE INDEX ON c USING lantern_hnsw (v dist_cos_ops) WITH (M = 12, ef_construction = 64);
CREATE INDEX ci ON c USING lantern_hnsw (v);
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'c' AND indexdef LIKE '%lantern%' ORDER BY 1;
SELECT pg_relation_size('ci') % 8192 AS rest;
ALTER INDEX ci SET (ef = 10);
ALTER INDEX ci SET (m = 200);
ALTER INDEX ci SET (m = 20);
INSERT INTO c VALUES (8, '{2,2,2}');
SELECT id FROM c ORDER BY v <-> '{2,2,3}' LIMIT 1;
ALTER INDEX ci RESET (ef);
REINDEX INDEX ci;
SELECT id FROM c ORDER BY v <-> '{2,2,3}' LIMIT 1;
SELECT p, pg_index_has_property('ci', p) AS has
FROM unnest('{clusterable,index_scan,bitmap_scan,backward_scan}'::text[]) p;
SELECT p, pg_index_column_has_property('ci', 1, p) AS has
FROM unnest('{orderable,distance_orderable,returnable,search_array,search_nulls}'::text[]) p;
SELECT p, pg_indexam_has_property((SELECT oid FROM pg_am WHERE amname = 'lantern_hnsw'), p) AS has
FROM unnest('{can_order,can_unique,can_multi_col,can_exclude,can_include}'::text[]) p;
CLUSTER c USING ci;
\echo :SQLSTATE
-- The messages of builds can be turned off.
SET lantern.build_messages = off;
REINDEX INDEX ci;
