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
