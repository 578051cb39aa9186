/* Tables and texts of any length: only what is seen is in the page. */

const ROW = 34;
const LINE = 20;

/* Cells of a document's value: short, and safe by being text. */
function cell(value) {
    if (value === null)
        return h("span.null", null, "null");
    if (value === undefined)
        return "";
    if (isVector(value))
        return h("span.vector", { title: `${value.length} numbers` }, `[${value.slice(0, 3).map((v) => plain(v, 3)).join(", ")}, …] ${count(value.length)}`);
    if (typeof value === "object")
        return h("span.mono", null, preview(value, 3));
    const text = String(value);

    return text.length > 300 ? text.slice(0, 300) + "…" : text;
}

/* The beginning of a list or an object, whatever its size. */
function preview(value, depth) {
    if (Array.isArray(value)) {
        const most = isVector(value) || value.length > 2 * INLINE ? 3 : value.length;
        const seen = depth ? value.slice(0, most).map((v) => preview(v, depth - 1)).join(", ") : "";

        return most < value.length || !depth ? `[${seen}${seen && ", "}…] ${count(value.length)}` : `[${seen}]`;
    }
    if (value && typeof value === "object") {
        const names = Object.keys(value);
        const seen = depth ? names.slice(0, 6).map((name) => `${name}: ${preview(value[name], depth - 1)}`).join(", ") : "";

        return `{${seen}${names.length > 6 || !depth ? "…" : ""}}`;
    }
    return typeof value === "string" ? JSON.stringify(value.slice(0, 80)) : typeof value === "number" ? plain(value, 5) : String(value);
}

const isNumber = (value) => typeof value === "number" || typeof value === "bigint";

/* The columns of a list of documents: every top-level field, with a width for what it holds. */
function columnsOf(rows, most) {
    const columns = new Map();

    for (const row of rows)
        for (const name in row)
            if (!columns.has(name) && columns.size < (most || 64))
                columns.set(name, { name, isNumeric: true, width: name.length + 1 });
    for (const column of columns.values()) {
        for (const row of rows.slice(0, 60)) {
            const value = row[column.name];
            const size = isVector(value) ? 34 : value === undefined ? 0 : typeof value === "object" ? preview(value, 3).length : String(value).length;

            column.width = Math.max(column.width, Math.min(size, 52));
            column.isNumeric = column.isNumeric && (isNumber(value) || value === undefined || value === null);
        }
    }
    return [...columns.values()];
}

/* What scrolls through `n` things of equal height; draw(first, end) makes those that are seen. */
function virtual(scroller, n, height, draw) {
    let first = -1;
    let end = -1;

    function update(force) {
        const seen = Math.ceil((scroller.clientHeight || 600) / height);
        const from = Math.max(0, Math.floor(scroller.scrollTop / height) - 20);
        const to = Math.min(n, from + seen + 40);

        if (force || from !== first || to !== end)
            draw(first = from, end = to);
    }
    scroller.addEventListener("scroll", () => update(false), { passive: true });
    if (typeof ResizeObserver !== "undefined")
        new ResizeObserver(() => update(false)).observe(scroller);
    update(true);
    return update;
}

/* rows: objects. options: caption, onopen(row, i), columns, most. Rows are walked with the arrow keys and opened with Enter. */
function dataTable(rows, options) {
    const columns = options.columns || columnsOf(rows);
    const body = h("tbody");
    const width = columns.reduce((sum, c) => sum + c.width * 7.6 + 30, 0);
    const table = h("table.fixed", { "aria-rowcount": rows.length + 1 }, h("caption.quiet", null, options.caption),
        h("colgroup", null, columns.map(() => h("col"))),
        h("thead", null, h("tr", { "aria-rowindex": 1 }, columns.map((c) => h(c.isNumeric ? "th.right" : "th", { scope: "col", title: c.name }, c.name)))), body);
    const scroller = h("div.scroll", options.onopen ? { role: "region", "aria-label": options.caption }
        : { role: "region", "aria-label": options.caption, tabindex: 0 }, table);
    let current = 0;

    [...table.querySelectorAll("col")].forEach((col, i) => col.style.setProperty("width", `${columns[i].width * 7.6 + 30}px`));
    table.style.minWidth = `${width}px`;

    function rowNode(i) {
        const open = options.onopen && (() => options.onopen(rows[i], i));

        return h("tr", { "aria-rowindex": i + 2, "data-i": i, tabindex: open ? (i === current ? 0 : -1) : null, onclick: open,
            onkeydown: open && ((e) => step(e, open)) },
        columns.map((c) => h(c.isNumeric ? "td.right" : "td", null, cell(rows[i][c.name]))));
    }
    function step(e, open) {
        const page = Math.max(1, Math.floor(scroller.clientHeight / ROW) - 2);
        const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length };

        if (e.key === "Enter" || e.key === " ")
            open();
        else if (moves[e.key])
            focusRow(Math.min(rows.length - 1, Math.max(0, current + moves[e.key])));
        else
            return;
        e.preventDefault();
    }
    function focusRow(i) {
        const top = i * ROW;

        current = i;
        if (top < scroller.scrollTop)
            scroller.scrollTop = top;
        else if (top + 2 * ROW + 36 > scroller.scrollTop + scroller.clientHeight)
            scroller.scrollTop = top + 2 * ROW + 36 - scroller.clientHeight;
        update(true);
        body.querySelector(`tr[data-i="${i}"]`)?.focus();
    }
    function pad(n) {
        const node = h("td", { colspan: columns.length });

        node.style.height = `${n * ROW}px`;
        return n > 0 ? h("tr.pad", { "aria-hidden": "true" }, node) : null;
    }
    const update = virtual(scroller, rows.length, ROW, (first, end) => {
        const held = document.activeElement && body.contains(document.activeElement) ? Number(document.activeElement.dataset.i) : -1;

        if (current < first || current >= end)
            current = held >= 0 ? current : Math.min(Math.max(first, 0), rows.length - 1);
        show(body, pad(first), Array.from({ length: end - first }, (_, i) => rowNode(first + i)), pad(rows.length - end));
        if (held >= first && held < end)
            body.querySelector(`tr[data-i="${held}"]`).focus({ preventScroll: true });
    });

    return scroller;
}

/* Lines of text, painted by paint(line) -> nodes. */
function lineView(lines, paint, label) {
    const box = h("div.lines");
    const scroller = h("div.scroll", { role: "region", "aria-label": label, tabindex: 0 }, box);
    const longest = lines.reduce((most, line) => Math.max(most, line.length), 0);

    box.style.height = `${lines.length * LINE + 20}px`;
    box.style.minWidth = `${longest * 7.6 + 32}px`;
    virtual(scroller, lines.length, LINE, (first, end) => {
        show(box, lines.slice(first, end).map((line) => h("div", null, paint(line))));
        box.style.paddingTop = `${first * LINE + 10}px`;
    });
    return scroller;
}

const jsonView = (text, fold, label) => lineView(jsonLines(text, fold), paintJson, label);
