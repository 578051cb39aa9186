/* The map: documents on the two axes along which their vectors differ most (PCA, computed by the server). */

const COLORS = 8;

async function mapTab(body, signal, def, query) {
    const index = def.vectors.find((i) => i.name === query.get("index")) || def.vectors.find(embedderOf) || def.vectors[0];

    if (!index) {
        show(body, h("div.card.empty", null, h("h2", null, "No vector index"), h("p", null, "There is nothing to draw a map of.")));
        return;
    }
    const limit = Number(query.get("limit")) || 2000;
    const k = Number(query.get("k")) || 10;
    const again = (changes) => go(nsHref(def.db, def.ns, "map", { index: index.name, limit: limit === 2000 ? "" : limit, color: query.get("color"),
        like: query.get("like"), text: query.get("text"), ...changes }));

    show(body, busy("Computing the map …"));
    const map = await get(`${nsPath(def.db, def.ns)}/map?${new URLSearchParams({ index: index.name, limit, seed: 1 })}`, signal);
    const docs = await documentsOf(def, map.ids, signal);
    const points = map.ids.map((id, i) => ({ key: id, x: map.x[i], y: map.y[i], doc: docs.get(printJson(id)), group: COLORS }));
    const choices = colorChoices(def, docs);
    const color = choices.includes(query.get("color")) ? query.get("color") : query.get("color") === "none" ? "" : choices[0] || "";
    const groups = colorGroups(points, color);
    const side = h("div.beside");
    const chart = pointChart(points, { def, onpick: (p) => p.key !== null && choose({ key: p.key }), groups });
    const status = h("span.soft.small.num", null, `${plural(map.sampled ?? points.length, "point")} of ${count(map.vectors ?? points.length)} · `
        + `the two axes show ${digits(100 * (map.explained[0] + map.explained[1]), 2)} % of the variance`);

    show(body, h("div.row.wide.tools", null,
        def.vectors.length > 1 && field("", pick(def.vectors.map((i) => [i.name, i.name]), index.name, (name) => again({ index: name, like: "", text: "" }), "Vector index")),
        pick([1000, 2000, 5000, 10000].map((n) => [String(n), `Up to ${count(n)} points`]), String(limit), (n) => again({ limit: n === "2000" ? "" : n }), "Size of the sample"),
        choices.length > 0 && pick([["none", "One color"], ...choices.map((c) => [c, `Color by ${c}`])], color || "none", (c) => again({ color: c }), "Color"),
        status), h("div.map", null, chart.node, side));
    chart.fit();
    drawSide(null);
    signal.addEventListener("abort", chart.stop);

    function drawSide(content) {
        show(side, embedderOf(index) && h("form.row", { role: "search", onsubmit: (e) => {
            e.preventDefault();
            const text = e.target.elements[0].value.trim();

            if (text)
                choose({ text });
        } }, h("input.grow", { id: "ask", type: "search", placeholder: "Find by meaning", "aria-label": "Find by meaning", autocomplete: "off" }),
        h("button", { type: "submit", "aria-label": "Find" }, icon("search"))),
        groups.names.length > 0 && h("div.card", null, h("h3.gap-less", null, color), legend(groups, chart)),
        h("div.card.list", { "aria-live": "polite" }, content || h("p.soft", null, "Choose a point, and its nearest neighbors light up. "
            + "Nearest in all dimensions, that is: on the map they may lie apart.")));
    }
    /* q: { key } or { text } */
    async function choose(q) {
        const list = h("div", null, busy("Searching …"));

        drawSide(list);
        try {
            const origin = q.key !== undefined ? await originOf(def, index, q.key, signal) : null;
            const { data } = await sql(def.db, knnSql(def, { index: index.name, text: q.text, vector: origin && origin.vector, k: k + (origin ? 1 : 0) }), signal);
            const found = data.items.filter((doc) => !origin || !sameKey(keyOf(def, doc), origin.key)).slice(0, k);
            const at = await post(`${nsPath(def.db, def.ns)}/map`, { index: index.name, limit, seed: 1,
                ids: [...(origin ? [origin.key] : []), ...found.map((doc) => keyOf(def, doc))] }, signal);
            const placed = at.ids.map((id, i) => ({ key: id, x: at.x[i], y: at.y[i] }));
            const near = found.map((doc) => ({ ...placed.find((p) => sameKey(p.key, keyOf(def, doc))), doc, key: keyOf(def, doc) }));

            chart.highlight(origin ? { ...placed.find((p) => sameKey(p.key, origin.key)), doc: origin.doc, key: origin.key } : null, near);
            drawNear(list, origin, q.text, near);
        } catch (error) {
            if (!signal.aborted)
                show(list, errorBox(error));
        }
    }
    function drawNear(list, origin, text, near) {
        const about = origin && describe(def, origin.doc);

        show(list, h("h2", null, origin ? about.title : `“${text}”`), about && about.text && h("p.soft.small", null, about.text.slice(0, 200)),
            h("div.row.gap-s", null, origin && h("button.small", { onclick: () => openDocument(def, origin.doc) }, "Open"),
                h("a.button.small", { href: nsHref(def.db, def.ns, "search", { index: index.name, like: origin ? printJson(origin.key) : "", text: origin ? "" : text }) }, "As a list"),
                h("button.small", { onclick: () => {
                    chart.highlight(null, []);
                    drawSide(null);
                } }, "Clear")),
            h("ol.near.gap-s", null, near.map((p) => h("li", null, h("button", { onclick: () => choose({ key: p.key }),
                onmouseenter: () => chart.point(p), onmouseleave: () => chart.point(null), onfocus: () => chart.point(p), onblur: () => chart.point(null) },
            h("span", null, describe(def, p.doc).title), h("span.soft.num", null, rankText(rankOf(p.doc))))))));
    }
    if (query.get("like"))
        await choose({ key: parseJson(query.get("like")) });
    else if (query.get("text"))
        await choose({ text: query.get("text") });
}

/* The documents of the sample, by key: for labels and colors. Without a simple key there are none. */
async function documentsOf(def, ids, signal) {
    const docs = new Map();

    if (!def.pk || def.pk.field_type === "composite")
        return docs;
    for (let i = 0; i < ids.length; i += 2000) {
        const { data } = await dsl(def.db, { namespace: def.ns, limit: 2000, filters: [keyFilter(def, ids.slice(i, i + 2000).filter((id) => id !== null))] }, signal);

        for (const doc of data.items)
            docs.set(printJson(keyOf(def, doc)), doc);
    }
    return docs;
}

/* Fields that sort the sample into a few groups, the best first: few values, each often. */
function colorChoices(def, docs) {
    const values = new Map();

    for (const doc of docs.values())
        for (const [name, value] of Object.entries(doc))
            if (["string", "boolean", "number"].includes(typeof value) && name !== (def.pk && def.pk.name))
                (values.get(name) || values.set(name, new Map()).get(name)).set(value, (values.get(name).get(value) || 0) + 1);
    return [...values].filter(([, v]) => v.size > 1 && v.size <= Math.max(12, docs.size / 12))
        .sort((a, b) => (typeof [...b[1].keys()][0] === "string") - (typeof [...a[1].keys()][0] === "string") || b[1].size - a[1].size).map(([name]) => name);
}

/* The most frequent values get a color each, all others share one. */
function colorGroups(points, color) {
    const sizes = new Map();

    if (!color)
        return { names: [], hidden: new Set() };
    for (const p of points)
        if (p.doc)
            sizes.set(p.doc[color], (sizes.get(p.doc[color]) || 0) + 1);
    const names = [...sizes].sort((a, b) => b[1] - a[1]).slice(0, COLORS);

    for (const p of points) {
        const at = p.doc ? names.findIndex(([name]) => name === p.doc[color]) : -1;

        p.group = at < 0 ? COLORS : at;
    }
    const rest = points.filter((p) => p.group === COLORS).length;

    return { names: rest ? [...names, ["others", rest]] : names, hidden: new Set(), hasRest: rest > 0 };
}

function legend(groups, chart) {
    return h("div.legend", null, groups.names.map(([name, n], i) => {
        const at = groups.hasRest && i === groups.names.length - 1 ? COLORS : i;
        const swatch = h("span.swatch");
        const button = h("button", { "aria-pressed": "true", title: "Show or hide", onclick: () => {
            const isHidden = groups.hidden.has(at);

            groups.hidden[isHidden ? "delete" : "add"](at);
            button.setAttribute("aria-pressed", isHidden);
            chart.draw();
        } }, swatch, `${String(name === undefined ? "none" : name)} `, h("span.soft.num", null, short(n)));

        swatch.style.background = `var(${at === COLORS ? "--rest" : "--c" + at})`;
        return button;
    }));
}
