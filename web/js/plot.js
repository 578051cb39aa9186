/* The server's counters as they change, and small plots of them. */

const WINDOW_S = 120; // what plots show; less while there is less


/* Samples are taken while the page is seen: each second on the overview, seldom elsewhere. Rates are differences of counters. */
const metrics = {
    samples: [], // { at, qps, errors, p50, p99, memory, connections, traffic, gap }
    last: null,
    timer: 0,
    period: 5000,
    listeners: new Set(),

    start(period) {
        this.period = period;
        clearTimeout(this.timer);
        if (!document.hidden)
            this.tick();
    },
    async tick() {
        clearTimeout(this.timer);
        const timer = this.timer = -1;

        try {
            this.take(await get("/api/v1/annex/metrics"));
        } catch {
            this.last = null; // the dot in the corner says it
        }
        if (!document.hidden && this.timer === timer)
            this.timer = setTimeout(() => this.tick(), this.period);
    },
    take(now) {
        const at = performance.now();
        const before = this.last;

        this.last = { at, now };
        if (before && now.uptime_ms >= before.now.uptime_ms && at - before.at > 200) {
            const seconds = (at - before.at) / 1000;
            const counts = now.latency_us.counts.map((n, i) => n - before.now.latency_us.counts[i]);

            this.samples.push({ at, seconds, qps: (now.queries - before.now.queries) / seconds, errors: now.errors - before.now.errors,
                p50: quantile(now.latency_us.bounds, counts, 0.5), p99: quantile(now.latency_us.bounds, counts, 0.99),
                memory: now.memory_bytes, connections: now.connections,
                traffic: (now.sent_bytes - before.now.sent_bytes) / seconds });
            while (this.samples.length && this.samples[0].at < at - WINDOW_S * 1500)
                this.samples.shift();
        }
        for (const listener of this.listeners)
            listener();
    },
};

document.addEventListener("visibilitychange", () => {
    if (document.hidden)
        clearTimeout(metrics.timer);
    else if (session.isReady)
        metrics.tick();
});

/* Milliseconds, between the bounds of the bucket that holds it; null when nothing was counted. */
function quantile(bounds, counts, q) {
    let left = counts.reduce((a, b) => a + b, 0) * q;

    if (left === 0)
        return null;
    for (let i = 0; i < counts.length; i++) {
        if (left <= counts[i]) {
            const low = i > 0 ? bounds[i - 1] : 0;
            const high = i < bounds.length ? bounds[i] : 2 * low;

            return (low + (high - low) * (left / counts[i])) / 1000;
        }
        left -= counts[i];
    }
    return null;
}

/* A tile: name, number, note, and the last two minutes. value(s) and second(s) read a sample; text(v) writes a number. */
function plotTile(name, { value, second, text, note, top }) {
    const area = svg("path", { class: "area" });
    const line = svg("path", {});
    const other = svg("path", { class: "second" });
    const hair = h("div.hair", { hidden: true });
    const image = svg("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": name });
    const plot = h("div.plot", { onpointermove: hover, onpointerleave: () => {
        pointed = null;
        draw();
    } }, image, hair);
    const number = h("div.value");
    const label = h("span");
    const about = h("div.note");
    let pointed = null;

    image.append(area, other, line);

    /* Milliseconds from left to right. */
    function span() {
        const samples = metrics.samples;

        return Math.max(15000, Math.min(WINDOW_S * 1000, samples.length ? samples[samples.length - 1].at - samples[0].at : 0));
    }
    function hover(e) {
        const box = plot.getBoundingClientRect();

        pointed = (e.clientX - box.left) / box.width;
        draw();
    }
    function path(read, end, high) {
        let d = "";
        let isOpen = false;

        for (const s of metrics.samples) {
            const v = read(s);
            const x = 1000 * (1 - (end - s.at) / span());

            if (v === null || x < -20) {
                isOpen = isOpen && x >= -20;
                continue;
            }
            d += `${isOpen ? "L" : "M"}${x.toFixed(1)} ${(96 - 88 * Math.min(1, v / high)).toFixed(1)}`;
            isOpen = true;
        }
        return d;
    }
    function draw() {
        const samples = metrics.samples;
        const end = samples.length ? samples[samples.length - 1].at : 0;
        const high = Math.max(top || 0, ...samples.map((s) => Math.max(value(s) || 0, second ? second(s) || 0 : 0))) || 1;
        const at = end - (1 - pointed) * span();
        const near = pointed === null ? samples[samples.length - 1]
            : samples.reduce((best, s) => (Math.abs(s.at - at) < Math.abs(best.at - at) ? s : best), samples[0]);
        const d = path(value, end, high);
        const xs = d.match(/[ML](-?[\d.]+)/g);

        line.setAttribute("d", d);
        area.setAttribute("d", xs && !d.slice(1).includes("M") ? `${d}L${xs[xs.length - 1].slice(1)} 100L${xs[0].slice(1)} 100Z` : "");
        other.setAttribute("d", second ? path(second, end, high) : "");
        hair.hidden = pointed === null || !near;
        if (near && pointed !== null)
            hair.style.left = `${100 * (1 - (end - near.at) / span())}%`;
        const v = near ? value(near) : null;

        show(number, v === null || v === undefined ? h("span.soft", null, "–") : text(v));
        show(label, pointed !== null && near ? `${Math.round((end - near.at) / 1000)} s ago` : "");
        show(about, near ? note(near) : "waiting for the first second");
        image.setAttribute("aria-label", `${name}, the last two minutes. Now ${number.textContent}`);
    }
    const node = h("div.card.tile", null, h("div.name", null, h("h2.small", null, name), label), number, about, plot);

    return { node, draw };
}

const unit = (text) => {
    const at = text.lastIndexOf(" ");

    return [text.slice(0, at), h("small", null, text.slice(at + 1))];
};

function metricTiles() {
    return [
        plotTile("Queries", { value: (s) => s.qps, text: (v) => [digits(v, 3), h("small", null, "per second")], top: 4,
            note: (s) => (s.errors ? plural(s.errors, "error") : "no errors") + ` · ${plural(s.connections, "connection")}` }),
        plotTile("Latency", { value: (s) => s.p50, second: (s) => s.p99, text: (v) => unit(millis(v)),
            note: (s) => (s.p99 === null ? "median; nothing asked" : `median · p99 ${millis(s.p99)}`) }),
        plotTile("Memory", { value: (s) => s.memory, text: (v) => unit(bytes(v)), note: () => "resident, the whole process" }),
        plotTile("Traffic", { value: (s) => s.traffic, text: (v) => unit(bytes(v) + "/s"), top: 4000, note: () => "answers sent" }),
    ];
}
