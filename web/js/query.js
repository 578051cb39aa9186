/* The query editor: SQL or DSL, results as table and JSON, times, EXPLAIN, history. */

const WORDS = new RegExp("\\b(select|from|where|and|or|not|order|by|desc|asc|limit|offset|in|is|null|empty|like|range|allset|join|inner|left|on|merge"
    + "|update|set|delete|drop|truncate|explain|knn|rank|vectors|count|count_cached|min|max|avg|sum|facet|distinct|true|false|equal_position|st_dwithin"
    + "|st_geomfromtext|flat_array_len|now|serial)\\b", "i");
const SQL_PAINT = /('(?:[^'\\]|\\.)*'?|`[^`]*`?)|(--[^\n]*)|(-?\b\d[\d.eE]*\b)|([A-Za-z_]\w*)/g;
const WRITES = /^\s*(update|delete|truncate)\b/i;

function paintSql(text) {
    const nodes = [];
    let last = 0;

    for (const m of text.matchAll(SQL_PAINT)) {
        const kind = m[1] ? "s" : m[2] ? "c" : m[3] ? "n" : WORDS.test(m[4]) && m[4].match(WORDS)[0] === m[4] ? "w" : null;

        if (!kind)
            continue;
        nodes.push(text.slice(last, m.index), h("span." + kind, null, m[0]));
        last = m.index + m[0].length;
    }
    nodes.push(text.slice(last));
    return nodes;
}

/* A text field over a painted copy of its text. */
function codeEditor(label, onrun) {
    const back = h("pre", { "aria-hidden": "true" });
    const area = h("textarea", { "aria-label": label, spellcheck: "false", autocapitalize: "off", autocomplete: "off", id: "ask",
        oninput: () => paint(null), onscroll: () => {
            back.scrollTop = area.scrollTop;
        },
        onkeydown: (e) => {
            if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
                e.preventDefault();
                onrun();
            }
        } });
    let language = "sql";

    /* error: [from, to] in the text, or null */
    function paint(error) {
        const text = area.value;
        const painted = language === "sql" ? paintSql : paintJson;

        if (text.length > 20000)
            show(back, text);
        else if (error)
            show(back, painted(text.slice(0, error[0])), h("mark", null, text.slice(...error) || " "), painted(text.slice(error[1])));
        else
            show(back, painted(text));
        back.append("\n ");
        area.style.height = "auto";
        area.style.height = `${Math.min(area.scrollHeight, innerHeight * 0.46)}px`;
        back.scrollTop = area.scrollTop;
    }
    return { node: h("div.editor", null, back, area), area, paint,
        set(text, next) {
            language = next;
            area.value = text;
            paint(null);
        },
        mark(location) {
            const lines = area.value.split("\n");
            const at = (line, column) => lines.slice(0, line).reduce((n, l) => n + l.length + 1, 0) + charAt(lines[line] || "", column);

            paint([at(location.line_start, location.column_start), at(location.line_end, location.column_end)]);
        } };
}

/* Kept while the page is open, so that a look elsewhere costs nothing. */
const queryState = { db: null, mode: "sql", text: "", explain: false, result: null, tab: "table" };

function openQuery(db, mode, text) {
    Object.assign(queryState, { db, mode, text, result: null });
    go("#/query");
}

async function queryView(root, signal, params, query) {
    const results = h("div.gap");
    const editor = codeEditor("Query", run);
    const button = h("button.main", { onclick: run }, icon("play", 13), "Run", h("kbd.wide-only", null, isMac ? "⌘ Enter" : "Ctrl Enter"));
    const explain = h("input", { type: "checkbox", checked: queryState.explain, onchange: (e) => {
        queryState.explain = e.target.checked;
    } });
    const side = h("div.row");
    const examples = h("div.row.small");
    let running = null;

    show(root, h("div.head", null, h("h1", { tabindex: -1 }, "Query"), h("p", null, "SQL or JSON DSL, as any client would send it")),
        h("div.card.flush", null, h("div.over", null, side), editor.node,
            h("div.under", null, button, h("label.check", null, explain, "Explain"), examples)), results);
    const tree = await refreshTree(signal);
    const names = tree.map((d) => d.db);

    if (!names.length) {
        show(results, firstSteps(tree));
        return "Query";
    }
    if (query.get("db"))
        queryState.db = query.get("db");
    if (!names.includes(queryState.db))
        queryState.db = (tree.find((d) => d.namespaces.length) || tree[0]).db;
    const modes = segments("Language", [["sql", "SQL"], ["dsl", "DSL"]], queryState.mode, change);

    show(side, field("", pick(names, queryState.db, (db) => {
        queryState.db = db;
        drawExamples();
    }, "Database")), modes, h("button.ghost.push", { onclick: () => openHistory(recall) }, icon("clock"), "History"));
    if (!queryState.text)
        queryState.text = (await starters(tree, queryState.db, signal))[0][1];
    editor.set(queryState.text, queryState.mode);
    editor.area.addEventListener("input", () => {
        queryState.text = editor.area.value;
    });
    drawExamples();
    if (queryState.result)
        drawResult(queryState.result);
    signal.addEventListener("abort", () => running && running.abort());

    async function drawExamples() {
        const db = queryState.db;
        const list = queryState.mode === "sql" ? await starters(tree, db, signal).catch(() => []) : [];

        if (db === queryState.db)
            show(examples, list.map(([name, text]) => h("button.small.ghost", { onclick: () => {
                queryState.text = text;
                editor.set(text, "sql");
                editor.area.focus();
            } }, name)));
    }
    /* The other language, with the same query in it where it can be said. */
    async function change(mode) {
        const text = editor.area.value;

        queryState.mode = mode;
        drawExamples();
        try {
            const { data } = await call("POST", `/api/v1/query/convert/${mode === "dsl" ? "sql?to=dsl" : "dsl?to=sql"}`, text, signal);

            queryState.text = mode === "dsl" ? jsonLines(printJson(brief(data.query)), false).join("\n") : data.query;
        } catch {
            /* not a query of the other language: it stays what it is */
        }
        editor.set(queryState.text, mode);
    }
    function recall(item) {
        Object.assign(queryState, { mode: item.mode, text: item.text, db: names.includes(item.db) ? item.db : queryState.db });
        modes.set(item.mode);
        side.querySelector("select").value = queryState.db;
        editor.set(item.text, item.mode);
        editor.area.focus();
    }
    async function run() {
        if (running) {
            running.abort();
            return;
        }
        const text = editor.area.value.trim();

        if (!text)
            return;
        editor.paint(null);
        running = new AbortController();
        show(button, "Stop");
        const wait = setTimeout(() => show(results, busy("Running …")), 150);

        remember({ mode: queryState.mode, db: queryState.db, text });
        try {
            queryState.result = await ask(text, running.signal);
        } catch (error) {
            queryState.result = running.signal.aborted ? null : { error, asked: text };
        }
        clearTimeout(wait);
        running = null;
        if (signal.aborted)
            return;
        show(button, icon("play", 13), "Run", h("kbd.wide-only", null, isMac ? "⌘ Enter" : "Ctrl Enter"));
        if (queryState.result)
            drawResult(queryState.result);
        else
            show(results, h("p.soft", null, "Stopped."));
    }
    async function ask(text, stop) {
        if (queryState.mode === "sql") {
            const reason = WRITES.test(text) && mayNot("data_write", queryState.db);

            if (reason)
                throw new ApiError(403, reason);
            return sql(queryState.db, queryState.explain && /^\s*select\b/i.test(text) ? `EXPLAIN ${text}` : text, stop);
        }
        let parsed = null;

        try {
            parsed = parseJson(text);
        } catch (error) {
            throw new ApiError(400, `This is not JSON: ${error.message}`);
        }
        const method = { update: "PUT", delete: "DELETE" }[parsed.type] || (parsed.update_fields || parsed.drop_fields ? "PUT" : "POST");

        return call(method, `${dbPath(queryState.db)}/query`, queryState.explain && method === "POST" ? printJson({ ...parsed, explain: true }) : text, stop);
    }
    function drawResult(result) {
        if (result.error) {
            const isSql = queryState.mode === "sql";
            const location = isSql && shifted(result.error.location, result.asked, editor.area.value, queryState.explain);

            show(results, errorBox({ ...result.error, status: result.error.status, message: result.error.message, location: null }));
            if (location)
                editor.mark(location);
            return;
        }
        show(results, resultCard(result, queryState.db));
    }
    return "Query";
}

/* A DSL query without what is the default anyway. */
function brief(query) {
    const usual = { limit: -1, offset: 0, req_total: "disabled", type: "select" };

    return Object.fromEntries(Object.entries(query).filter(([key, value]) =>
        value !== false && value !== usual[key] && !(Array.isArray(value) && value.length === 0)));
}

/* The place of an error in the editor's text: the server saw it trimmed, with EXPLAIN before it. */
function shifted(location, asked, text, isExplained) {
    if (!location)
        return null;
    const lead = text.slice(0, text.indexOf(asked));
    const lines = lead.split("\n").length - 1;
    const before = isExplained && /^\s*select\b/i.test(asked) ? 8 : 0;
    const indent = new TextEncoder().encode(lead.slice(lead.lastIndexOf("\n") + 1)).length;
    const column = (line, c) => (line === 0 ? Math.max(0, c - before + indent) : c);

    return { line_start: location.line_start + lines, line_end: location.line_end + lines,
        column_start: column(location.line_start, location.column_start), column_end: column(location.line_end, location.column_end) };
}

/* Queries to begin with, made for what is there: [[name, text], ...]. */
async function starters(tree, db, signal) {
    const here = tree.filter((d) => d.db === db);
    const place = await firstSearch(here, signal);
    const largest = here.flatMap((d) => d.namespaces).sort((a, b) => (b.documents || 0) - (a.documents || 0))[0];

    if (!largest)
        return [["Memory", "SELECT * FROM #memstats"]];
    const name = place ? place.def.ns : largest.name;
    const ns = named(name);
    const def = definitions.get(`${db}/${name}`);
    const list = [["First documents", `SELECT * FROM ${ns} LIMIT 20`], ["Count", `SELECT COUNT(*) FROM ${ns}`]];
    const facet = def && def.scalars.find((i) => i.field_type === "string" && i.index_type === "hash" && !TITLES.includes(i.name));

    if (place) {
        const { data } = await sql(db, `SELECT * FROM ${ns} LIMIT 1`, signal);
        const about = data.items.length ? describe(def, data.items[0]) : { text: "", title: "" };

        list.push(["By meaning", `SELECT *, RANK()\nFROM ${ns}\nWHERE KNN(${named(place.index.name)}, ${quoted((about.text || about.title).slice(0, 80))}, k=10)`]);
    }
    if (facet)
        list.push(["Facet", `SELECT FACET(${named(facet.name)} ORDER BY count DESC LIMIT 20) FROM ${ns}`]);
    return [...list, ["Memory", "SELECT * FROM #memstats"]];
}

function remember(item) {
    const list = memory.get("history", []).filter((h) => h.text !== item.text || h.mode !== item.mode || h.db !== item.db);

    if (item.text.length < 20000)
        memory.set("history", [{ ...item, at: Date.now() }, ...list].slice(0, 60));
}

function openHistory(onpick) {
    const list = memory.get("history", []);
    const box = h("dialog.sheet", { "aria-label": "History", onclose: () => box.remove(), onclick: (e) => e.target === box && box.close() });

    box.append(h("header", null, h("h2.grow", null, "History"), h("button.ghost", { "aria-label": "Close", onclick: () => box.close() }, icon("close"))),
        h("div.body", null, list.length ? h("ul.past", null, list.map((item) => h("li", null, h("button.ghost", { onclick: () => {
            box.close();
            onpick(item);
        } }, h("code", null, item.text.slice(0, 400)), h("span.soft.small", null, `${item.mode.toUpperCase()} · ${item.db} · `
            + new Date(item.at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })))))) : h("div.empty", null, "Queries that you run are kept here, in this browser only.")),
        list.length > 0 && h("footer", null, h("button", { onclick: () => {
            memory.set("history", []);
            box.close();
        } }, "Forget all"), h("span.soft.small", null, "Kept in this browser only.")));
    document.body.append(box);
    box.showModal();
}

/* ---- Results ---- */

function resultCard(result, db) {
    const { data, text } = result;
    const items = data.items || [];
    const aggregations = data.aggregations || [];
    const views = [["table", "Table"], ["json", "JSON"], data.explain && ["explain", "Explain"]].filter(Boolean);
    const body = h("div");
    const ns = (data.namespaces || [])[0];
    let fold = true;

    function draw(tab) {
        queryState.tab = tab;
        if (tab === "json") {
            show(body, jsonView(text, fold, "The answer as JSON"), h("div.under", null, h("button.small", { onclick: () => copy(text, "Answer") }, "Copy"),
                h("button.small", { onclick: () => download(text, `${ns || "answer"}.json`) }, "Download"),
                h("label.check", null, h("input", { type: "checkbox", checked: !fold, onchange: (e) => {
                    fold = !e.target.checked;
                    draw("json");
                } }), "Whole vectors")));
        } else if (tab === "explain") {
            show(body, explainView(data.explain));
        } else {
            show(body, aggregations.length > 0 && h("div.pad.stack", null, aggregations.map(aggregation)),
                items.length > 0 && dataTable(items, { caption: "Result", onopen: (doc) => openResult(db, ns, doc) }),
                !items.length && !aggregations.length && h("div.empty", null, data.updated === undefined ? "No documents." : plural(data.updated, "document") + " changed."));
        }
    }
    const n = items.length;
    const tab = views.some((v) => v[0] === queryState.tab) ? queryState.tab : "table"; // whoever tunes stays at EXPLAIN
    const card = h("div.card.flush", { "aria-label": "Result", role: "region" }, h("div.over", null, segments("Show as", views, tab, draw),
        h("span.num.small", { role: "status" }, data.updated === undefined ? plural(n, "document") : `${count(data.updated)} changed`,
            data.total_items > n && h("span.soft", null, ` of ${count(data.total_items)}`)),
        h("span.soft.small.num.push", null, timing(result), ` · ${bytes(result.size)}`)), body);

    draw(tab);
    return card;
}

/* A row of a result: the document it is of, where that can be told. */
async function openResult(db, ns, doc) {
    try {
        const def = ns && !ns.startsWith("#") ? definitions.get(`${db}/${ns}`) || await define(db, ns) : null;

        openDocument(def || { db, ns, indexes: [], vectors: [], scalars: [] }, doc);
    } catch (error) {
        toast(error.message);
    }
}

function download(text, name) {
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: name });

    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function aggregation(a) {
    const name = `${a.type}(${(a.fields || []).join(", ")})`;
    const list = a.facets || a.distincts;

    if (!list)
        return h("div", null, h("div.soft.small", null, name), h("div.big.num", null, typeof a.value === "number" ? COUNT.format(a.value) : "–"));
    const high = Math.max(1, ...list.map((f) => f.count || 0));

    return h("div", null, h("h3", null, name), h("ul.facets", null, list.slice(0, 200).map((f) => {
        const fill = h("i");

        fill.style.width = `${100 * (f.count || 0) / high}%`;
        return h("li", null, h("span", null, f.values ? f.values.map(String).join(" · ") : printJson(f)), f.count === undefined ? null : h("div.meter", null, fill),
            h("span.num.soft", null, f.count === undefined ? "" : count(f.count)));
    })), list.length > 200 && h("p.soft.small", null, `${count(list.length - 200)} more are in the JSON.`));
}

const STEPS = [["prepare_us", "prepare"], ["preselect_us", "joins before"], ["indexes_us", "indexes"], ["loop_us", "walk over rows"],
    ["general_sort_us", "sort"], ["postprocess_us", "finish"]];

function explainView(e) {
    const total = Math.max(1, e.total_us);
    const steps = STEPS.map(([key, name], i) => ({ name, us: e[key] || 0, color: `var(--c${i})` })).filter((s) => s.us > 0);
    const swatch = (color) => {
        const node = h("span.swatch");

        node.style.background = color;
        return node;
    };
    const piece = (s) => {
        const node = h("span", { title: `${s.name} ${millis(s.us / 1000)}` });

        node.style.background = s.color;
        node.style.flexGrow = String(s.us / total);
        return node;
    };

    return h("div.pad.stack", null,
        h("div.row", null, h("span.big.num", null, millis(e.total_us / 1000)), h("span.soft", null, "inside the engine"),
            e.sort_index && e.sort_index !== "-" && h("span.chip", null, `order of index ${e.sort_index}`)),
        h("div.split", { "aria-hidden": "true" }, steps.map(piece)),
        h("div.legend", null, steps.map((s) => h("span", null, swatch(s.color), `${s.name} `, h("span.num", null, millis(s.us / 1000))))),
        (e.selectors || []).length > 0 && h("div", null, h("h3", null, "Conditions, in the order they are asked"), h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Conditions" },
            h("table", null, h("thead", null, h("tr", null, ["Condition on", "Answered by", "How"].map((t) => h("th", { scope: "col" }, t)),
                ["Keys", "Expected", "Left over"].map((t) => h("th.right", { scope: "col" }, t)))),
            h("tbody", null, e.selectors.flatMap((s) => selectorRows(s, 0)))))),
        h("details", null, h("summary", null, "As the server says it"), jsonView(printJson(e), false, "EXPLAIN as JSON")));
}

function selectorRows(s, depth) {
    const name = h("td", null, s.field || s.description || "…");

    name.style.paddingLeft = `${14 + 20 * depth}px`;
    return [h("tr", null, name, h("td", null, s.method === "index" ? h("span.chip.good", null, "index") : s.method ? h("span.chip.warn", null, s.method) : ""),
        h("td", null, s.type || s.field_type || ""), ...["keys", "cost", "matched"].map((key) => h("td.right", null, s[key] === undefined ? "–" : short(s[key])))),
    ...(s.selectors || s.explain_select?.selectors || []).flatMap((inner) => selectorRows(inner, depth + 1))];
}
