// What the console is tested on: servers on free ports, with made-up data and, where it is there, real data.
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const running = [];

// Starts a program and waits until its log says where it listens.
async function start(command, args, server) {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";

    running.push(child);
    const port = await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${args[0]} does not say where it listens:\n${log}`)), 30000);

        child.stderr.on("data", (data) => {
            log += data;
            const found = new RegExp(`event=listening server=${server} .*port=(\\d+)`).exec(log);

            if (found) {
                clearTimeout(timer);
                resolve(found[1]);
            }
        });
        child.on("exit", (code) => reject(new Error(`${args[0]} ended with ${code}:\n${log}`)));
    });
    return `http://127.0.0.1:${port}`;
}

export async function stopAll() {
    await Promise.all(running.map((child) => new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null)
            return resolve();
        child.on("exit", resolve);
        child.kill("SIGTERM");
    })));
}

export const serve = (annex, dir, ...more) =>
    start(annex, ["serve", "--db", dir, "--httpaddr", "127.0.0.1:0", "--rpcaddr", "none", "--durability", "async", ...more], "http");

export async function request(method, url, body, auth) {
    const headers = auth ? { Authorization: "Basic " + Buffer.from(auth).toString("base64") } : {};
    const answer = await fetch(url, { method, headers, body: typeof body === "object" ? JSON.stringify(body) : body });

    if (!answer.ok)
        throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`);
    return answer.json();
}

const ANIMALS = ["fox", "wolf", "cat", "lion", "whale", "shark", "crab", "eagle", "owl", "duck", "horse", "cow", "frog", "snake", "bee", "ant"];
const COLORS = ["red", "blue", "white", "black", "brown", "green"];
const PLACES = ["forest", "sea", "farm", "desert", "city"];
const WORDS = [...ANIMALS, ...COLORS, ...PLACES];
const DIM = 12;

// A fixed sequence of numbers from -1 to 1 (Park and Miller's generator).
function numbers(seed) {
    let x = seed;

    return () => {
        x = (x * 48271) % 2147483647;
        return (x / 2147483647) * 2 - 1;
    };
}

// A model of 27 words: what an embedder needs at least.
export async function embedder(annex, dir) {
    const next = numbers(7);
    const rows = WORDS.map((word) => [word, ...Array.from({ length: DIM }, () => next().toFixed(3))].join(" "));
    const file = path.join(dir, "words.vec");

    fs.writeFileSync(file, `${WORDS.length} ${DIM}\n${rows.join("\n")}\n`);
    return start(annex, ["embedder", "--vectors", file, "--listen", "127.0.0.1:0"], "embedder");
}

const index = (name, field_type, index_type, more) => ({ name, json_paths: [name], field_type, index_type, ...more });
const vector = (name, dimension, metric, more) => index(name, "float_vector", "hnsw", { config: { dimension, metric, ...more } });

export async function fill(url, model, auth) {
    const api = url + "/api/v1/db";
    const ask = (method, where, body) => request(method, api + where, body, auth);

    await ask("POST", "", { name: "zoo" });
    await ask("POST", "/zoo/namespaces", { name: "animals", storage: { enabled: true }, indexes: [index("id", "int", "hash", { is_pk: true }),
        index("name", "string", "hash"), index("place", "string", "hash"), index("legs", "int", "tree"), index("text", "string", "-"),
        vector("vec", DIM, "cosine", { embedding: { upsert_embedder: { URL: model, fields: ["text"] }, query_embedder: { URL: model } } })] });
    const docs = ANIMALS.flatMap((animal, a) => COLORS.flatMap((color, c) => PLACES.map((place, p) => ({ id: (a * 6 + c) * 5 + p,
        name: `${color} ${animal}`, place, legs: a % 3 * 2, text: `a ${color} ${animal} that lives in the ${place}`, code: 9007199254740993 }))));

    await ask("PATCH", "/zoo/namespaces/animals/items", docs.map((d) => JSON.stringify(d).replace(/"code":\d+/, "\"code\":9007199254740993")).join("\n"));
    await ask("POST", "/zoo/namespaces", { name: "many", indexes: [index("id", "int", "hash", { is_pk: true })] });
    await ask("PATCH", "/zoo/namespaces/many/items", Array.from({ length: 20000 }, (_, id) => `{"id":${id},"word":"${WORDS[id % 27]}"}`).join("\n"));
    await ask("POST", "/zoo/namespaces", { name: "empty", indexes: [index("id", "int", "hash", { is_pk: true })] });
}

export const HOSTILE = "<img src=x onerror=\"window.hit=1\">";

// Names and values that would be elements if anything took them for HTML.
export async function fillHostile(url) {
    const api = url + "/api/v1/db";

    await request("POST", api, { name: "hostile" });
    await request("POST", api + "/hostile/namespaces", { name: "texts", indexes: [index("id", "string", "hash", { is_pk: true }),
        index("name", "string", "hash"), vector("vec", 3, "l2"), vector("none", 2, "l2")] });
    await request("PATCH", api + "/hostile/namespaces/texts/items", Array.from({ length: 12 }, (_, i) => JSON.stringify({
        id: `${i}${HOSTILE}`, name: `${HOSTILE}${i % 3}`, [`${HOSTILE}key`]: HOSTILE, deep: { [HOSTILE]: [HOSTILE, `</script><script>window.hit=1</script>`] },
        description: `javascript:window.hit=1 ${HOSTILE} &lt;b&gt;`, vec: [i, i % 3, 1] })).join("\n"));
}

// Real vectors, for the pictures: 3,000 rows of packages. False where they are not.
export async function fillReal(url, folder) {
    if (!fs.existsSync(path.join(folder, "base.npy")))
        return false;
    const api = url + "/api/v1/db";
    const model = await start(process.argv[2], ["embedder", "--vectors", path.join(folder, "term_vectors.npy"), "--terms", path.join(folder, "terms.txt"),
        "--listen", "127.0.0.1:0"], "embedder");
    const rows = fs.readFileSync(path.join(folder, "rows.tsv"), "utf8").split("\n");
    const file = fs.openSync(path.join(folder, "base.npy"), "r");
    const bytes = Buffer.alloc(384 * 2);

    await request("POST", api, { name: "debian" });
    await request("POST", api + "/debian/namespaces", { name: "packages", indexes: [index("id", "int", "hash", { is_pk: true }),
        index("name", "string", "hash"), index("section", "string", "hash"), index("size", "int", "tree"), index("description", "string", "text"),
        vector("vec", 384, "cosine", { multithreading: 1, embedding: { query_embedder: { URL: model } } })] });
    for (let from = 0; from < 3000; from += 500) {
        const docs = [];

        for (let id = from; id < from + 500; id++) {
            const [name, section, size, description] = rows[id].split("\t");

            fs.readSync(file, bytes, 0, bytes.length, 128 + id * bytes.length);
            docs.push(JSON.stringify({ id, name, section, size: Number(size), description,
                vec: Array.from({ length: 384 }, (_, i) => Number(half(bytes.readUInt16LE(2 * i)).toFixed(5))) }));
        }
        await request("PATCH", api + "/debian/namespaces/packages/items", docs.join("\n"));
    }
    fs.closeSync(file);
    return true;
}

function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;

    return sign * (exponent ? 2 ** (exponent - 15) * (1 + (bits & 1023) / 1024) : 2 ** -14 * ((bits & 1023) / 1024));
}

// What an indexing server's status listener says while it builds.
export async function fakeIndexing() {
    const status = { status: 1, status_updated_at: 1, jobs: [{ id: 7, peer: "10.0.0.4:50312", name: "embeddings_v_idx", phase: "building", step: "linking",
        rows: 184500, expected_rows: 300000, rows_per_second: 88211, percent: 61.5, seconds: 4.2, memory: 391000000, bytes_in: 1, bytes_out: 9, index_size: 0 }],
    queue: 0, max_queue: 64, sessions: 1, max_clients: 16, builds: 1, max_builds: 2, builds_waiting: 0, memory: 391000000, max_memory: 18957382656,
    totals: { succeeded: 6, failed: 0, cancelled: 0, refused: 0, resumed: 0, connections: 7, rows: 1800000, bytes_in: 0, bytes_out: 0 },
    last_error: null, last_error_at: null, draining: false, version: "0.1.0", uptime: 3600.1 };
    const server = http.createServer((_, answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(status)));

    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}
