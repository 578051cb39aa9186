// Files exchanged with the npm package `usearch`, both ways, searched by both, recall compared with exact search.
//
//     node test.mjs ANNEX_PROGRAM SCRATCH_DIRECTORY [PACKAGES_DATA_DIRECTORY]
//
// Rows are the first 10,000 package descriptions (384 dimensions, cosine) where the data set is at hand, else clustered
// random rows of the same shape.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import usearch from "usearch";

const [annex, scratch, data] = process.argv.slice(2);
const N = 10000, N_QUERY = 200, K = 10, EF = 256, TOLERANCE = 0.005;

function halfToFloat(h) {
  const sign = h & 0x8000 ? -1 : 1, exponent = (h >> 10) & 31, fraction = h & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// The first rows of a float16 .npy file.
function readRows(path, n) {
  const file = readFileSync(path);
  const begin = 10 + file.readUInt16LE(8);
  const dim = Number(/\((\d+), (\d+)\)/.exec(file.toString("latin1", 10, begin))[2]);
  const rows = new Float32Array(n * dim);
  for (let i = 0; i < rows.length; i++) rows[i] = halfToFloat(file.readUInt16LE(begin + 2 * i));
  return { rows, dim };
}

function makeRows() {
  const dim = 384, centers = 64;
  let state = 1;
  const random = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32) - 0.5;
  const center = Float32Array.from({ length: centers * dim }, random);
  const draw = (n) => {
    const rows = new Float32Array(n * dim);
    for (let i = 0; i < n; i++) {
      const c = Math.floor((random() + 0.5) * centers) % centers;
      for (let j = 0; j < dim; j++) rows[i * dim + j] = center[c * dim + j] + 0.7 * random();
    }
    return rows;
  };
  return { dim, base: draw(N), queries: draw(N_QUERY) };
}

function writeNpy(name, kind, shape, array) {
  let head = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`;
  head = head.padEnd(117, " ") + "\n";
  const lead = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, head.length & 255, head.length >> 8]);
  const path = join(scratch, name);
  writeFileSync(path, Buffer.concat([lead, Buffer.from(head), Buffer.from(array.buffer, array.byteOffset, array.byteLength)]));
  return path;
}

const run = (...words) => execFileSync(annex, words, { encoding: "utf8" });
const recallOf = (text) => Number(/recall@\d+ ([0-9.]+)/.exec(text)[1]);

function load() {
  if (!data || !existsSync(join(data, "base.npy"))) return { name: "clustered random rows", ...makeRows() };
  const base = readRows(join(data, "base.npy"), N), queries = readRows(join(data, "queries.npy"), N_QUERY);
  return { name: "packages", dim: base.dim, base: base.rows, queries: queries.rows };
}

const set = load();
const keys = BigUint64Array.from({ length: N }, (_, i) => BigInt(i));
const newIndex = (quantization = "f32", metric = "cos", ef = EF) =>
  new usearch.Index({ dimensions: set.dim, metric, quantization, connectivity: 16, expansion_add: 200, expansion_search: ef });

// Exact answers by brute force, in double precision.
function exact(skip) {
  const length = (rows, i) => {
    let sum = 0;
    for (let j = 0; j < set.dim; j++) sum += rows[i * set.dim + j] ** 2;
    return Math.sqrt(sum);
  };
  const lengths = Float64Array.from({ length: N }, (_, i) => length(set.base, i));
  const truth = new Int32Array(N_QUERY * K);
  for (let q = 0; q < N_QUERY; q++) {
    const distance = new Float64Array(N);
    for (let i = 0; i < N; i++) {
      let dot = 0;
      for (let j = 0; j < set.dim; j++) dot += set.queries[q * set.dim + j] * set.base[i * set.dim + j];
      distance[i] = skip(i) ? Infinity : -dot / lengths[i];
    }
    const order = Uint32Array.from({ length: N }, (_, i) => i).sort((a, b) => distance[a] - distance[b] || a - b);
    truth.set(order.subarray(0, K), q * K);
  }
  return truth;
}

function recallByPackage(index, truth) {
  const found = index.search(set.queries, K, 1);
  let hits = 0;
  for (let q = 0; q < N_QUERY; q++) {
    const want = new Set(truth.subarray(q * K, (q + 1) * K));
    for (const key of found.get(q).keys) hits += want.has(Number(key)) ? 1 : 0;
  }
  return hits / (N_QUERY * K);
}

let n_checked = 0;
function compare(what, ours, theirs) {
  console.log(`${what}: recall@${K} by annex ${ours.toFixed(4)}, by usearch ${theirs.toFixed(4)}`);
  assert.ok(Math.abs(ours - theirs) <= TOLERANCE, `${what}: recalls differ by more than ${TOLERANCE}`);
  assert.ok(Math.min(ours, theirs) > 0.95, `${what}: recall is low`);
  n_checked++;
}

const basePath = writeNpy("base.npy", "<f4", [N, set.dim], set.base);
const queryPath = writeNpy("queries.npy", "<f4", [N_QUERY, set.dim], set.queries);
console.log(`${set.name}: ${N} rows of ${set.dim}, ${N_QUERY} queries, ef ${EF}`);
const truth = exact(() => false);
const truthPath = writeNpy("truth.npy", "<i4", [N_QUERY, K], truth);
const searchByUs = (file, truthFile = truthPath) =>
  recallOf(run("index", "search", file, "--queries", queryPath, "--truth", truthFile, "--k", String(K), "--ef", String(EF)));

// Ours, read by the package: with checksums, plain, and with our own sections.
const our = join(scratch, "ours.usearch");
run("build", "--from", basePath, "--out", our, "--metric", "cosine", "--format", "usearch", "--quiet");
for (const [name, ...options] of [["checksums"], ["plain", "--plain"], ["native", "--native"]]) {
  const file = join(scratch, `ours-${name}.usearch`);
  run("index", "convert", our, "--to", "usearch", "--out", file, ...options);
  run("index", "verify", file);
  const ours = searchByUs(file);
  for (const how of ["load", "view"]) {
    const index = newIndex();
    index[how](file);
    assert.equal(index.size(), N);
    assert.equal(index.dimensions(), set.dim);
    compare(`our file (${name}), usearch ${how}`, ours, recallByPackage(index, truth));
  }
}

// Theirs, read by us; once more after rows were removed there.
const index = newIndex();
index.add(keys, set.base, 0);
const their = join(scratch, "theirs.usearch");
index.save(their);
run("index", "verify", their);
compare("usearch file", searchByUs(their), recallByPackage(index, truth));

// The graph itself: with a short candidate list, where a poor graph shows, the package must find in ours what it finds in its
// own.
for (const ef of [16, 32, 64]) {
  const [a, b] = [our, their].map((file) => {
    const loaded = newIndex("f32", "cos", ef);
    loaded.load(file);
    return recallByPackage(loaded, truth);
  });
  console.log(`usearch at ef ${ef}: recall@${K} ${a.toFixed(4)} on our graph, ${b.toFixed(4)} on its own`);
  assert.ok(a >= b - TOLERANCE, `at ef ${ef} our graph gives the package less recall than its own`);
  n_checked++;
}
const removed = (i) => i % 5 === 0;
for (let i = 0; i < N; i++) if (removed(i)) index.remove(BigInt(i));
index.save(their);
const info = JSON.parse(run("index", "inspect", their, "--json"));
assert.equal(info.count, N - N / 5);
assert.equal(info.deleted, N / 5);
assert.equal(info.m, 16);
const liveTruth = exact(removed);
const liveTruthPath = writeNpy("truth-live.npy", "<i4", [N_QUERY, K], liveTruth);
compare("usearch file with a fifth removed", searchByUs(their, liveTruthPath), recallByPackage(index, liveTruth));

// The other element kinds and metrics: rows arrive as they are.
for (const [kind, metric, name] of [["f16", "cos", "cosine"], ["i8", "cos", "cosine"], ["bf16", "l2sq", "l2"], ["f64", "ip", "ip"]]) {
  const small = newIndex(kind, metric);
  small.add(keys.subarray(0, 500), set.base.subarray(0, 500 * set.dim), 0);
  const file = join(scratch, `theirs-${kind}.usearch`);
  small.save(file);
  run("index", "verify", file);
  const head = JSON.parse(run("index", "inspect", file, "--json"));
  assert.equal(head.count, 500);
  assert.equal(head.metric, name);
  const back = join(scratch, `back-${kind}.usearch`);
  run("index", "convert", file, "--to", "usearch", "--out", back);
  const again = newIndex(["bf16", "f64"].includes(kind) ? "f32" : kind, metric);
  again.load(back);
  const was = small.search(set.base.subarray(0, 100 * set.dim), 1, 1), is = again.search(set.base.subarray(0, 100 * set.dim), 1, 1);
  let same = 0;
  for (let q = 0; q < 100; q++) same += was.get(q).keys[0] === is.get(q).keys[0] ? 1 : 0;
  console.log(`${kind} ${metric}: ${same} of 100 nearest rows are the same after a trip through annex`);
  assert.ok(same >= 98);
  n_checked++;
}
console.log(`${n_checked} comparisons passed`);
