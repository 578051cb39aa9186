// The web console in a browser: node console.mjs ANNEX CHROMIUM SCRATCH SHOTS [FOLDER OF REAL DATA]
// Every view is opened, used, scanned for accessibility, and its picture kept in SHOTS.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { HOSTILE, embedder, fakeIndexing, fill, fillHostile, fillReal, request, serve, stopAll } from "./world.mjs";

const [annex, browserPath, scratch, shots, real] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const complaints = [];
let browser, url, indexing, hasReal;

before(async () => {
    indexing = await fakeIndexing();
    const model = await embedder(annex, scratch);

    url = await serve(annex, path.join(scratch, "open"), "--indexing-status", indexing.url);
    await fill(url, model);
    await fillHostile(url);
    hasReal = await fillReal(url, real);
    browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
});

after(async () => {
    await browser?.close();
    await stopAll();
    indexing?.stop();
});

// A page that remembers nothing of the others. What its console says against it is collected; refused requests only where expected.
async function open(hash, { refusals = false, base = url, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1360, height: 860 }, ...options });
    const page = await context.newPage();

    page.setDefaultTimeout(15000);
    page.on("console", (m) => {
        if (["error", "warning"].includes(m.type()) && !(refusals && m.text().startsWith("Failed to load resource")))
            complaints.push(`${hash}: ${m.text()}`);
    });
    page.on("pageerror", (e) => complaints.push(`${hash}: ${e.stack}`));
    page.on("request", (r) => r.url().startsWith(base) || r.url().startsWith("data:") || r.url().startsWith("blob:") || complaints.push(`asks elsewhere: ${r.url()}`));
    await page.goto(base + "/" + hash);
    return page;
}

const picture = (page, name, options) => page.screenshot({ path: path.join(shots, name + ".png"), animations: "disabled", ...options });
const close = (page) => page.context().close();
const rows = (page) => page.locator("tbody tr[data-i]");
const NS = "#/ns/zoo/animals";

async function scan(page, what) {
    if (!(await page.evaluate("window.axe")))
        await page.evaluate(axe);
    const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
    const bad = violations.filter((v) => ["serious", "critical"].includes(v.impact));

    assert.deepEqual(bad.map((v) => `${what}: ${v.id}: ${v.nodes.map((n) => n.html + " " + n.failureSummary).slice(0, 3).join(" | ")}`), []);
}

test("first paint, size, policy", async () => {
    const times = [];

    for (let i = 0; i < 7; i++) {
        const page = await open("#/");

        await page.waitForSelector("h1");
        times.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
        await close(page);
    }
    const paint = times.sort((a, b) => a - b)[3];
    const answer = await fetch(url + "/");
    const size = (await answer.arrayBuffer()).byteLength;
    const packed = Number((await fetch(url + "/", { method: "GET", headers: { "Accept-Encoding": "gzip" } })).headers.get("content-length"));

    console.log(`# first paint ${paint.toFixed(0)} ms (median of 7), page ${size} bytes, ${packed} on the wire`);
    assert.ok(paint <= 300, `first paint ${paint} ms`);
    assert.ok(size <= 300000 && packed <= 80000, `page ${size}, ${packed} packed`);
    assert.match(answer.headers.get("content-security-policy"), /default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-/);
});

test("overview: databases, plots, indexing server", async () => {
    const page = await open("#/");
    const row = page.locator("main tr", { hasText: "animals" });

    await row.waitFor();
    assert.match(await row.textContent(), /480/);
    await page.waitForFunction(() => document.querySelectorAll(".plot path[d^='M']").length >= 4);
    await page.getByText("embeddings_v_idx").waitFor();
    assert.equal(await page.getByRole("progressbar").getAttribute("value"), "61.5");
    await page.waitForFunction(() => (document.querySelector(".plot path:nth-child(3)").getAttribute("d").match(/L/g) || []).length >= 4);
    await picture(page, "overview-live-light");
    await page.fill("#ask", "red fox in the forest");
    await page.keyboard.press("Enter");
    await page.locator(".hits li").first().waitFor();
    assert.match(page.url(), /\/search\?/);
    await close(page);
});

test("plots pause while the page is hidden", async () => {
    const page = await open("#/");
    let asked = 0;

    await page.getByText("animals").first().waitFor();
    await page.clock.install();
    await page.reload();
    await page.getByText("animals").first().waitFor();
    page.on("request", (r) => (asked += r.url().includes("/api/")));
    const hide = (value) => page.evaluate((v) => {
        Object.defineProperty(document, "hidden", { value: v, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }, value);

    await hide(true);
    await page.clock.runFor(3000); // what was under way
    asked = 0;
    await page.clock.runFor(20000);
    assert.equal(asked, 0);
    await hide(false);
    await page.clock.runFor(3000);
    await page.waitForFunction(() => true);
    assert.ok(asked > 0);
    await close(page);
});

test("query: SQL, JSON, EXPLAIN, errors, history", async () => {
    const page = await open("#/query", { refusals: true });
    const run = async (text) => {
        await page.fill("#ask", text);
        await page.keyboard.press("Control+Enter");
    };

    await page.selectOption("select[aria-label=Database]", "zoo");
    await run("SELECT id, name, vec, code FROM animals WHERE id IN (3, 4) ORDER BY id");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr[data-i]").length === 2);
    assert.match(await rows(page).first().textContent(), /^3.*9007199254740993\[.*…\] 12/);
    assert.match(await page.locator(".card .push").last().textContent(), /server .* · total .* · /);
    await page.getByRole("button", { name: "JSON", exact: true }).click();
    assert.match(await page.locator(".lines").textContent(), /12 numbers/);
    assert.match(await page.locator(".lines").textContent(), /9007199254740993/);

    await page.getByLabel("Explain").check();
    await run("SELECT * FROM animals WHERE legs = 4 AND KNN(vec, 'red fox', k=30)");
    await page.getByRole("button", { name: "Explain", exact: true }).click();
    await page.getByText("Conditions, in the order").waitFor();
    await picture(page, "query-explain-light");
    await scan(page, "explain");

    await run("SELECT FACET(place ORDER BY count DESC) FROM animals");
    await page.getByRole("button", { name: "Table", exact: true }).click();
    await page.getByText("facet(place)").waitFor();
    await page.getByLabel("Explain").uncheck();
    await run("SELECT id\nFROM animals\nWHERE legs ! 4");
    await page.getByRole("alert").waitFor();
    assert.match(await page.getByRole("alert").textContent(), /Error 400.*'!'/);
    assert.equal((await page.locator(".editor mark").textContent()).trim(), "!");
    await picture(page, "query-error-light");
    await scan(page, "error");

    await page.getByRole("button", { name: "History" }).click();
    assert.equal(await page.locator(".past li").count(), 4);
    await picture(page, "history-light");
    await page.locator(".past button").last().click();
    assert.match(await page.inputValue("#ask"), /id IN \(3, 4\)/);
    await close(page);
});

test("query: DSL, from SQL and back, and what it refuses", async () => {
    const page = await open("#/query", { refusals: true });

    await page.selectOption("select[aria-label=Database]", "zoo");
    await page.fill("#ask", "SELECT * FROM animals WHERE id = 7");
    await page.getByRole("button", { name: "DSL", exact: true }).click();
    await page.waitForFunction(() => document.querySelector("#ask").value.startsWith("{"));
    await page.getByRole("button", { name: "Run" }).click();
    await page.waitForFunction(() => document.querySelectorAll("tbody tr[data-i]").length === 1);
    await page.fill("#ask", "{\"namespace\": \"animals\", \"limit\": oops}");
    await page.keyboard.press("Control+Enter");
    assert.match(await page.getByRole("alert").textContent(), /not JSON/);
    await page.fill("#ask", "{\"namespace\": \"nowhere\"}");
    await page.keyboard.press("Control+Enter");
    await page.getByText("'nowhere'").waitFor();
    await page.fill("#ask", "{\"namespace\": \"animals\", \"limit\": 3}");
    await page.getByRole("button", { name: "SQL", exact: true }).click();
    await page.waitForFunction(() => /^SELECT/i.test(document.querySelector("#ask").value));
    await close(page);
});

test("large results do not freeze the page", async () => {
    const page = await open("#/query");

    await page.selectOption("select[aria-label=Database]", "zoo");
    await page.fill("#ask", "SELECT * FROM many ORDER BY id");
    await page.keyboard.press("Control+Enter");
    await page.getByText("20,000 documents").waitFor();
    assert.ok(await rows(page).count() < 150);
    await page.locator("main .scroll").evaluate((e) => e.scrollTo(0, 1e9));
    await page.locator("tr[data-i='19999']").waitFor();
    await page.getByRole("button", { name: "JSON", exact: true }).click();
    assert.ok(await page.locator(".lines div").count() < 150);
    await page.locator("main .scroll").evaluate((e) => e.scrollTo(0, 1e9));
    await page.waitForFunction(() => /"namespaces"/.test(document.querySelector(".lines").textContent));
    await close(page);
});

test("documents: pages, filter, a document", async () => {
    const page = await open(NS);

    await page.getByText("1–50 of 480").waitFor();
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("51–100 of 480").waitFor();
    await page.goBack();
    await page.fill("#filter", "place = 'sea' AND legs > 0");
    await page.keyboard.press("Enter");
    await page.getByText("of 60").waitFor();
    await rows(page).first().click();
    await page.getByRole("link", { name: "More like this" }).waitFor();
    await picture(page, "document-light");
    await scan(page, "document");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("dialog").count(), 0);
    await close(page);
});

test("a document is edited and deleted", async () => {
    const page = await open("#/ns/zoo/animals/documents?filter=id+%3D+479");

    await rows(page).first().click();
    await page.getByRole("button", { name: "Edit" }).click();
    const area = page.getByLabel("The document as JSON").last();
    const text = await area.inputValue();

    assert.match(text, /9007199254740993/);
    await area.fill(text.replace(/"legs": \d+/, "\"legs\": 11"));
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved").waitFor();
    const { items } = await request("POST", url + "/api/v1/db/zoo/sqlquery", "SELECT * FROM animals WHERE id = 479");

    assert.equal(items[0].legs, 11);
    await rows(page).first().click();
    await page.getByRole("button", { name: "Delete" }).click();
    await page.locator("dialog").last().getByRole("button", { name: "Delete" }).click();
    await page.getByText("No document passes this filter").waitFor();
    await close(page);
});

test("search: by text, by document, with a filter, by vector", async () => {
    const page = await open(NS + "/search", { refusals: true });

    await page.getByText("Or begin with a document").waitFor();
    await page.fill("#ask", "red fox in the forest");
    await page.keyboard.press("Enter");
    await page.getByText("10 neighbors").waitFor();
    assert.equal(await page.locator(".hits .what").first().textContent(), "red fox");
    await picture(page, "search-text-light");
    await page.getByRole("link", { name: "More like this: red fox" }).first().click();
    await page.getByText("Like", { exact: false }).first().waitFor();
    await page.waitForFunction(() => /like=/.test(location.hash) && document.querySelectorAll(".hits .rank").length === 10);
    const key = Number(new URLSearchParams(page.url().split("?")[1]).get("like"));
    const { items } = await request("POST", url + "/api/v1/db/zoo/sqlquery", `SELECT *, vec FROM animals WHERE id = ${key}`);
    const truth = await request("POST", url + "/api/v1/db/zoo/sqlquery", `SELECT * FROM animals WHERE KNN(vec, [${items[0].vec}], k=11)`);

    assert.deepEqual(await page.locator(".hits .what").allTextContents(), truth.items.filter((d) => d.id !== key).map((d) => d.name));
    await page.getByLabel("Filter").fill("place = 'sea'");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Search on until 10 pass" }).click();
    await page.waitForFunction(() => document.querySelectorAll(".hits .rank").length === 10);
    await page.getByRole("button", { name: "Vector", exact: true }).click();
    await page.fill("#ask", "1, 2, 3");
    await page.keyboard.press("Enter");
    await page.getByText("3 numbers; the index vec has the dimension 12").waitFor();
    await page.getByRole("button", { name: "Document", exact: true }).click();
    await page.fill("#ask", "77777");
    await page.keyboard.press("Enter");
    await page.getByText("There is no document 77777").waitFor();
    await close(page);
});

test("indexes: health and measured recall", async () => {
    const page = await open(NS + "/indexes");

    await page.getByRole("button", { name: "Measure recall" }).click();
    await page.getByText("recall@10").waitFor();
    assert.ok(Number(await page.locator(".recall .big").textContent()) > 0.9);
    assert.match(await page.locator(".recall").textContent(), /exact scan/);
    await picture(page, "recall-light", { fullPage: true });
    await close(page);
});

test("map: points, neighbors by click and by keys, jump from the search", async () => {
    const page = await open(NS + "/map");
    const canvas = page.locator("canvas");

    await canvas.waitFor();
    await page.waitForFunction(() => {
        const c = document.querySelector("canvas");

        return c.width > 300 && new Set(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).size > 30;
    });
    assert.ok(await page.locator(".legend button").count() >= 5); // colored by a field
    await canvas.focus();
    await page.keyboard.press("+");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll(".near li").length === 10);
    await picture(page, "map-near-light");
    await page.getByRole("button", { name: "Clear" }).click();
    await page.getByRole("button", { name: "Show all" }).click();
    // The canvas says where a point is by what it answers to the pointer.
    const box = await canvas.boundingBox();
    let hit = null;

    for (let i = 0; i < 400 && !hit; i++) {
        const at = [box.x + box.width * (0.2 + 0.6 * ((i * 0.618) % 1)), box.y + box.height * (0.2 + 0.6 * (i / 400))];

        await page.mouse.move(...at);
        if (await page.locator(".tip").isVisible())
            hit = at;
    }
    assert.ok(hit, "no point answers");
    await page.mouse.click(...hit);
    await page.waitForFunction(() => document.querySelectorAll(".near li").length === 10);
    await page.fill("#ask", "blue whale");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "“blue whale”" }).waitFor();
    await page.getByRole("link", { name: "As a list" }).click();
    await page.getByRole("link", { name: "Show on the map" }).click();
    await page.waitForFunction(() => document.querySelectorAll(".near li").length === 10);
    await close(page);
});

const VIEWS = { overview: "#/", query: "#/query", documents: NS, search: NS + "/search?text=red+fox", map: NS + "/map?like=3", indexes: NS + "/indexes",
    "no-vectors": "#/ns/zoo/many/search", "no-documents": "#/ns/zoo/empty", nowhere: "#/nowhere" };
const READY = { overview: "main td", query: ".editor .w", documents: "tbody tr[data-i]", search: ".hits .rank", map: ".near li", indexes: "main dd",
    "no-vectors": ".empty", "no-documents": ".empty", nowhere: ".empty" };

for (const [look, options] of Object.entries({ light: {}, dark: { colorScheme: "dark" }, narrow: { viewport: { width: 360, height: 760 } } }))
    test(`every view, ${look}: accessibility scan, nothing wider than the window`, async () => {
        const page = await open("#/", options);

        for (const [name, hash] of Object.entries(VIEWS)) {
            await page.goto(`${url}/${hash}`);
            await page.locator(READY[name]).first().waitFor();
            await scan(page, `${name}, ${look}`);
            assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} is wider than the window`);
            await picture(page, `${name}-${look}`, { fullPage: look === "narrow" });
        }
        await close(page);
    });

test("real data, for the pictures", async (t) => {
    if (!hasReal)
        return t.skip("no real vectors here");
    const ns = "#/ns/debian/packages";
    const views = { overview: "#/", documents: ns, search: ns + "/search?text=convert+video+files", map: ns + "/map?limit=5000&text=play+chess", indexes: ns + "/indexes" };

    for (const colorScheme of ["light", "dark"])
        for (const [name, hash] of Object.entries(views)) {
            const page = await open(hash, { colorScheme });

            await page.locator(READY[name]).first().waitFor();
            await picture(page, `real-${name}-${colorScheme}`);
            await close(page);
        }
});

test("dark and light: as the system, switched, remembered", async () => {
    const page = await open("#/", { colorScheme: "dark" });
    const isDark = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).every((c) => Number(c) < 80));

    await page.getByRole("button", { name: /^Theme/ }).waitFor();
    assert.ok(await isDark());
    await page.getByRole("button", { name: /^Theme: auto/ }).click();
    assert.ok(!(await isDark()));
    await page.reload();
    await page.getByRole("button", { name: /^Theme: light/ }).waitFor();
    assert.ok(!(await isDark()));
    await page.keyboard.press("t");
    assert.ok(await isDark());
    await close(page);
});

test("narrow window: the menu", async () => {
    const page = await open("#/", { viewport: { width: 360, height: 700 } });

    await page.locator("main td").first().waitFor();
    assert.ok(!(await page.locator("#side").isVisible()));
    await page.getByRole("button", { name: "Menu" }).click();
    await page.locator("#tree a", { hasText: "animals" }).waitFor();
    await picture(page, "menu-narrow");
    await page.keyboard.press("Escape");
    await page.locator("#side").waitFor({ state: "hidden" });
    await page.getByRole("button", { name: "Menu" }).click();
    await page.locator("#tree a", { hasText: "animals" }).click();
    await page.locator("#side").waitFor({ state: "hidden" });
    await close(page);
});

test("keyboard only", async () => {
    const page = await open("#/");
    const focused = () => page.evaluate(() => `${document.activeElement.tagName} ${document.activeElement.textContent.slice(0, 40)}`);
    const outlined = () => page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== "none");

    await page.locator("main td").first().waitFor();
    await page.keyboard.press("Tab");
    assert.match(await focused(), /Skip to content/);
    await page.keyboard.press("Enter");
    assert.match(await focused(), /^H1 Overview/);
    for (let i = 0; i < 12 && !/^A animals/.test(await focused()); i++) {
        await page.keyboard.press("Tab");
        assert.ok(await outlined(), `no visible focus on ${await focused()}`);
    }
    assert.match(await focused(), /^A animals/);
    await page.keyboard.press("Enter");
    await rows(page).first().waitFor();
    for (let i = 0; i < 14 && !/^TR/.test(await focused()); i++)
        await page.keyboard.press("Tab");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.locator("dialog[open]").waitFor();
    await page.keyboard.press("Escape");
    assert.match(await focused(), /^TR/);
    await page.keyboard.press("End");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.i), "49");
    await page.keyboard.press("?");
    await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
    await picture(page, "keys-light");
    await scan(page, "keys");
    await page.keyboard.press("Escape");
    for (const [keys, heading] of [["gs", "animals"], ["gm", "animals"], ["gi", "animals"], ["gq", "Query"], ["go", "Overview"]]) {
        await page.keyboard.press(keys[0]);
        await page.keyboard.press(keys[1]);
        await page.locator("h1", { hasText: heading }).waitFor();
    }
    await page.keyboard.press("g");
    await page.keyboard.press("q");
    await page.locator(".editor .w").first().waitFor();
    await page.keyboard.press("/");
    assert.match(await focused(), /^TEXTAREA/);
    await close(page);
});

test("hostile names and values stay text", async () => {
    const page = await open("#/ns/hostile/texts", { refusals: true });
    const clean = async () => assert.deepEqual(await page.evaluate(() => [document.images.length, document.scripts.length, window.hit]), [0, 1, undefined]);

    page.on("dialog", () => complaints.push("a dialog"));
    await rows(page).first().waitFor();
    assert.match(await page.locator("thead").textContent(), /<img src=x/);
    await clean();
    await rows(page).first().click();
    await page.getByRole("link", { name: "More like this" }).click();
    await page.locator(".hits .rank").first().waitFor();
    assert.match(await page.locator(".hits").textContent(), /<img src=x onerror/);
    await clean();
    await page.getByText("The query behind this").click();
    await page.getByRole("button", { name: "Open in the editor" }).click();
    await page.locator(".editor .w").first().waitFor();
    for (const text of [`SELECT * FROM texts WHERE name = '${HOSTILE}0'`, `SELECT ${HOSTILE}`, "SELECT FACET(name) FROM texts", "SELECT DISTINCT(name) FROM texts"]) {
        await page.fill("#ask", text);
        await page.keyboard.press("Control+Enter");
        await page.locator("main [role=alert], main .big, tbody tr[data-i], .facets li").first().waitFor();
        await clean();
    }
    await page.getByRole("button", { name: "History" }).click();
    await clean();
    await page.goto(url + "/#/ns/hostile/texts/map");
    await page.locator(".legend button").first().waitFor();
    await page.locator("canvas").focus();
    await page.keyboard.press("Enter");
    await page.locator(".near li").first().waitFor();
    await page.goto(url + `/#/ns/hostile/${encodeURIComponent(HOSTILE)}`);
    await page.getByRole("alert").waitFor();
    await clean();
    await close(page);
});

test("sources: no HTML from texts", () => {
    const folder = path.join(process.env.ANX_SOURCE, "web", "js");

    for (const name of fs.readdirSync(folder))
        assert.doesNotMatch(fs.readFileSync(path.join(folder, name), "utf8"), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser/, name);
});

test("signing in, roles", async () => {
    const dir = path.join(scratch, "closed");

    fs.mkdirSync(dir);
    fs.writeFileSync(path.join(dir, "users.yml"), "boss:\n  hash: \"b\"\n  roles:\n    \"*\": owner\nreader:\n  hash: \"r\"\n  roles:\n    zoo: data_read\n");
    const base = await serve(annex, dir, "--security");
    const model = await embedder(annex, scratch);

    await fill(base, model, "boss:b");
    const page = await open(NS, { base, refusals: true });
    const signIn = async (name, password) => {
        await page.getByLabel("Name", { exact: true }).fill(name);
        await page.getByLabel("Password").fill(password);
        await page.keyboard.press("Enter");
    };

    await page.getByRole("heading", { name: "Sign in to Annex" }).waitFor();
    await picture(page, "login-light");
    await scan(page, "login");
    await signIn("reader", "wrong");
    await page.getByText("not known").waitFor();
    await signIn("reader", "r");
    await rows(page).first().waitFor();
    assert.equal(await page.locator("#role").textContent(), "data_read");
    await rows(page).first().click();
    const remove = page.getByRole("button", { name: /^Delete/ });

    await remove.waitFor();
    assert.equal(await remove.getAttribute("aria-disabled"), "true");
    assert.match(await remove.getAttribute("title"), /data_write/);
    await remove.click({ force: true });
    await page.getByText("This needs the role data_write on zoo").last().waitFor();
    await picture(page, "roles-light");
    await page.keyboard.press("Escape");
    await page.goto(base + "/#/query");
    await page.locator(".editor .w").first().waitFor();
    await page.fill("#ask", "DELETE FROM animals");
    await page.keyboard.press("Control+Enter");
    assert.match(await page.getByRole("alert").textContent(), /needs the role data_write/);
    assert.equal((await page.context().cookies()).length, 0);
    assert.doesNotMatch(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage])), /reader|Basic/);
    await page.getByRole("button", { name: "Sign out" }).click();
    await signIn("boss", "b");
    await page.waitForFunction(() => document.querySelector("#role")?.textContent === "owner");
    await page.reload();
    await page.getByRole("heading", { name: "Sign in to Annex" }).waitFor();
    await close(page);
});

test("a server that goes away is said so", async () => {
    const page = await open("#/query", { refusals: true });

    await page.locator(".editor .w").first().waitFor();
    await page.context().setOffline(true);
    await page.keyboard.press("/");
    await page.keyboard.press("Control+Enter");
    assert.match(await page.getByRole("alert").textContent(), /cannot be reached/);
    await page.getByText("No connection").waitFor();
    await close(page);
});

test("the browser's console stayed silent", () => assert.deepEqual(complaints, []));
