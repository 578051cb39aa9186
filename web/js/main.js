/* The frame: routes, the list at the side, theme, keys, signing in. */

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
const main = document.getElementById("main");
const side = document.getElementById("side");
const ROUTES = [
    [/^#?\/?$/, () => ({}), overviewView],
    [/^#\/query$/, () => ({}), queryView],
    [/^#\/ns\/([^/]+)\/([^/]+)(?:\/(documents|search|map|indexes))?$/, (m) => ({ db: m[1], ns: m[2], tab: m[3] }), namespaceView],
];
let leaving = new AbortController();
let tree = [];
let isFirst = true;

function go(hash) {
    if (hash === location.hash)
        route();
    else
        location.hash = hash;
}

async function route() {
    const [path, query] = location.hash.split("?");
    const found = ROUTES.find(([pattern]) => pattern.test(path));

    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;

    document.querySelectorAll("dialog[open]:not(.keep)").forEach((d) => d.close());
    closeMenu();
    drawSide();
    if (!found) {
        show(main, h("div.card.empty", null, h("h1", { tabindex: -1 }, "No such page"), h("a.link", { href: "#/" }, "To the overview")));
        return;
    }
    const params = Object.fromEntries(Object.entries(found[1](path.match(found[0]))).map(([k, v]) => [k, v === undefined ? v : decodeURIComponent(v)]));

    try {
        const view = found[2](main, signal, params, new URLSearchParams(query || ""));

        if (!isFirst)
            main.querySelector("h1")?.focus({ preventScroll: true });
        if (!isFirst)
            scrollTo(0, 0);
        isFirst = false;
        const title = await view;

        if (!signal.aborted)
            document.title = `${title} · Annex`;
    } catch (error) {
        if (!signal.aborted)
            show(main, errorBox(error instanceof ApiError ? error : new ApiError(0, String(error))));
    }
}

/* ---- The list at the side ---- */

async function refreshTree(signal) {
    const now = await loadTree(signal);

    if (JSON.stringify(now) !== JSON.stringify(tree)) {
        tree = now;
        drawSide();
    }
    return tree;
}

function drawSide() {
    const here = location.hash.split("?")[0] || "#/";
    const link = (href, name, text) => h("li", null, h("a", { href, "aria-current": here === href ? "page" : null }, icon(name), text));
    const held = document.activeElement && side.contains(document.activeElement) && document.activeElement.getAttribute("href");

    show(document.getElementById("links"), link("#/", "overview", "Overview"), link("#/query", "query", "Query"));
    show(document.getElementById("tree"), tree.map(({ db, error, namespaces }) => [h("h2", { id: "side-" + db }, db),
        error ? h("p.soft.small", null, "not for you") : !namespaces.length && h("p.soft.small", null, "empty"),
        h("ul", { "aria-labelledby": "side-" + db }, namespaces.map((ns) => {
            const href = nsHref(db, ns.name);

            return h("li", null, h("a", { href, title: ns.name, "aria-current": here === href || here.startsWith(href + "/") ? "page" : null },
                h("span", null, ns.name), ns.documents !== undefined && h("span.num", null, short(ns.documents))));
        }))]));
    drawFoot();
    if (held)
        side.querySelector(`[href="${CSS.escape(held)}"]`)?.focus();
}

function drawFoot() {
    const roles = Object.entries(session.roles);
    const db = decodeURIComponent(location.hash.split("/")[2] || "");
    const theme = memory.get("theme", "auto");
    const next = { auto: "light", light: "dark", dark: "auto" }[theme];

    show(document.getElementById("foot"),
        h("div.row", null, h("span.dot" + (session.isOnline ? "" : ".off"), { "aria-hidden": "true" }), h("span.grow", { role: "status" }, session.isOnline ? `Annex ${session.version}` : "No connection"),
            h("button.ghost.small", { id: "theme", "aria-label": `Theme: ${theme}. Switch to ${next}`, title: `Theme: ${theme}`, onclick: () => setTheme(next) },
                icon({ auto: "auto", light: "sun", dark: "moon" }[theme])),
            h("button.ghost.small", { "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", onclick: openHelp }, "?")),
        session.withAuth && h("div.row", null, h("span.grow", { title: roles.map(([name, role]) => `${name === "*" ? "every database" : name}: ${role}`).join("\n") },
            h("strong", null, session.user || "not signed in"), " ", h("span.chip", { id: "role" }, session.user ? roleText(db) : "")),
        h("button.ghost.small", { onclick: session.user ? signOut : () => session.signIn(false) }, session.user ? "Sign out" : "Sign in")));
}

/* The role on a database; without one, the role everywhere, or the roles where there are some. */
function roleText(db) {
    const named = Object.entries(session.roles).filter(([name, role]) => name !== "*" && role !== "none");
    const everywhere = roleOf(db || "*");

    return everywhere !== "none" || db || !named.length ? everywhere : named.map(([name, role]) => `${role} on ${name}`).join(", ");
}

function closeMenu() {
    side.classList.remove("open");
    document.getElementById("menu").setAttribute("aria-expanded", "false");
}

/* ---- Theme ---- */

function setTheme(theme) {
    memory.set("theme", theme);
    if (theme === "auto")
        document.documentElement.removeAttribute("data-theme");
    else
        document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("annex-theme"));
    const held = document.activeElement && document.activeElement.id === "theme";

    drawFoot();
    if (held)
        document.getElementById("theme").focus();
}

/* ---- Keys ---- */

const KEYS = [
    ["?", "this list"], ["/", "to the search box or the editor"], ["g o", "overview"], ["g q", "query editor"],
    ["g d", "documents of the namespace"], ["g s", "search"], ["g m", "map"], ["g i", "indexes"], ["t", "light, dark, or as the system"],
    [isMac ? "⌘ Enter" : "Ctrl Enter", "run the query"], ["↑ ↓ PgUp PgDn", "through a table"], ["Enter", "open the row"],
    ["← → ↑ ↓ + − 0", "move and zoom the map"], ["Esc", "close what is open"],
];

function openHelp() {
    const box = h("dialog.keys-box", { "aria-label": "Keyboard shortcuts", onclose: () => box.remove(), onclick: (e) => e.target === box && box.close() },
        h("div.stack", null, h("h2", null, "Keyboard shortcuts"), h("dl.keys", null, KEYS.map(([keys, what]) => [
            h("dt", null, keys.split(" ").map((key, i) => [i > 0 && " ", h("kbd", null, key)])), h("dd", null, what)])),
        h("div.row", null, h("button", { onclick: () => box.close() }, "Close"))));

    document.body.append(box);
    box.showModal();
}

let lastKey = "";
document.addEventListener("keydown", (e) => {
    const isTyping = e.target.closest("input, textarea, select, [contenteditable]");

    if (isTyping || e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]"))
        return;
    const place = location.hash.match(/^#\/ns\/([^/?]+)\/([^/?]+)/) || firstPlace();
    const tab = (name) => place && go(nsHref(decodeURIComponent(place[1]), decodeURIComponent(place[2]), name));
    const keys = { "?": openHelp, t: () => setTheme({ auto: "light", light: "dark", dark: "auto" }[memory.get("theme", "auto")]),
        "/": () => (document.getElementById("ask") || document.getElementById("filter"))?.focus(),
        "g o": () => go("#/"), "g q": () => go("#/query"), "g d": () => tab("documents"), "g s": () => tab("search"), "g m": () => tab("map"),
        "g i": () => tab("indexes") };
    const work = keys[lastKey === "g" ? "g " + e.key : e.key];

    lastKey = e.key;
    if (work) {
        e.preventDefault();
        work();
    }
});

function firstPlace() {
    const found = tree.flatMap((d) => d.namespaces.map((ns) => ({ db: d.db, ns }))).sort((a, b) => (b.ns.documents || 0) - (a.ns.documents || 0))[0];

    return found && [null, part(found.db), part(found.ns.name)];
}

/* ---- Signing in ---- */

let signingIn = null;

/* Resolves when somebody has typed a name and a password; who asked tries again with them. */
session.signIn = (wasWrong) => {
    signingIn = signingIn || new Promise((resolve) => {
        const user = h("input", { name: "user", autocomplete: "username", required: true, autofocus: true, value: session.user || "" });
        const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
        const message = h("div");
        const box = h("dialog.keep", { "aria-label": "Sign in", oncancel: (e) => e.preventDefault(),
            onclose: () => signingIn && box.showModal() }, h("form", { onsubmit: check },
            h("div.row", null, mark(), h("h2", null, "Sign in to Annex")), message, field("Name", user), field("Password", password),
            h("button.main", { type: "submit" }, "Sign in"), h("p.soft.small", null, "Kept in this page's memory only: a reload asks again.")));

        async function check(e) {
            e.preventDefault();
            const text = new TextEncoder().encode(`${user.value}:${password.value}`);

            session.header = "Basic " + btoa(String.fromCharCode(...text));
            try {
                const answer = await send("GET", "/api/v1/annex/whoami");

                if (answer.status === 401) {
                    session.header = null;
                    throw new ApiError(401, "This name with this password is not known.");
                }
                takeWho(await answer.json());
                signingIn = null;
                box.close();
                box.remove();
                resolve();
            } catch (error) {
                show(message, errorBox(error));
                password.value = "";
                password.focus();
            }
        }
        if (wasWrong)
            show(message, errorBox(new ApiError(401, "The server does not take this name and password any more.")));
        document.body.append(box);
        box.showModal();
        user.focus();
    });
    return signingIn;
};

function takeWho(who) {
    Object.assign(session, { user: who.user, withAuth: who.auth, roles: who.roles || {}, version: who.version });
    drawFoot();
}

function signOut() {
    Object.assign(session, { header: null, user: null, roles: {} });
    tree = [];
    queryState.result = null;
    start();
}

/* ---- Start ---- */

async function start() {
    try {
        takeWho(await get("/api/v1/annex/whoami"));
    } catch (error) {
        show(main, errorBox(error), h("p.gap-s", null, h("button", { onclick: start }, "Try again")));
        return;
    }
    session.isReady = true;
    metrics.start(5000);
    route();
    refreshTree().catch(() => {});
}

document.querySelectorAll(".brand").forEach((brand) => brand.prepend(mark()));
document.getElementById("menu").append(icon("menu", 20));
document.getElementById("menu").addEventListener("click", () => {
    const isOpen = side.classList.toggle("open");

    document.getElementById("menu").setAttribute("aria-expanded", isOpen);
    if (isOpen)
        side.querySelector("a:not(.brand)").focus();
});
document.getElementById("veil").addEventListener("click", closeMenu);
side.addEventListener("keydown", (e) => e.key === "Escape" && (closeMenu(), document.getElementById("menu").focus()));
document.querySelector(".skip").addEventListener("click", (e) => {
    e.preventDefault();
    (main.querySelector("h1") || main).focus();
});
addEventListener("hashchange", () => session.isReady && route());
document.addEventListener("annex-session", drawFoot);
setTheme(memory.get("theme", "auto"));
start();
