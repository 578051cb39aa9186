/* Talking to the server: requests, who asks, what he may, and what is there. */

const ROLES = ["none", "data_read", "data_write", "db_admin", "owner"];
const ANSWER_MAX = 16e6; // bytes of an answer that the page takes; more is a question without LIMIT

/* Name and password live here and nowhere else: a reload asks again. */
const session = { header: null, user: null, roles: { "*": "owner" }, withAuth: false, isOnline: true, version: "", signIn: null };

class ApiError extends Error {
    constructor(status, message, location) {
        super(message);
        this.status = status;
        this.location = location;
    }
}

function roleOf(db) {
    const named = Object.entries(session.roles).find(([name]) => db !== undefined && name.toLowerCase() === db.toLowerCase());

    return (named && named[1]) || session.roles["*"] || "none";
}

function mayNot(role, db) {
    const have = roleOf(db);

    if (ROLES.indexOf(have) >= ROLES.indexOf(role))
        return null;
    return `This needs the role ${role}${db === undefined ? "" : ` on ${db}`}; you have ${have}.`;
}

/* A button that needs a right: without it, it says why not. */
function needs(button, role, db) {
    const reason = mayNot(role, db);

    if (!reason)
        return button;
    button.setAttribute("aria-disabled", "true");
    button.title = reason;
    button.append(h("span.quiet", null, " (" + reason + ")"));
    button.addEventListener("click", (e) => {
        e.preventDefault();
        e.stopImmediatePropagation();
        toast(reason);
    }, { capture: true });
    return button;
}

function setOnline(value) {
    if (session.isOnline !== value) {
        session.isOnline = value;
        document.dispatchEvent(new Event("annex-session"));
    }
}

async function send(method, path, body, signal) {
    const headers = {};

    if (session.header)
        headers.Authorization = session.header;
    if (body !== undefined)
        headers["Content-Type"] = "application/json";
    try {
        const answer = await fetch(path, { method, body, headers, signal, credentials: "omit", cache: "no-store" });

        setOnline(true);
        return answer;
    } catch (error) {
        if (signal && signal.aborted)
            throw error;
        setOnline(false);
        throw new ApiError(0, "The server cannot be reached. Is annex serve running?");
    }
}

/* The text of an answer; one that never ends is stopped before it stops the page. */
async function readText(answer) {
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    const pieces = [];
    let size = 0;

    for (;;) {
        const { done, value } = await reader.read();

        if (done)
            break;
        size += value.length;
        if (size > ANSWER_MAX) {
            await reader.cancel();
            throw new ApiError(answer.status, `The answer is larger than ${bytes(ANSWER_MAX)}, more than this page shows. `
                + "Add a LIMIT, or select fewer fields.");
        }
        pieces.push(decoder.decode(value, { stream: true }));
    }
    pieces.push(decoder.decode());
    return { text: pieces.join(""), size };
}

/* Returns { data, text, size, total, server }: times in ms, server's only when it says so. Throws ApiError. */
async function call(method, path, body, signal) {
    for (;;) {
        const start = performance.now();
        const answer = await send(method, path, body, signal);

        if (answer.status === 401 && session.signIn) {
            await session.signIn(session.header !== null);
            continue;
        }
        const { text, size } = await readText(answer);
        const total = performance.now() - start;
        const timing = /total;dur=([\d.]+)/.exec(answer.headers.get("Server-Timing") || "");
        let data = null;

        try {
            data = parseJson(text);
        } catch {
            if (answer.ok)
                throw new ApiError(answer.status, "The answer is not JSON: " + text.slice(0, 200));
        }
        if (!answer.ok)
            throw new ApiError(answer.status, (data && data.description) || text.slice(0, 300) || answer.statusText, data && data.location);
        return { data, text, size, total, server: timing ? Number(timing[1]) : null };
    }
}

const part = encodeURIComponent;
const dbPath = (db) => `/api/v1/db/${part(db)}`;
const nsPath = (db, ns) => `${dbPath(db)}/namespaces/${part(ns)}`;
const get = async (path, signal) => (await call("GET", path, undefined, signal)).data;
const post = async (path, body, signal) => (await call("POST", path, printJson(body), signal)).data;
const sql = (db, text, signal) => call("POST", `${dbPath(db)}/sqlquery`, text, signal);
const dsl = (db, query, signal) => call("POST", `${dbPath(db)}/query`, typeof query === "string" ? query : printJson(query), signal);

/* ---- What is there ---- */

/* [{ db, error, namespaces: [{ name, documents, data, indexes, storage }] }] */
async function loadTree(signal) {
    const { items } = await get("/api/v1/db?sort_order=asc", signal);

    return Promise.all(items.map(async (db) => {
        try {
            const [{ items: names }, stats] = await Promise.all([
                get(`${dbPath(db)}/namespaces?sort_order=asc`, signal),
                sql(db, "SELECT * FROM #memstats", signal).catch(() => null),
            ]);
            const byName = new Map((stats ? stats.data.items : []).map((s) => [s.name, s]));

            return { db, namespaces: names.filter((n) => !n.name.startsWith("#")).map(({ name }) => {
                const s = byName.get(name) || {};

                return { name, documents: s.items_count, data: s.total && s.total.data_size, indexes: s.total && s.total.indexes_size,
                    storage: s.storage_ok === false ? s.storage_status : null,
                    memory: s.total && s.total.data_size + s.total.indexes_size + s.total.cache_size };
            }) };
        } catch (error) {
            if (signal && signal.aborted)
                throw error;
            return { db, error, namespaces: [] };
        }
    }));
}

const definitions = new Map();

/* The definition of a namespace, kept for as long as a view lasts. */
async function define(db, ns, signal) {
    const def = await get(nsPath(db, ns), signal);
    const indexes = def.indexes || [];
    const view = {
        db, ns, indexes,
        pk: indexes.find((i) => i.is_pk),
        vectors: indexes.filter((i) => i.field_type === "float_vector"),
        scalars: indexes.filter((i) => i.field_type !== "float_vector" && i.field_type !== "composite" && !i.is_pk),
    };

    definitions.set(`${db}/${ns}`, view);
    return view;
}

const embedderOf = (index) => index.config && index.config.embedding && index.config.embedding.query_embedder;

/* ---- Documents ---- */

function atPath(doc, path) {
    return path.split(".").reduce((value, step) => (value === null || value === undefined ? value : value[step]), doc);
}

function pathsOf(def, name) {
    const index = def.indexes.find((i) => i.name.toLowerCase() === name.toLowerCase());

    return index ? index.json_paths : [name];
}

/* The primary key of a document: a value, or a list of them when it is composite. */
function keyOf(def, doc) {
    if (!def.pk)
        return undefined;
    if (def.pk.field_type !== "composite")
        return atPath(doc, def.pk.json_paths[0]);
    return def.pk.json_paths.map((name) => atPath(doc, pathsOf(def, name)[0]));
}

const keyText = (key) => (Array.isArray(key) ? key.map(keyText).join(" · ") : String(key));
const sameKey = (a, b) => printJson(a) === printJson(b);

/* A condition that finds documents by their keys. */
function keyFilter(def, keys) {
    return { op: "and", cond: "set", field: def.pk.name, value: keys };
}

async function fetchDocument(def, key, signal) {
    const { data, text } = await dsl(def.db, { namespace: def.ns, limit: 1, filters: [keyFilter(def, [key])],
        select_filter: ["*", "vectors()"] }, signal);

    if (!data.items.length)
        throw new ApiError(404, `There is no document ${keyText(key)} in ${def.ns}.`);
    return { doc: data.items[0], text: firstItem(text) };
}

/* The first document of an answer as the server spelled it: 5.0 stays 5.0, and numbers of any length keep their digits. */
function firstItem(text) {
    let depth = 0;

    TOKEN.lastIndex = text.indexOf("[") + 1;
    for (let start = -1, m; (m = TOKEN.exec(text));) {
        if (m[0] === "{" || m[0] === "[") {
            if (depth++ === 0)
                start = m.index;
        } else if ((m[0] === "}" || m[0] === "]") && --depth === 0) {
            TOKEN.lastIndex = 0;
            return text.slice(start, m.index + 1);
        }
    }
    return "{}";
}

const TITLES = ["title", "name", "label", "subject", "headline", "question", "path", "url"];
const TEXTS = ["description", "summary", "abstract", "text", "body", "content", "note"];

/* What a person would call a document: { title, text, rest: [[name, value]] }. */
function describe(def, doc) {
    const key = keyOf(def, doc);
    const paths = new Set(def.pk ? def.pk.json_paths : []);
    const entries = Object.entries(doc).filter(([name, value]) => !name.endsWith("()") && !isVector(value));
    const texts = entries.filter(([name, value]) => typeof value === "string" && value !== "" && !paths.has(name));
    const named = (names) => texts.find(([name]) => names.includes(name.toLowerCase()));
    const title = named(TITLES);
    const text = named(TEXTS) || texts.filter((t) => t !== title).sort((a, b) => b[1].length - a[1].length).find((t) => t[1].length > 24);
    const rest = entries.filter(([name, value]) => !paths.has(name) && (!title || name !== title[0]) && (!text || name !== text[0])
        && (typeof value !== "object" || value === null) && value !== null && value !== "");

    return { key, title: title ? title[1] : `${def.pk ? def.pk.name : "document"} ${keyText(key)}`, text: text ? text[1] : "", rest,
        isNamed: Boolean(title) };
}

function isVector(value) {
    return Array.isArray(value) && value.length > INLINE && value.every((v) => typeof v === "number");
}

/* What a filter may look like, in this namespace's words. */
function filterHint(def) {
    const number = def.scalars.find((i) => ["int", "int64", "double"].includes(i.field_type) && i.index_type === "tree");
    const text = def.scalars.find((i) => i.field_type === "string" && i.index_type !== "text" && !TITLES.includes(i.name));
    const parts = [number && `${named(number.name)} < 100`, text && `${named(text.name)} = '…'`].filter(Boolean);

    return `as behind WHERE${parts.length ? ": " + parts.join(" AND ") : ""}`;
}

/* ---- Nearest neighbors ---- */

const quoted = (text) => `'${text.replace(/\\/g, "\\\\").replace(/'/g, "\\'").replace(/\n/g, "\\n")}'`;
const named = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `"${name}"`);

/* q: { index, vector | text, k, ef, nprobe, radius, filter, limit, withoutK } -> SQL. `fold` abbreviates the vector, to be read. */
function knnSql(def, q, fold) {
    const numbers = q.vector && (fold && q.vector.length > 6 ? [...q.vector.slice(0, 4).map((v) => plain(v, 3)), "…"] : q.vector);
    const args = [named(q.index), q.vector ? `[${numbers.join(", ")}]` : quoted(q.text)];

    if (!q.withoutK && q.k)
        args.push(`k=${q.k}`);
    if (q.radius !== undefined)
        args.push(`radius=${q.radius}`);
    if (q.ef)
        args.push(`ef=${q.ef}`);
    if (q.nprobe)
        args.push(`nprobe=${q.nprobe}`);
    return `SELECT *, RANK() FROM ${named(def.ns)} WHERE KNN(${args.join(", ")})`
        + (q.filter ? ` AND (${q.filter})` : "") + (q.limit ? ` LIMIT ${q.limit}` : "");
}

/* Is a larger rank a nearer one? */
const isRising = (index) => index.config.metric !== "l2";
