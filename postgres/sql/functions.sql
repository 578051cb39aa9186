-- Distances and operators.
CREATE EXTENSION lantern;
SELECT l2sq_dist('{0,0,0}'::real[], '{2,3,-4}');
SELECT ARRAY[0,0,0] <-> ARRAY[2,3,-4] AS d, pg_typeof(ARRAY[0,0,0] <-> ARRAY[2,3,-4]) AS type;
SELECT ARRAY[0,0,0]::real[] <-> ARRAY[2,3,-4] AS left, ARRAY[0,0,0] <-> ARRAY[2,3,-4]::real[] AS right,
    ARRAY[0,0,0]::real[] <-> ARRAY[2,3,-4]::real[] AS both;
SELECT cos_dist('{1,0}'::real[], '{0,1}'), cos_dist('{1,0}'::real[], '{-1,0}');
SELECT cos_dist('{0,0}'::real[], '{0,0}'), cos_dist('{0,0}'::real[], '{1,0}');
SELECT round(('{1,1,1}' <=> '{0,1,0}'::int[])::numeric, 2);
SELECT '{1,0,1}' <-> '{0,1,0}'::int[] AS l2, '{1,0,1}' <=> '{0,1,0}'::int[] AS cos, ARRAY[1,0,0] <+> ARRAY[0,1,0] AS bits;
SELECT ARRAY[.1,0,0] <=> ARRAY[0,.5,0] AS numerics;
SELECT hamming_dist('{5}', '{4}'), hamming_dist('{-1}', '{0}'), pg_typeof(hamming_dist('{5}', '{4}'));
SELECT l2sq_dist('{}'::real[], '{}'), cos_dist('{}'::real[], '{}'), hamming_dist('{}', '{}');
SELECT l2sq_dist(NULL, '{1}'::real[]) IS NULL AS l2, NULL::real[] <=> '{1}' IS NULL AS cos;
-- Several dimensions count as one list.
SELECT l2sq_dist('{{1,2},{3,4}}'::real[], '{1,2,3,4}');
-- More than any kernel's width, with a rest.
SELECT l2sq_dist(array_agg(i), array_agg(i + 1)) FROM (SELECT i::real FROM generate_series(1, 131) i) s(i);
SELECT hamming_dist(array_agg(0), array_agg(i)) FROM generate_series(1, 33) i;
-- Refused.
SELECT l2sq_dist('{1,2}'::real[], '{1,2,3}');
SELECT '{1,2}'::int[] <+> '{1}'::int[];
SELECT cos_dist('{1,NULL}'::real[], '{1,2}');
SELECT '{1}'::real[] <?> '{1}'::real[];
SELECT '{1}'::int[] <?> '{1}'::int[];
SELECT '{1}' <-> '{2}';
\echo :SQLSTATE
SELECT '{1}'::text[] <-> '{2}'::text[];
-- What the catalog says.
SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, p.provolatile, p.proisstrict, p.proparallel
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
    JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname = 'c' AND p.pronamespace = 'public'::regnamespace ORDER BY 1, 2;
SELECT o.oprname, o.oprleft::regtype, o.oprright::regtype, o.oprresult::regtype, o.oprcode, o.oprcom::regoperator AS commutator
FROM pg_operator o JOIN pg_depend d ON d.objid = o.oid AND d.classid = 'pg_operator'::regclass AND d.deptype = 'e'
ORDER BY o.oprname, o.oprleft::regtype::text;
SELECT c.opcname, c.opcintype::regtype, c.opcdefault, f.opfname, a.amopstrategy, a.amopopr::regoperator, s.opfname AS sort,
    amvalidate(c.oid)
FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_opfamily f ON f.oid = c.opcfamily
    JOIN pg_amop a ON a.amopfamily = f.oid JOIN pg_opfamily s ON s.oid = a.amopsortfamily
WHERE m.amname = 'lantern_hnsw' ORDER BY 1, a.amopstrategy;
SELECT extname, extrelocatable FROM pg_extension WHERE extname = 'lantern';
CREATE SCHEMA elsewhere;
ALTER EXTENSION lantern SET SCHEMA elsewhere;
SELECT nspname FROM pg_namespace WHERE nspname LIKE '%lantern%' ORDER BY 1;
DROP EXTENSION lantern;
SELECT nspname FROM pg_namespace WHERE nspname LIKE '%lantern%' ORDER BY 1;
-- In another schema: names need it, the access method does not.
CREATE EXTENSION lantern WITH SCHEMA elsewhere;
SELECT elsewhere.l2sq_dist('{1}', '{3}');
SELECT l2sq_dist('{1}', '{3}');
SELECT ARRAY[1] OPERATOR(elsewhere.<->) ARRAY[3] AS d;
