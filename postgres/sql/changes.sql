-- Writes, and what they ask of an index.
\i cube.psql
CREATE INDEX ci ON c USING lantern_hnsw (v);
INSERT INTO c VALUES (9, '{1,2}');
COPY c FROM stdin;
9	{1,2}
\.
INSERT INTO c VALUES (9, '{}');
INSERT INTO c VALUES (9, '{1,NULL,2}');
INSERT INTO c VALUES (9, '{1,NaN,2}');
INSERT INTO c VALUES (9, '{1,2,-Infinity}');
INSERT INTO c VALUES (9, NULL);
SELECT (SELECT count(*) FROM (SELECT id FROM c ORDER BY v <-> '{0,0,0}') s) AS by_index, count(*) FROM c;
UPDATE c SET v = '{5,5,5}' WHERE id = 0;
SELECT id, v FROM c ORDER BY v <-> '{5,5,5}' LIMIT 1;
UPDATE c SET id = 100 WHERE id = 7;
SELECT id FROM c ORDER BY v <-> '{1,1,1}' LIMIT 1;
DELETE FROM c WHERE id = 100;
VACUUM c;
SELECT count(*) FROM (SELECT id FROM c ORDER BY v <-> '{0,0,0}') s;
SELECT _lantern_internal.validate_index('ci', false);
SELECT * FROM lantern_hnsw_check('ci', true);
-- Heap tuples that are used again must not bring old rows back.
DELETE FROM c WHERE id <> 1;
VACUUM c;
INSERT INTO c SELECT 200 + i, ARRAY[i, i, i] FROM generate_series(1, 6) i;
SELECT id FROM c ORDER BY v <-> '{0,0,1}';
SELECT * FROM lantern_hnsw_check('ci', true);
-- An empty index: made with a dimension, emptied, refilled.
CREATE TABLE empty (id int, v real[]);
CREATE INDEX empty_i ON empty USING lantern_hnsw (v) WITH (dim = 3);
SELECT id FROM empty ORDER BY v <-> '{1,1,1}';
VACUUM empty;
INSERT INTO empty VALUES (1, '{1,1,1}'), (2, '{0,0,0}');
SELECT id FROM empty ORDER BY v <-> '{1,1,1}';
INSERT INTO empty VALUES (3, '{1,1}');
TRUNCATE empty;
SELECT id FROM empty ORDER BY v <-> '{1,1,1}';
INSERT INTO empty VALUES (4, '{1,1,1}');
SELECT id FROM empty ORDER BY v <-> '{1,1,1}';
-- A dimension that was never said: after TRUNCATE the next row tells it.
TRUNCATE c;
INSERT INTO c VALUES (1, '{1,2}'), (2, '{3,4}');
SELECT id FROM c ORDER BY v <-> '{3,3}' LIMIT 1;
INSERT INTO c VALUES (3, '{1,2,3}');
SELECT * FROM lantern_hnsw_check('ci', true);
-- Rebuilds.
REINDEX INDEX ci;
REINDEX INDEX CONCURRENTLY ci;
VACUUM FULL c;
ALTER TABLE c ALTER COLUMN id TYPE bigint;
SELECT id FROM c ORDER BY v <-> '{3,3}';
SELECT _lantern_internal.reindex_lantern_indexes();
CREATE INDEX CONCURRENTLY cc ON c USING lantern_hnsw (v dist_cos_ops);
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'c'::regclass ORDER BY 1;
-- Unlogged, temporary, partitioned.
CREATE UNLOGGED TABLE u (id int, v real[]);
INSERT INTO u VALUES (1, '{1,1}'), (2, '{2,2}');
CREATE INDEX ui ON u USING lantern_hnsw (v);
INSERT INTO u VALUES (3, '{3,3}');
SELECT id FROM u ORDER BY v <-> '{3,3}' LIMIT 2;
ALTER TABLE u SET LOGGED;
SELECT id FROM u ORDER BY v <-> '{3,3}' LIMIT 2;
ALTER TABLE u SET UNLOGGED;
SELECT id FROM u ORDER BY v <-> '{3,3}' LIMIT 2;
CREATE TEMP TABLE t (id int, v real[]);
INSERT INTO t VALUES (1, '{1,1}'), (2, '{2,2}');
CREATE INDEX ON t USING lantern_hnsw (v);
INSERT INTO t VALUES (3, '{3,3}');
SELECT id FROM t ORDER BY v <-> '{3,3}' LIMIT 2;
CREATE TABLE parts (id int, v real[]) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts SELECT i, ARRAY[i, -i] FROM generate_series(0, 19) i;
CREATE INDEX ON parts USING lantern_hnsw (v);
SELECT id FROM parts ORDER BY v <-> '{11,-10}' LIMIT 2;
-- A failed statement and a rolled back one leave no trace.
BEGIN;
INSERT INTO u VALUES (4, '{4,4}');
SAVEPOINT s;
INSERT INTO u VALUES (5, '{5}');
ROLLBACK TO s;
INSERT INTO u VALUES (6, '{6,6}');
COMMIT;
SELECT id FROM u ORDER BY v <-> '{6,6}' LIMIT 2;
SELECT * FROM lantern_hnsw_check('ui', true);
-- Rows in one place.
CREATE TABLE d (id int, v real[]);
INSERT INTO d SELECT i, '{1,1}' FROM generate_series(1, 1000) i;
INSERT INTO d SELECT 1000 + i, ARRAY[i, i] FROM generate_series(2, 11) i;
CREATE INDEX di ON d USING lantern_hnsw (v);
SET lantern_hnsw.init_k = 3;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM d ORDER BY v <-> '{1,1}' LIMIT 200) s;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM d ORDER BY v <-> '{1,1}' LIMIT 2000) s;
SELECT id FROM d WHERE id > 1000 ORDER BY v <-> '{1,1}' LIMIT 2;
DELETE FROM d WHERE id < 900;
VACUUM d;
SELECT count(*) FROM (SELECT id FROM d ORDER BY v <-> '{1,1}') s;
SELECT * FROM lantern_hnsw_check('di', true);
