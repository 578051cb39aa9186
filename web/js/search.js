/* Nearest neighbors: by a text, by a document ("more like this"), or by a vector. */

async function searchTab(body, signal, def, query) {
    if (!def.vectors.length) {
        show(body, h("div.card.empty", null, h("h2", null, "No vector index"), h("p", null,
            "This namespace holds no vectors to search. Add an index of the type ", h("code", null, "float_vector"), "."),
        h("a.link", { href: nsHref(def.db, def.ns, "indexes") }, "Its indexes")));
        return;
    }
    const index = def.vectors.find((i) => i.name === query.get("index")) || def.vectors.find(embedderOf) || def.vectors[0];
    const like = query.get("like");
    const state = { text: query.get("text") || "", like, vector: query.get("vector") || "",
        k: Number(query.get("k")) || 10, breadth: query.get("breadth") || "", radius: query.get("radius") || "", filter: query.get("filter") || "",
        more: query.get("more") === "1" };
    let mode = query.get("by") || (like !== null ? "like" : state.vector ? "vector" : state.text || embedderOf(index) ? "text" : "like");
    const breadth = { hnsw: "ef", ivf: "nprobe" }[index.index_type];
    const results = h("div.gap", { "aria-live": "polite" });
    const input = h("input", { id: "ask", type: "search", autocomplete: "off" });
    const k = h("input", { type: "number", min: 1, max: 10000, value: state.k });
    const wide = breadth && h("input", { type: "number", min: 1, value: state.breadth, placeholder: "auto" });
    const radius = h("input", { type: "number", step: "any", value: state.radius, placeholder: "none" });
    const filter = h("input.grow", { value: state.filter, spellcheck: "false", placeholder: filterHint(def) });

    function setMode(next) {
        mode = next;
        input.placeholder = { text: "Describe what you look for", like: `${def.pk ? def.pk.name : "key"} of a document`, vector: `${index.config.dimension} numbers: 0.1, 0.7, …` }[mode];
        input.setAttribute("aria-label", { text: "What you look for, in words", like: "Key of the document whose like you look for", vector: "Vector" }[mode]);
        input.value = mode === "text" ? state.text : mode === "vector" ? state.vector : like === null ? "" : keyText(parseJson(like));
    }
    const modes = segments("What to search by", [["text", "Text"], ["like", "Document"], ["vector", "Vector"]], mode, (next) => {
        setMode(next);
        drawNote();
        input.focus();
    });
    const note = h("div");

    function drawNote() {
        show(note, mode === "text" && !embedderOf(index) && h("p.callout.small", null, "The index ", h("strong", null, index.name),
            " names no query embedder, so the server cannot turn a text into a vector. Search by a document instead, or set ",
            h("code", null, "config.embedding.query_embedder"), "."));
    }
    function submit(e) {
        e.preventDefault();
        const value = input.value.trim();

        if (!value) {
            input.focus();
            return;
        }
        const next = { index: index.name, k: k.value === "10" ? "" : k.value, breadth: wide && wide.value, radius: radius.value, filter: filter.value.trim() };

        next[mode] = mode === "like" ? typedKey(def, value) : value;
        const href = nsHref(def.db, def.ns, "search", next);

        if (href === location.hash)
            run();
        else
            go(href);
    }
    show(body, h("form.stack", { onsubmit: submit, role: "search" },
        h("div.row", null, modes, def.vectors.length > 1 && field("", pick(def.vectors.map((i) => [i.name, `in ${i.name}`]), index.name,
            (name) => go(nsHref(def.db, def.ns, "search", { index: name })), "Vector index"))),
        h("div.ask", null, input, h("button.main", { type: "submit", "aria-label": "Search" }, icon("search"), h("span.wide-only", null, "Search"))),
        h("div.row.ends", null, field("Neighbors (k)", k), breadth && field(`Breadth (${breadth})`, wide), field("Radius", radius,
            index.config.metric === "l2" ? "Only squared distances below this" : "Only ranks above this"),
        h("label.field.grow", null, "Filter", filter)), note), results);
    setMode(mode);
    drawNote();

    async function run() {
        show(results, busy("Searching …"));
        try {
            const q = { index: index.name, k: Number(k.value) || 10, radius: radius.value ? Number(radius.value) : undefined, filter: state.filter };

            if (breadth && wide.value)
                q[breadth] = Number(wide.value);
            await search(def, index, mode, state, q, results, signal);
        } catch (error) {
            if (!signal.aborted)
                show(results, errorBox(error));
        }
    }
    if ((mode === "text" && state.text) || (mode === "like" && like !== null) || (mode === "vector" && state.vector)) {
        run();
        return;
    }
    await suggest(def, index, results, signal);
}

/* What was typed as a key, as JSON: a number where the key is one. */
function typedKey(def, text) {
    if (def.pk && def.pk.field_type === "composite") {
        const types = def.pk.json_paths.map((name) => (def.indexes.find((i) => i.name === name) || {}).field_type);

        return `[${text.split(/\s*[·,]\s*/).map((t, i) => oneKey(types[i], t)).join(",")}]`;
    }
    return oneKey(def.pk && def.pk.field_type, text);
}

function oneKey(type, text) {
    if (["int", "int64", "double"].includes(type) && /^-?\d+(\.\d+)?$/.test(text))
        return text;
    return type === "bool" && /^(true|false)$/.test(text) ? text : JSON.stringify(text);
}

/* Some documents to begin with, where there is nothing to describe. */
async function suggest(def, index, place, signal) {
    const { data } = await dsl(def.db, { namespace: def.ns, limit: 8, filters: [{ op: "and", cond: "any", field: index.name }] }, signal);

    if (!data.items.length) {
        show(place, h("p.soft", null, "No document has a vector here yet."));
        return;
    }
    show(place, h("section", null, h("h2", null, "Or begin with a document"), h("div.card.flush", null, h("ul.hits", null,
        data.items.map((doc) => hitRow(def, index, doc, null))))));
}

/* Asks, shows what was found. state: { text, like, vector }; q as knnSql's. */
async function search(def, index, mode, state, q, place, signal) {
    const origin = mode === "like" ? await originOf(def, index, parseJson(state.like), signal) : null;

    if (origin)
        q.vector = origin.vector;
    else if (mode === "vector")
        q.vector = numbersOf(state.vector, index);
    else
        q.text = state.text;
    const wanted = q.k;
    const isWidened = state.more;

    if (origin)
        q.k++; /* it finds itself */
    if (isWidened)
        Object.assign(q, { withoutK: true, limit: q.k });
    const answer = await sql(def.db, knnSql(def, q), signal);
    const found = answer.data.items.filter((doc) => !origin || !sameKey(keyOf(def, doc), origin.key)).slice(0, wanted);
    const best = found.length ? rankOf(found[0]) : 0;
    const canWiden = q.filter && !isWidened && found.length < wanted && index.index_type === "hnsw" && q.radius === undefined;
    const href = (changes) => nsHref(def.db, def.ns, "search", { ...Object.fromEntries(new URLSearchParams(location.hash.split("?")[1])), ...changes });
    const ids = def.pk && found.map((doc) => keyOf(def, doc));

    show(place, origin && h("p.soft.origin", null, "Like ", h("strong", null, describe(def, origin.doc).title), " ",
        describe(def, origin.doc).text),
    h("div.row.wide.soft.small.num.meta", null, h("span", null, plural(found.length, "neighbor")), timing(answer),
        def.pk && found.length > 0 && h("a.link.push", { href: nsHref(def.db, def.ns, "map", { index: index.name, like: state.like, text: mode === "text" ? state.text : "",
            k: wanted === 10 ? "" : wanted }) }, "Show on the map")),
    !found.length && h("div.card.empty", null, h("h2", null, "Nothing found"),
        h("p", null, q.filter ? "None of the nearest passes the filter." : "No vector lies within these limits.")),
    canWiden && h("p.callout.small", null, `${found.length ? `Only ${found.length}` : "None"} of the ${wanted} nearest ${found.length === 1 ? "passes" : "pass"} the filter. `,
        h("a.link", { href: href({ more: "1" }) }, `Search on until ${wanted} pass`)),
    found.length > 0 && h("div.card.flush", null, h("ol.hits", null, found.map((doc, i) => hitRow(def, index, doc, { place: i + 1, best })))),
    queryNote(def, index, q));
    return ids;
}

async function originOf(def, index, key, signal) {
    const { doc } = await fetchDocument(def, key, signal);
    const value = atPath(doc, index.json_paths[0]);
    const vector = Array.isArray(value) && Array.isArray(value[0]) ? value[0] : value;

    if (!Array.isArray(vector) || !vector.length)
        throw new ApiError(400, `Document ${keyText(key)} has no vector in ${index.name}.`);
    return { doc, key, vector };
}

function numbersOf(text, index) {
    const numbers = text.replace(/[[\]]/g, " ").split(/[\s,;]+/).filter(Boolean).map(Number);

    if (numbers.some((n) => !Number.isFinite(n)))
        throw new ApiError(400, "A vector is written as numbers with commas between them.");
    if (numbers.length !== index.config.dimension)
        throw new ApiError(400, `These are ${plural(numbers.length, "number")}; the index ${index.name} has the dimension ${index.config.dimension}.`);
    return numbers;
}

const rankOf = (doc) => doc["rank()"];

function timing(answer) {
    return h("span", { title: "server: from the request's first byte to the answer made; total: as this page waited for it" },
        (answer.server === null ? "" : `server ${millis(answer.server)} · `) + `total ${millis(answer.total)}`);
}

/* place: { place, best } or null for a document without a rank. */
function hitRow(def, index, doc, rank) {
    const { key, title, text, rest } = describe(def, doc);
    const r = rankOf(doc);
    const fill = h("i");

    if (rank)
        fill.style.width = `${100 * nearness(index, r, rank.best)}%`;
    const likeHref = nsHref(def.db, def.ns, "search", { index: index.name, like: printJson(key) });

    return h("li", null, h("span.place", null, rank ? rank.place : ""),
        h("div", null, h("button.what", { onclick: () => openDocument(def, doc) }, title), " ",
            rest.slice(0, 4).map(([name, value]) => [h("span.chip", { title: name }, `${name === "section" ? "" : name + " "}${String(value).slice(0, 60)}`), " "])),
        rank ? h("div.rank", { title: isRising(index) ? "larger is nearer" : "smaller is nearer" }, rankText(r), h("div.meter", null, fill)) : h("span"),
        h("span.text", null, text.slice(0, 240)),
        h("div.acts", null, key !== undefined && h("a.button.small.ghost", { href: likeHref, "aria-label": `More like this: ${title}` }, icon("near", 14), "More like this")));
}

const rankText = (r) => (typeof r === "number" ? (Math.abs(r) < 1000 ? r.toPrecision(4) : digits(r, 4)) : "–");

/* 0 to 1, for the bar: the similarity itself, or how much farther than the best. */
function nearness(index, r, best) {
    if (typeof r !== "number")
        return 0;
    if (index.config.metric === "cosine")
        return Math.min(1, Math.max(0, r));
    return isRising(index) ? Math.min(1, Math.max(0, best > 0 ? r / best : best / r)) : (1 + best) / (1 + r);
}

function queryNote(def, index, q) {
    const whole = knnSql(def, q);

    return h("details.gap-s", null, h("summary", null, "The query behind this"), h("pre.source", null, knnSql(def, q, true)),
        h("div.row.gap-s", null, h("button", { onclick: () => copy(whole, "Query") }, "Copy as SQL"),
            h("button", { onclick: () => copy(`curl -s ${location.origin}${dbPath(def.db)}/sqlquery --data-binary @- <<'END'\n${whole}\nEND`, "Command") }, "Copy as curl"),
            h("button", { onclick: () => openQuery(def.db, "sql", whole) }, "Open in the editor")));
}
