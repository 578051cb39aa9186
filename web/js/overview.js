/* The first page: what is there, how it is doing, and a box to ask. */

function overviewView(root, signal) {
    const tiles = metricTiles();
    const databases = h("div.stack");
    const jobs = h("div");
    const ask = h("div");
    const about = h("p");
    const redraw = () => tiles.forEach((t) => t.draw());

    show(root, h("div.head", null, h("h1", { tabindex: -1 }, "Overview"), about), ask,
        h("section", { "aria-label": "Live metrics" }, h("div.tiles", null, tiles.map((t) => t.node))), jobs,
        h("section", null, h("h2", null, "Databases"), databases));
    metrics.listeners.add(redraw);
    metrics.start(1000);
    signal.addEventListener("abort", () => {
        metrics.listeners.delete(redraw);
        metrics.start(5000);
    });
    redraw();
    show(databases, busy("Reading …"));
    get("/api/v1/check", signal).then((s) => show(about, `Annex ${s.version}, up ${duration(s.uptime)}, data in `,
        h("span.mono", null, s.storage_path))).catch(() => {});

    let asked = false;

    every(3000, signal, async () => {
        const tree = await refreshTree(signal);

        if (!tree.some((d) => d.namespaces.length || d.error))
            show(databases, firstSteps(tree));
        else if (!databases.contains(document.activeElement))
            show(databases, tree.map(databaseCard));
        if (!asked) {
            asked = true;
            const place = await firstSearch(tree, signal);

            if (place)
                show(ask, askBox(place));
        }
    }, (error) => show(databases, errorBox(error)));
    every(1000, signal, async () => drawJobs(jobs, await get("/api/v1/annex/indexing", signal)), () => show(jobs));
    return "Overview";
}

/* Runs work now and again `period` ms after it is done, while the page is seen and the view lasts, or until it returns "done". */
function every(period, signal, work, onerror) {
    async function turn() {
        if (signal.aborted)
            return;
        if (!document.hidden) {
            try {
                if (await work() === "done")
                    return;
            } catch (error) {
                if (signal.aborted)
                    return;
                onerror(error);
            }
        }
        setTimeout(turn, period);
    }
    turn();
}

function databaseCard({ db, error, namespaces }) {
    if (error)
        return h("div.card", null, h("h3", null, db), h("p.soft", null, error.message));
    const sum = (key) => namespaces.reduce((n, ns) => n + (ns[key] || 0), 0);

    if (!namespaces.length)
        return h("div.card", null, h("h3", null, db), h("p.soft", null, "No namespaces yet."));
    return h("div.card.flush", null,
        h("div.over", null, h("h3", { id: "db-" + db }, db), h("span.soft.small.num", null,
            `${plural(namespaces.length, "namespace")} · ${plural(sum("documents"), "document")} · ${bytes(sum("memory"))}`)),
        h("div.scroll", { tabindex: 0, role: "region", "aria-labelledby": "db-" + db }, h("table.even", null,
            h("thead", null, h("tr", null, h("th", { scope: "col" }, "Namespace"), h("th.right", { scope: "col" }, "Documents"),
                h("th.right.wide-only", { scope: "col" }, "Data"), h("th.right", { scope: "col" }, "Indexes"))),
            h("tbody", null, namespaces.map((ns) => h("tr", null,
                h("td", null, h("a.link", { href: nsHref(db, ns.name) }, ns.name), ns.storage && h("span.chip.bad", null, ns.storage)),
                h("td.right", null, ns.documents === undefined ? "–" : count(ns.documents)),
                h("td.right.wide-only", null, ns.data === undefined ? "–" : bytes(ns.data)),
                h("td.right", null, ns.indexes === undefined ? "–" : bytes(ns.indexes))))))));
}

const FIRST = (db) => `API=${location.origin}/api/v1/db
${db ? "" : "curl -s $API -d '{\"name\":\"shop\"}'\n"}curl -s $API/${db || "shop"}/namespaces -d '{"name":"books","indexes":[
  {"name":"id","json_paths":["id"],"field_type":"int","index_type":"hash","is_pk":true},
  {"name":"vec","json_paths":["vec"],"field_type":"float_vector","index_type":"hnsw",
   "config":{"dimension":3,"metric":"cosine"}}]}'
curl -s -X PATCH $API/${db || "shop"}/namespaces/books/items -d '
  {"id":1,"title":"Tides","vec":[0.9,0.1,0.0]} {"id":2,"title":"Deserts","vec":[0.0,0.2,0.9]}'`;

function firstSteps(tree) {
    const text = FIRST(tree.length ? tree[0].db : "");

    return h("div.card.empty", null, h("h2", null, "Nothing here yet"), h("p", null, "A database, a namespace with a vector index, two documents:"),
        h("pre", null, text), h("button", { onclick: () => copy(text, "Commands") }, "Copy"),
        h("p", null, "This page shows them as soon as they are there."));
}

/* The namespace that the box on the first page searches: one that understands text, the largest of those. */
async function firstSearch(tree, signal) {
    const places = tree.flatMap((d) => d.namespaces.map((ns) => ({ db: d.db, ns: ns.name, n: ns.documents || 0 })))
        .sort((a, b) => b.n - a.n).slice(0, 8);

    for (const { db, ns } of places) {
        const def = await define(db, ns, signal).catch(() => null);
        const index = def && def.vectors.find(embedderOf);

        if (index)
            return { def, index };
    }
    return null;
}

function askBox({ def, index }) {
    const input = h("input", { type: "search", id: "ask", placeholder: "Describe what you look for", "aria-label": `Search ${def.ns} by meaning`,
        autocomplete: "off" });

    return h("section", null, h("form.ask", { role: "search", onsubmit: (e) => {
        e.preventDefault();
        if (input.value.trim())
            go(nsHref(def.db, def.ns, "search", { index: index.name, text: input.value.trim() }));
    } }, input, h("button.main", { type: "submit", "aria-label": "Search" }, icon("search"), h("span.wide-only", null, "Search"))),
    h("p.soft.small.gap-less", null, "Finds documents of ", h("a.link", { href: nsHref(def.db, def.ns) }, def.ns), " by meaning, not by their words."));
}

/* ---- The indexing server ---- */

function drawJobs(place, answer) {
    if (!answer.configured) {
        show(place);
        return "done";
    }
    const s = answer.status;

    show(place, h("section", null, h("h2", null, "Indexing server"), h("div.card.stack", null,
        h("div.row", null, h("span.mono", null, answer.url), answer.reachable
            ? h("span.chip" + (s.draining ? ".warn" : ".good"), null, s.draining ? "draining" : ["idle", "building", "last build failed", "last build succeeded"][s.status] || "up")
            : h("span.chip.bad", null, "not reachable"),
        answer.reachable && h("span.soft.small.num.push", null, `${s.builds} of ${s.max_builds} builds · ${s.queue} waiting · ${bytes(s.memory)} of ${bytes(s.max_memory)}`)),
        !answer.reachable && h("p.soft", null, answer.error || ""),
        answer.reachable && s.last_error && h("p.soft", null, "Last error: ", s.last_error),
        answer.reachable && !s.jobs.length && h("p.soft", null,
            `Nothing is being built. ${plural(s.totals.succeeded, "build")} done, ${count(s.totals.failed)} failed, ${short(s.totals.rows)} rows.`),
        answer.reachable && s.jobs.map((job) => h("div", null,
            h("div.row", null, h("strong", null, job.name || `build ${job.id}`), h("span.chip", null, job.step || job.phase),
                h("span.soft.small.num.push", null, `${short(job.rows)} of ${job.expected_rows ? short(job.expected_rows) : "?"} rows · `
                    + `${short(Math.round(job.rows_per_second))} a second · ${bytes(job.memory)}`)),
            h("progress", { max: 100, value: job.percent ?? null, "aria-label": `Progress of ${job.name || job.id}` }))))));
    return null;
}
