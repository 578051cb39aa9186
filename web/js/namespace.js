/* A namespace: its frame with tabs, its documents, its indexes and their health. */

const TABS = [["documents", "Documents"], ["search", "Search"], ["map", "Map"], ["indexes", "Indexes"]];

function nsHref(db, ns, tab, query) {
    const text = new URLSearchParams(Object.entries(query || {}).filter(([, v]) => v !== undefined && v !== "" && v !== null)).toString();

    return `#/ns/${part(db)}/${part(ns)}${tab ? "/" + tab : ""}${text ? "?" + text : ""}`;
}

/* The frame around a tab. The view is drawn when the definition is there. */
async function namespaceView(root, signal, { db, ns, tab = "documents" }, query) {
    const body = h("div");
    const about = h("p.num");

    show(root, h("div.head", null, h("p.crumb", null, h("a", { href: "#/" }, db)), h("h1", { tabindex: -1 }, ns), about),
        h("nav.tabs", { "aria-label": `Views of ${ns}` }, TABS.map(([id, text]) =>
            h("a", { href: nsHref(db, ns, id), "aria-current": id === tab ? "page" : null }, text))), body);
    show(body, busy("Reading …"));
    try {
        const def = await define(db, ns, signal);
        const tree = await refreshTree(signal);
        const found = tree.flatMap((d) => (d.db === db ? d.namespaces : [])).find((n) => n.name === ns);

        if (found && found.documents !== undefined)
            show(about, `${plural(found.documents, "document")} · ${bytes(found.memory)} · ${plural(def.indexes.length, "index", "indexes")}`);
        await ({ documents: documentsTab, search: searchTab, map: mapTab, indexes: indexesTab })[tab](body, signal, def, query);
    } catch (error) {
        if (!signal.aborted)
            show(body, errorBox(error));
    }
    return `${ns} · ${TABS.find((t) => t[0] === tab)[1]}`;
}

/* ---- Documents ---- */

async function documentsTab(body, signal, def, query) {
    const size = 50;
    const state = { offset: Math.max(0, Number(query.get("offset")) || 0), filter: query.get("filter") || "", sort: query.get("sort") || "",
        order: query.get("order") || "asc" };
    const filter = h("input.grow", { id: "filter", value: state.filter, placeholder: `Filter ${filterHint(def)}`,
        "aria-label": "Filter, as behind WHERE", spellcheck: "false" });
    const sorts = [["", "Any order"], ...def.indexes.filter((i) => !["float_vector", "composite"].includes(i.field_type) && i.index_type !== "text")
        .map((i) => [i.name, "By " + i.name])];
    const place = h("div");
    const again = (changes) => go(nsHref(def.db, def.ns, "documents", { ...state, ...changes, offset: changes.offset || undefined }));

    show(body, h("form.row", { onsubmit: (e) => {
        e.preventDefault();
        again({ filter: filter.value.trim() });
    } }, filter, pick(sorts, state.sort, (sort) => again({ sort }), "Order"),
    state.sort && pick([["asc", "ascending"], ["desc", "descending"]], state.order, (order) => again({ order }), "Direction"),
    h("button", { type: "submit" }, "Filter")), h("div.gap-s", null, place));
    show(place, busy("Reading …"));

    const params = new URLSearchParams({ limit: size, offset: state.offset });

    if (state.filter)
        params.set("filter", state.filter);
    if (state.sort) {
        params.set("sort_field", state.sort);
        params.set("sort_order", state.order);
    }
    try {
        const { data } = await call("GET", `${nsPath(def.db, def.ns)}/items?${params}`, undefined, signal);
        const n = data.total_items ?? data.items.length;
        const last = Math.min(state.offset + size, n);

        if (!data.items.length) {
            show(place, h("div.card.empty", null, h("h2", null, n ? "Nothing on this page" : state.filter ? "No document passes this filter" : "No documents"),
                n ? h("a.link", { href: nsHref(def.db, def.ns, "documents", { ...state, offset: undefined }) }, "To the first page") : null));
            return;
        }
        show(place, h("div.card.flush", null,
            dataTable(data.items, { caption: `Documents of ${def.ns}`, onopen: (doc) => openDocument(def, doc) }),
            h("div.under", null, h("span.num", null, `${count(state.offset + 1)}–${count(last)} of ${count(n)}`),
                h("div.row.push", null,
                    h("button.small", { disabled: state.offset === 0, onclick: () => again({ offset: Math.max(0, state.offset - size) }) }, icon("left", 13), "Back"),
                    h("button.small", { disabled: last >= n, onclick: () => again({ offset: state.offset + size }) }, "Next", icon("right", 13))))));
    } catch (error) {
        if (!signal.aborted)
            show(place, errorBox(error));
    }
}

/* A document in a sheet at the side: the whole of it, and what can be done with it. */
async function openDocument(def, doc) {
    const key = keyOf(def, doc);
    const body = h("div.body");
    const bars = h("div.stack");
    const title = describe(def, doc).title;
    const sheet = h("dialog.sheet", { "aria-label": `Document ${title}`, onclose: () => sheet.remove(), onclick: (e) => e.target === sheet && sheet.close() });
    const close = h("button.ghost", { "aria-label": "Close", onclick: () => sheet.close() }, icon("close"));
    const actions = h("footer");
    let text = printJson(doc);

    function draw(fold) {
        show(body, bars, jsonView(text, fold, "The document as JSON"));
        body.lastChild.classList.add("free");
    }
    sheet.append(h("header", null, h("h2.grow", null, title), close), body, actions);
    document.body.append(sheet);
    draw(true);
    sheet.showModal();
    if (key === undefined || printJson(key).includes("null")) {
        show(actions, h("span.soft", null, "This document has no primary key here, so it cannot be asked for by itself."));
        return;
    }
    try {
        const full = await fetchDocument(def, key);

        text = full.text;
        doc = full.doc;
        draw(true);
        for (const index of def.vectors)
            for (const value of [atPath(doc, index.json_paths[0])].filter(isVector))
                bars.append(vectorBars(index.name, value));
    } catch (error) {
        show(body, errorBox(error));
    }
    const search = def.vectors.find((index) => hasVector(doc, index));
    const whole = h("button", { "aria-pressed": "false", onclick: () => {
        const isWhole = whole.getAttribute("aria-pressed") === "false";

        whole.setAttribute("aria-pressed", isWhole);
        draw(!isWhole);
    } }, "Whole vectors");

    show(actions, search && h("a.button.main", { href: nsHref(def.db, def.ns, "search", { index: search.name, like: printJson(key) }), onclick: () => sheet.close() },
        icon("near"), "More like this"),
    search && h("a.button", { href: nsHref(def.db, def.ns, "map", { index: search.name, like: printJson(key) }), onclick: () => sheet.close() }, icon("map"), "On the map"),
    h("button", { onclick: () => copy(text, "Document") }, "Copy"), def.vectors.length > 0 && whole,
    needs(h("button", { onclick: () => editDocument(def, text, sheet) }, "Edit"), "data_write", def.db),
    needs(h("button.danger", { onclick: () => deleteDocument(def, text, title, sheet) }, "Delete"), "data_write", def.db));
}

function hasVector(doc, index) {
    const value = atPath(doc, index.json_paths[0]);

    return Array.isArray(value) && value.length > 0;
}

/* A vector as a strip: one column a number, up is positive. */
function vectorBars(name, values) {
    const canvas = h("canvas", { role: "img", "aria-label": `${name}: ${plural(values.length, "number")}`, title: `${name}: ${values.length} numbers` });
    const box = h("div.bars", null, canvas);

    requestAnimationFrame(() => {
        const ratio = devicePixelRatio || 1;
        const width = canvas.width = Math.round(canvas.clientWidth * ratio);
        const height = canvas.height = Math.round(40 * ratio);
        const ink = canvas.getContext("2d");
        const high = Math.max(...values.map(Math.abs)) || 1;
        const step = width / values.length;

        ink.fillStyle = colorOf("--accent");
        values.forEach((v, i) => ink.fillRect(i * step, height / 2 - Math.max(0, v / high) * height / 2, Math.max(step - ratio * 0.3, 0.6),
            Math.max(Math.abs(v / high) * height / 2, 0.5)));
    });
    return box;
}

/* A color of the page, as canvas wants it. */
function colorOf(name) {
    const probe = h("i");

    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const color = getComputedStyle(probe).color;

    probe.remove();
    return color;
}

function confirmBox(title, text, action, work) {
    const message = h("div");
    const box = h("dialog", { "aria-label": title, onclose: () => box.remove() }, h("form", { onsubmit: async (e) => {
        e.preventDefault();
        try {
            await work();
            box.close();
        } catch (error) {
            show(message, errorBox(error));
        }
    } }, h("h2", null, title), h("p", null, text), message,
    h("div.row", null, h("button.main", { type: "submit" }, action), h("button", { type: "button", onclick: () => box.close() }, "Cancel"))));

    document.body.append(box);
    box.showModal();
}

function deleteDocument(def, text, title, sheet) {
    confirmBox(`Delete “${title}”?`, `It is removed from ${def.ns} for good.`, "Delete", async () => {
        await call("DELETE", `${nsPath(def.db, def.ns)}/items`, text);
        sheet.close();
        toast("Deleted");
        route();
    });
}

function editDocument(def, text, sheet) {
    const area = h("textarea", { "aria-label": "The document as JSON", spellcheck: "false", value: jsonLines(text, false).join("\n") });
    const message = h("div");
    const box = h("dialog.sheet", { "aria-label": "Edit", onclose: () => box.remove() });

    box.append(h("header", null, h("h2.grow", null, "Edit")), h("div.body.pad", null, area, message),
        h("footer", null, h("button.main", { onclick: save }, "Save"), h("button", { onclick: () => box.close() }, "Cancel"),
            h("span.soft.small", null, "The whole document is replaced, vectors included.")));
    document.body.append(box);
    box.showModal();

    async function save() {
        try {
            const { data } = await call("PATCH", `${nsPath(def.db, def.ns)}/items`, area.value);

            if (!data.updated)
                throw new ApiError(400, "There is no document in this text.");
            box.close();
            sheet.close();
            toast("Saved");
            route();
        } catch (error) {
            show(message, errorBox(error));
        }
    }
}

/* ---- Indexes and their health ---- */

async function indexesTab(body, signal, def) {
    const vectors = h("div.stack");
    const scalars = h("div");

    show(body, def.vectors.length > 0 && h("section", null, h("h2", null, "Vector indexes"), vectors),
        h("section", null, h("h2", null, "Fields"), scalars));
    show(vectors, busy("Reading …"));
    const stats = await sql(def.db, `SELECT * FROM #memstats WHERE name = ${quoted(def.ns)}`, signal)
        .then(({ data }) => new Map(((data.items[0] || {}).indexes || []).map((i) => [i.name, i])), () => new Map());

    show(scalars, fieldTable(def, stats));
    if (!def.vectors.length)
        return;
    every(2000, signal, async () => {
        const health = await get(`${nsPath(def.db, def.ns)}/health`, signal);

        if (vectors.dataset.is === "drawn")
            health.vector_indexes.forEach((index) => vectors.querySelectorAll(".live").forEach((node) =>
                node.dataset.index === index.name && show(node, healthFacts(index))));
        else
            show(vectors, health.vector_indexes.map((index) => healthCard(def, index)));
        vectors.dataset.is = "drawn";
    }, (error) => {
        vectors.dataset.is = "";
        show(vectors, errorBox(error));
    });
}

function fieldTable(def, stats) {
    const flags = (i) => [i.is_pk && "primary key", i.is_array && "array", i.is_sparse && "sparse", i.is_dense && "dense", i.is_no_column && i.index_type !== "text"
        && i.field_type !== "float_vector" && "no column", i.collate_mode && i.collate_mode !== "none" && `collate ${i.collate_mode}`,
    i.expire_after > 0 && `expires after ${duration(i.expire_after)}`].filter(Boolean);

    return h("div.card.flush", null, h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Fields and their indexes" }, h("table", null,
        h("thead", null, h("tr", null, ["Name", "Type", "Index", "Paths", "Notes"].map((t) => h("th", { scope: "col" }, t)),
            ["Keys", "Memory"].map((t) => h("th.right", { scope: "col" }, t)))),
        h("tbody", null, def.indexes.map((i) => {
            const s = stats.get(i.name) || {};
            const memory = (s.indexing_struct_size || 0) + (s.data_size || 0);

            return h("tr", null, h("td", null, h("strong", null, i.name)), h("td", null, i.field_type), h("td", null, i.index_type === "-" ? "none" : i.index_type),
                h("td.mono", null, i.json_paths.join(", ")), h("td", null, h("div.row", null, flags(i).map((f) => h("span.chip", null, f)))),
                h("td.right", null, s.uniq_keys_count === undefined ? "–" : count(s.uniq_keys_count)), h("td.right", null, memory ? bytes(memory) : "–"));
        })))));
}

function healthFacts(index) {
    const q = index.quantization || { state: "none" };
    const p = index.parameters || {};
    const cache = index.cache || {};
    const embedder = (e) => [h("span.mono", null, e.url), e.fields && ` from ${e.fields.join(", ")}`, e.strategy && `, ${e.strategy.replace("_", " ")}`];

    return [facts([
        ["Vectors", count(index.vectors)],
        index.documents_without > 0 ? ["Documents without", count(index.documents_without)] : null,
        ["Dimension", count(index.dimension)],
        ["Memory", bytes(index.memory)],
        ["Vectors alone", bytes(index.vector_bytes)],
        ["Links per node (m)", p.m], ["ef_construction", p.ef_construction], ["Clusters", p.n_centroids],
        ["ef of searches", index.defaults && index.defaults.ef], ["nprobe of searches", index.defaults && index.defaults.nprobe],
        ["Radius", index.radius],
        ["Index file", cache.exists ? `${bytes(cache.bytes)}, ${cache.changes_since ? plural(cache.changes_since, "change") + " since" : "up to date"}` : "none yet"],
        ["Quantization", [quantizationText(q, index), progressOf(q, index)]],
        index.upsert_embedder && ["Documents are embedded by", embedder(index.upsert_embedder), true],
        index.query_embedder && ["Texts of queries are embedded by", embedder(index.query_embedder), true],
    ])];
}

function progressOf(q, index) {
    if (q.state !== "running" && q.state !== "waiting")
        return null;
    return h("progress", { max: 1, "aria-label": "Quantization", value: q.state === "running" ? q.progress : Math.min(1, index.vectors / (q.threshold || 1)) });
}

function quantizationText(q, index) {
    switch (q.state) {
    case "waiting":
        return `begins at ${count(q.threshold)} vectors`;
    case "running":
        return `${Math.floor(100 * q.progress)} % done`;
    case "quantized":
        return `8 bits a number${q.range ? `, ${digits(q.range[0], 3)} to ${digits(q.range[1], 3)}` : ""}`;
    default:
        return index.built === false ? "none; not built yet" : "none";
    }
}

function healthCard(def, index) {
    return h("div.card", null, h("header", null, h("h3", null, index.name), h("span.chip.accent", null, index.kind), h("span.chip", null, index.metric.replace("_", " ")),
        index.is_array && h("span.chip", null, "several a document"), index.built === false && h("span.chip.warn", null, "being built"),
        h("div.row.push", null, h("a.button", { href: nsHref(def.db, def.ns, "search", { index: index.name }) }, icon("search"), "Search"),
            h("a.button", { href: nsHref(def.db, def.ns, "map", { index: index.name }) }, icon("map"), "Map"))),
    h("div.live", { "data-index": index.name }, healthFacts(index)), recallForm(def, index));
}

/* "How often does the index miss?", measured: its answers beside those of an exact scan. */
function recallForm(def, index) {
    const breadth = index.kind === "hnsw" ? "ef" : index.kind === "ivf" ? "nprobe" : null;
    const usual = breadth && index.defaults ? index.defaults[breadth] : undefined;
    const k = h("input", { type: "number", min: 1, max: 1000, value: 10 });
    const wide = breadth && h("input", { type: "number", min: 1, placeholder: usual === undefined ? "auto" : String(usual) });
    const n = h("input", { type: "number", min: 1, max: 1000, value: 100 });
    const result = h("div", { "aria-live": "polite" });
    const button = h("button.main", { type: "submit" }, "Measure recall");
    let running = null;

    async function measure(e) {
        e.preventDefault();
        if (running) {
            running.abort();
            return;
        }
        running = new AbortController();
        show(button, "Stop");
        show(result, busy("Comparing with an exact scan …"));
        try {
            const body = { index: index.name, k: Number(k.value), queries: Number(n.value) };

            if (breadth && wide.value)
                body[breadth] = Number(wide.value);
            show(result, recallResult(await post(`${nsPath(def.db, def.ns)}/recall`, body, running.signal), index));
        } catch (error) {
            show(result, running.signal.aborted ? h("p.soft", null, "Stopped.") : errorBox(error));
        }
        running = null;
        show(button, "Measure recall");
    }
    if (index.recall)
        show(result, recallResult(index.recall, index));
    return h("div.measure", null, h("p.soft.small.gap-less", null, "How many of the true neighbors does a search find? Its answers beside those of an exact scan:"), h("form.row.ends", { onsubmit: measure }, field("k", k, "How many neighbors are compared"),
        breadth && field(breadth, wide, breadth === "ef" ? "How broadly the graph is searched" : "How many clusters are searched"),
        field("queries", n, "Stored vectors that are asked, themselves left out"), needs(button, "data_read", def.db)), result);
}

function recallResult(r, index) {
    const slow = r.exact_us && Math.max(r.exact_us.median, r.index_us.median, 1);
    const bar = (name, us, color) => {
        const fill = h("i");

        fill.style.width = `${Math.max(1.5, 100 * us.median / slow)}%`;
        fill.style.background = `var(${color})`;
        return h("div.against", null, h("span.soft.small", null, name), h("div.meter", null, fill),
            h("span.num.small", null, `${millis(us.median / 1000)}, p99 ${millis(us.p99 / 1000)}`));
    };
    const settings = [`k ${r.k}`, r.ef && `ef ${r.ef}`, r.nprobe && `nprobe ${r.nprobe}`, `${plural(r.queries, "query", "queries")}`].filter(Boolean).join(" · ");

    return h("div.recall", null, h("div", null, h("div.big.num", null, r.recall.toFixed(r.recall >= 0.9995 ? 2 : 3)),
        h("div.soft.small", null, `recall@${r.k}`)),
    h("div.grow.stack", null, r.index_us && bar(index.kind, r.index_us, "--accent"), r.exact_us && bar("exact scan", r.exact_us, "--rest"),
        h("p.soft.small.num", null, settings + (r.recall_worst === undefined ? "" : ` · worst query ${r.recall_worst.toFixed(2)}`)
            + (r.measured_at ? ` · measured ${duration(Math.max(1, Date.now() / 1000 - r.measured_at))} ago` : "")
            + (slow ? ` · ${digits(r.exact_us.median / Math.max(r.index_us.median, 0.01), 2)} times as fast` : ""))));
}
