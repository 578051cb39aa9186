-- What the planner does with an index, and what a scan gives.
\i cube.psql
CREATE INDEX ci ON c USING lantern_hnsw (v);
SELECT round((v <-> '{0,0,0}')::numeric, 2) AS d FROM c ORDER BY v <-> '{0,0,0}';
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY v <-> '{1,0,0}' LIMIT 1;
SELECT id FROM c ORDER BY v <-> '{1,0,0}' LIMIT 1;
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY '{0,0,0}'::real[] <-> v LIMIT 1;
EXPLAIN (COSTS OFF) SELECT id FROM c WHERE id > 3 ORDER BY v <-> '{0,0,0}' LIMIT 1;
SELECT id FROM c WHERE id > 3 ORDER BY v <-> '{0,0,0}' LIMIT 1;
SELECT id FROM c WHERE id IN (7, 5) ORDER BY v <-> '{0,0,0}' LIMIT 10;
-- Not with the index.
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY v <-> '{1,0,0}' DESC LIMIT 1;
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY l2sq_dist(v, '{1,0,0}') LIMIT 1;
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY v <=> '{1,0,0}' LIMIT 1;
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY (v <-> '{1,0,0}') + 1 LIMIT 1;
EXPLAIN (COSTS OFF) SELECT count(*) FROM c WHERE v <-> '{1,0,0}' < 0.5;
RESET enable_seqscan;
EXPLAIN (COSTS OFF) SELECT count(*) FROM c;
SET enable_seqscan = off;
-- Joins, subqueries, functions.
EXPLAIN (COSTS OFF) SELECT a.id, b.id FROM c a, LATERAL (SELECT id FROM c ORDER BY c.v <-> a.v LIMIT 1) b WHERE a.id < 4;
SELECT a.id, b.id FROM c a, LATERAL (SELECT id FROM c ORDER BY c.v <-> a.v LIMIT 1) b ORDER BY a.id;
WITH near AS (SELECT id FROM c ORDER BY v <-> '{1,1,1}' LIMIT 4) SELECT count(*), max(id) FROM near;
SELECT DISTINCT d FROM (SELECT v <-> '{0,0,0}' AS d FROM c ORDER BY v <-> '{0,0,0}' LIMIT 5) s ORDER BY 1;
(SELECT id FROM c ORDER BY v <-> '{0,0,0}' LIMIT 1) UNION ALL (SELECT id FROM c ORDER BY v <-> '{1,1,1}' LIMIT 1);
CREATE FUNCTION nearest(q real[]) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT id FROM c ORDER BY v <-> q LIMIT 1);
END
$$;
SELECT nearest('{1,1,0}'), nearest('{0,0,1}');
-- Prepared, with a value and with NULL.
SET plan_cache_mode = force_generic_plan;
PREPARE near (real[]) AS SELECT id FROM c ORDER BY v <-> $1;
EXPLAIN (COSTS OFF) EXECUTE near('{1,1,1}');
SELECT count(*) FROM (SELECT 1) one, LATERAL (SELECT id FROM c ORDER BY v <-> '{1,1,1}') s;
EXECUTE near(NULL);
EXECUTE near('{1,1}');
-- Batches.
SET lantern_hnsw.init_k = 4;
SELECT count(*) FROM (SELECT id FROM c ORDER BY v <-> '{0,0,0}' LIMIT 3) s;
SELECT count(*) FROM (SELECT id FROM c ORDER BY v <-> '{0,0,0}' LIMIT 15) s;
RESET lantern_hnsw.init_k;
-- Cursors go forward.
BEGIN;
DECLARE one CURSOR FOR SELECT v <-> '{0,0,0}' AS d FROM c ORDER BY v <-> '{0,0,0}';
FETCH 1 FROM one;
FETCH 2 FROM one;
FETCH BACKWARD 1 FROM one;
\echo :SQLSTATE
ROLLBACK;
BEGIN;
DECLARE one SCROLL CURSOR FOR SELECT v <-> '{0,0,0}' AS d FROM c ORDER BY v <-> '{0,0,0}';
FETCH 3 FROM one;
FETCH BACKWARD 1 FROM one;
ROLLBACK;
-- Queries that do not fit.
SELECT id FROM c ORDER BY v <-> '{0,0}' LIMIT 1;
SELECT id FROM c ORDER BY v <-> '{0,0,NULL}' LIMIT 1;
SELECT id FROM c ORDER BY v <-> '{0,0,NaN}' LIMIT 1;
SELECT id FROM c ORDER BY v <?> '{0,0,0}' LIMIT 1;
DROP INDEX ci;
-- Cosine.
CREATE INDEX ci ON c USING lantern_hnsw (v dist_cos_ops);
SELECT round((v <=> '{0,1,0}')::numeric, 2) AS d FROM c ORDER BY v <=> '{0,1,0}';
EXPLAIN (COSTS OFF) SELECT id FROM c ORDER BY v <=> ARRAY[1,1,1] LIMIT 3;
DROP INDEX ci;
-- Hamming.
CREATE TABLE h (v int[]);
INSERT INTO h VALUES ('{0,0}'), ('{1,1}'), ('{2,2}'), ('{3,3}');
CREATE INDEX hi ON h USING lantern_hnsw (v dist_hamming_ops);
EXPLAIN (COSTS OFF) SELECT v FROM h ORDER BY v <+> '{0,0}';
SELECT v <+> '{0,0}' AS d FROM h ORDER BY v <+> '{0,0}';
SELECT v FROM h ORDER BY v <+> '{0}';
-- Partial and expression indexes.
CREATE TABLE p (grp int, v real[]);
INSERT INTO p SELECT i % 2, ARRAY[i, i] FROM generate_series(1, 12) i;
CREATE INDEX pi ON p USING lantern_hnsw (v) WHERE grp = 1;
EXPLAIN (COSTS OFF) SELECT v FROM p WHERE grp = 1 ORDER BY v <-> '{7,7}' LIMIT 3;
SELECT v[1], v <-> '{7,7}' AS d FROM p WHERE grp = 1 ORDER BY v <-> '{7,7}' LIMIT 1;
EXPLAIN (COSTS OFF) SELECT v FROM p WHERE grp = 0 ORDER BY v <-> '{7,7}' LIMIT 3;
CREATE TABLE e (a int, b int, v real[]);
INSERT INTO e SELECT i, i, ARRAY[i, i] FROM generate_series(1, 9) i;
CREATE INDEX ei ON e USING lantern_hnsw ((ARRAY[a::real, b::real]));
EXPLAIN (COSTS OFF) SELECT a FROM e ORDER BY ARRAY[a::real, b::real] <-> '{7,7}' LIMIT 1;
SELECT a FROM e ORDER BY ARRAY[a::real, b::real] <-> '{7,7}' LIMIT 1;
CREATE INDEX ON e USING lantern_hnsw (cast(v AS int[]) dist_hamming_ops);
EXPLAIN (COSTS OFF) SELECT a FROM e ORDER BY v::int[] <+> '{7,7}' LIMIT 1;
SELECT a FROM e ORDER BY v::int[] <+> '{7,7}' LIMIT 1;
CREATE FUNCTION made(n int) RETURNS real[] IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE WHEN n > 8 THEN ARRAY[n] ELSE ARRAY[n, n] END;
END
$$;
CREATE INDEX ON e USING lantern_hnsw (made(a));
DELETE FROM e WHERE a > 8;
CREATE INDEX ON e USING lantern_hnsw (made(a));
SELECT a FROM e ORDER BY made(a) <-> '{3,3}' LIMIT 1;
