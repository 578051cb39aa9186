-- What looks after indexes.
\i cube.psql
CREATE INDEX ci ON c USING lantern_hnsw (v);
SELECT _lantern_internal.validate_index('ci', false);
SELECT _lantern_internal.validate_index('ci');
SELECT _lantern_internal.validate_index('c_pkey');
SELECT _lantern_internal.validate_index('c');
SELECT * FROM lantern_hnsw_check('ci');
SELECT * FROM lantern_hnsw_check('c_pkey');
SELECT count(*) > 0 AS some FROM lantern_hnsw_stats('ci');
SELECT lantern_reindex_external_index('ci');
SELECT lantern_reindex_external_index('c_pkey');
SELECT _lantern_internal.reindex_lantern_indexes();
SELECT _lantern_internal.failure_point_enable('f', 'p');
-- Constants are not shown.
SELECT lantern.masked_explain('SELECT id FROM c ORDER BY v <-> ''{1,2,3}'' LIMIT 1', do_analyze => false, buffers => false,
    costs => false);
SELECT lantern.masked_explain('SELECT id FROM c ORDER BY v <-> ARRAY[1,2,3] LIMIT 1', timing => false) LIKE '%Actual Rows%' AS ran;
SELECT lantern.masked_explain('SELECT 1') LIKE '%Execution Time%' AS ran;
SELECT _lantern_internal.mask_arrays('(v <-> ''{1,2}''::real[]) (w <=> ''[1,2]''::vector) ARRAY[1, 2]');
-- Who may not read a table may not look into its index.
CREATE ROLE maintenance_user;
SET ROLE maintenance_user;
SELECT _lantern_internal.validate_index('ci', false);
SELECT _lantern_internal.reindex_lantern_indexes();
RESET ROLE;
DROP ROLE maintenance_user;
