/* What every view is made of: elements, numbers for people, JSON, what the browser remembers.
 * Data reaches the page as text nodes and attribute values only; nothing here takes HTML. */

/* h("button.main", { onclick: f, "aria-label": "Run" }, "Run", icon("play")). Children: nodes, text, lists; null and false are left out. */
function h(tag, props, ...children) {
    const [name, ...classes] = tag.split(".");
    const node = document.createElement(name);

    if (classes.length)
        node.className = classes.join(" ");
    for (const [key, value] of Object.entries(props || {})) {
        if (value === null || value === undefined || (value === false && !key.startsWith("aria-")))
            continue;
        if (key.startsWith("on"))
            node.addEventListener(key.slice(2), value);
        else if (key === "value" || key === "checked" || key === "indeterminate")
            node[key] = value;
        else
            node.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
    }
    node.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
    return node;
}

function show(node, ...children) {
    node.replaceChildren(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
    return node;
}

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, props, ...children) {
    const node = document.createElementNS(SVG, tag);

    for (const [key, value] of Object.entries(props || {}))
        node.setAttribute(key, value);
    node.append(...children);
    return node;
}

const ICONS = {
    overview: "M3 3h7v7H3zM14 3h7v4h-7zM14 11h7v10h-7zM3 14h7v7H3z",
    search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
    query: "M4 6l6 6-6 6M12 19h8",
    map: "M5 6h.01M12 4h.01M18 9h.01M8 13h.01M14 15h.01M6 19h.01M19 19h.01M10 9h.01",
    menu: "M3 6h18M3 12h18M3 18h18",
    sun: "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12 1v2M12 21v2M4.2 4.2l1.4 1.4M18.4 18.4l1.4 1.4M1 12h2M21 12h2M4.2 19.8l1.4-1.4M18.4 5.6l1.4-1.4",
    moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
    auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
    close: "M5 5l14 14M19 5 5 19",
    near: "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 2v3M12 19v3M2 12h3M19 12h3",
    play: "M7 4l13 8-13 8z",
    clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3 2",
    left: "M15 5l-7 7 7 7",
    right: "M9 5l7 7-7 7",
};

function icon(name, size) {
    return svg("svg", { viewBox: "0 0 24 24", width: size || 16, height: size || 16, fill: "none", stroke: "currentColor",
        "stroke-width": name === "map" ? 3.2 : 1.8, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }));
}

function mark() {
    const dot = (cx, cy) => svg("circle", { cx, cy, r: 3, fill: "currentColor" });

    return svg("svg", { class: "mark", viewBox: "0 0 24 24", width: 22, height: 22, "aria-hidden": "true" },
        svg("path", { d: "M5 18 11 5l8 11z", fill: "none", stroke: "currentColor", "stroke-width": 1.6 }),
        dot(5, 18), dot(11, 5), dot(19, 16));
}

/* ---- Numbers for people ---- */

const COUNT = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const count = (n) => COUNT.format(n);
const short = (n) => (n < 10000 ? COUNT.format(n) : SHORT.format(n));
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + "s"}`;

function digits(value, n) {
    return value === 0 ? "0" : Math.abs(value) >= 10 ** (n - 1) ? count(Math.round(value)) : String(Number(value.toPrecision(n)));
}

/* As a program writes it: no commas, few digits behind the point. */
const plain = (value, n) => (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(n))));

function bytes(n) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let at = 0;

    while (n >= 1000 && at < units.length - 1) {
        n /= 1000;
        at++;
    }
    return `${digits(n, 3)} ${units[at]}`;
}

const millis = (ms) => (ms >= 10000 ? `${digits(ms / 1000, 3)} s` : ms < 0.1 ? `${digits(ms * 1000, 2)} µs` : `${digits(ms, 3)} ms`);

function duration(seconds) {
    const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const at = Math.max(0, parts.findIndex(([size]) => seconds >= size));
    const [size, unit] = seconds < 1 ? parts[3] : parts[at];
    const whole = Math.floor(seconds / size);
    const next = parts[at + 1];
    const rest = next && seconds >= 60 ? Math.floor((seconds - whole * size) / next[0]) : 0;

    return rest ? `${whole} ${unit} ${rest} ${next[1]}` : `${whole} ${unit}`;
}

/* ---- JSON ---- */

/* Whole numbers that a double cannot hold become BigInt, where the engine tells their spelling. */
function parseJson(text) {
    if (!/[[:,\s]-?\d{16,}/.test(text))
        return JSON.parse(text);
    return JSON.parse(text, (key, value, context) =>
        (typeof value === "number" && !Number.isSafeInteger(value) && context && /^-?\d+$/.test(context.source)
            ? BigInt(context.source) : value));
}

function printJson(value) {
    if (Array.isArray(value))
        return `[${value.map(printJson).join(",")}]`;
    if (value && typeof value === "object")
        return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${printJson(v)}`).join(",")}}`;
    return typeof value === "bigint" ? String(value) : JSON.stringify(value);
}

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;
const INLINE = 8; // numbers of a list that is shown whole

/* A JSON text as lines, with numbers spelled as they came. Lists of numbers stand in one line; `fold` abbreviates long ones. */
function jsonLines(text, fold) {
    const tokens = text.match(TOKEN) || [];
    const lines = [];
    let at = 0;
    let line = "";

    function numbers() {
        let end = at + 1;

        while (/^[-\d]/.test(tokens[end] || "") && (tokens[end + 1] === "," || tokens[end + 1] === "]"))
            end += 2;
        if (tokens[end - 1] !== "]" || end - at < 3)
            return null;
        return tokens.slice(at + 1, end).filter((t) => t !== "," && t !== "]");
    }
    function value(pad) {
        const token = tokens[at];

        if (token !== "{" && token !== "[") {
            line += token;
            at++;
            return;
        }
        const list = token === "[" && numbers();

        if (list) {
            line += fold && list.length > INLINE
                ? `[${list.slice(0, 4).join(", ")}, … ${count(list.length)} numbers]` : `[${list.join(", ")}]`;
            at += 2 * list.length + 1;
            return;
        }
        const close = token === "{" ? "}" : "]";

        at++;
        if (tokens[at] === close) {
            line += token + close;
            at++;
            return;
        }
        lines.push(line + token);
        while (at < tokens.length) {
            line = pad + "    ";
            if (token === "{") {
                line += tokens[at] + ": ";
                at += 2;
            }
            value(pad + "    ");
            if (tokens[at++] !== ",")
                break;
            lines.push(line + ",");
        }
        lines.push(line);
        line = pad + close;
    }
    if (tokens.length)
        value("");
    lines.push(line);
    return lines;
}

const PAINT = /("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|(-?\d[\d.eE+-]*)|(true|false|null)|(… [\d,]+ numbers)/g;

/* The colored pieces of a line of JSON. */
function paintJson(line) {
    const nodes = [];
    let last = 0;

    for (const m of line.matchAll(PAINT)) {
        const kind = m[1] ? (m[2] ? "k" : "s") : m[3] ? "n" : m[4] ? "w" : "c";
        const piece = m[1] || m[0];

        nodes.push(line.slice(last, m.index), h("span." + kind, null, piece));
        last = m.index + piece.length;
    }
    nodes.push(line.slice(last));
    return nodes;
}

/* ---- What the browser remembers ---- */

const memory = {
    get(key, otherwise) {
        try {
            const text = localStorage.getItem("annex." + key);

            return text === null ? otherwise : JSON.parse(text);
        } catch {
            return otherwise;
        }
    },
    set(key, value) {
        try {
            localStorage.setItem("annex." + key, JSON.stringify(value));
        } catch {
            /* a browser that keeps nothing; the page works without */
        }
    },
};

/* ---- Small pieces ---- */

function toast(text) {
    const node = h("div", null, text);

    document.getElementById("toasts").append(node);
    setTimeout(() => node.remove(), 5000);
}

async function copy(text, what) {
    try {
        await navigator.clipboard.writeText(text);
        toast(`${what} copied`);
    } catch {
        toast("The browser does not let this page copy; it needs https or localhost");
    }
}

function field(name, control, hint) {
    return h("label.field", { title: hint }, name, control);
}

function pick(values, selected, onchange, label) {
    return h("select", { "aria-label": label, onchange: (e) => onchange(e.target.value) },
        values.map((v) => (Array.isArray(v) ? v : [v, v])).map(([value, text]) => h("option", { value, selected: value === selected }, text)));
}

/* A row of buttons of which one is pressed. values: [[value, text], ...] */
function segments(label, values, selected, onchange) {
    const buttons = values.map(([value, text]) => h("button", { type: "button", "aria-pressed": value === selected,
        onclick: () => {
            set(value);
            onchange(value);
        } }, text));

    function set(value) {
        buttons.forEach((b, i) => b.setAttribute("aria-pressed", values[i][0] === value));
    }
    return Object.assign(h("div.seg", { role: "group", "aria-label": label }, buttons), { set });
}

function busy(text) {
    return h("div.row", { role: "status" }, h("span.busy", { "aria-hidden": "true" }), text);
}

function facts(pairs) {
    return h("dl.kv", null, pairs.filter((p) => p && p[1] !== undefined && p[1] !== null)
        .map(([name, value, wide]) => h(wide ? "div.span" : "div", null, h("dt", null, name), h("dd", null, value))));
}

/* The message of the server, its status, and where in the text it points. */
function errorBox(error, text) {
    const at = error.location;
    const line = at && text ? text.split("\n")[at.line_start] : undefined;

    return h("div.callout.bad", { role: "alert" },
        h("strong", null, error.status ? `Error ${error.status}` : "No answer"), " ", error.message,
        line !== undefined && h("pre", null, line.slice(0, charAt(line, at.column_start)),
            h("mark", null, line.slice(charAt(line, at.column_start), charAt(line, at.column_end)) || " "),
            line.slice(charAt(line, at.column_end))));
}

/* Places of the server are in bytes. */
function charAt(line, at) {
    return new TextDecoder().decode(new TextEncoder().encode(line).slice(0, at)).length;
}
