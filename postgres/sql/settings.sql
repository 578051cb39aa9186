-- Settings: names, defaults, ranges.
CREATE EXTENSION lantern;
\c
SHOW lantern_hnsw.init_k;
-- Set before the library is loaded, read after it.
SET lantern.pgvector_compat = false;
SET lantern_hnsw.ef = 77;
SELECT l2sq_dist('{1}'::real[], '{3}');
SHOW lantern.pgvector_compat;
SHOW lantern_hnsw.ef;
SHOW lantern_hnsw.init_k;
SET lantern_hnsw.init_k = 45;
SHOW lantern_hnsw.init_k;
RESET ALL;
SHOW lantern_hnsw.init_k;
SELECT name, setting, vartype, context, min_val, max_val, enumvals FROM pg_settings
WHERE name ~ 'lantern' ORDER BY name COLLATE "C";
SET lantern_hnsw.init_k = 0;
\echo :SQLSTATE
SET lantern_hnsw.init_k = 1001;
SET lantern_hnsw.ef = 401;
SET lantern.external_index_port = 79;
SET lantern.external_index_port = 65536;
SET lantern.external_index_port = 'x';
SET lantern.external_index_secure = maybe;
SET lantern.external_index_tls_verify = perhaps;
SET lantern.external_index_protocol = 3;
SET lantern.nosuch = 1;
\echo :SQLSTATE
SET lantern_hnsw.nosuch = 1;
-- What the server reads with its own rights, and who may be connected to, is for administrators.
CREATE ROLE settings_user;
GRANT ALL ON SCHEMA public TO settings_user;
SET ROLE settings_user;
SET lantern.external_index_ca_file = '/etc/passwd';
SET lantern.external_index_allowed_hosts = '';
SET lantern.external_index_host = 'example.com';
SET lantern.external_index_token = 'a secret of this session';
RESET ROLE;
SELECT count(*) FROM pg_settings WHERE name = 'lantern.external_index_token';
DROP OWNED BY settings_user;
DROP ROLE settings_user;
