/* Points on a canvas: drag to pan, wheel or pinch to zoom, point to read, click to choose; all of it with keys, too. */

function pointChart(points, { def, onpick, groups }) {
    const canvas = h("canvas", { tabindex: 0, role: "application", "aria-label": `Map of ${plural(points.length, "document")}. Arrow keys move it, plus and minus zoom, `
        + "0 shows all, Enter chooses the document in the middle" });
    const tip = h("div.tip", { hidden: true });
    const ink = canvas.getContext("2d");
    const view = { scale: 1, x: 0, y: 0 }; // of the canvas, in CSS pixels: px = x + scale * point.x
    const pointers = new Map();
    let colors = readColors();
    let origin = null;
    let near = [];
    let pointed = null;
    let isAimed = false; // with keys: a cross in the middle
    let moved = 0;
    let frame = 0;

    const zoomButton = (text, label, f) => h("button", { "aria-label": label, title: label, onclick: f }, text);
    const node = h("div.card.stage", null, canvas, tip, h("div.zoom", null, zoomButton("+", "Zoom in", () => zoom(1.5)), zoomButton("−", "Zoom out", () => zoom(1 / 1.5)),
        zoomButton("⤢", "Show all", fit)));

    function readColors() {
        return { groups: Array.from({ length: COLORS + 1 }, (_, i) => colorOf(i === COLORS ? (groups.names.length ? "--rest" : "--accent") : "--c" + i)),
            ink: colorOf("--ink"), card: colorOf("--card"), soft: colorOf("--soft"), accent: colorOf("--accent") };
    }
    const px = (p) => view.x + view.scale * p.x;
    const py = (p) => view.y - view.scale * p.y;

    function fit() {
        const box = canvas.getBoundingClientRect();
        const xs = points.map((p) => p.x);
        const ys = points.map((p) => p.y);
        const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];

        view.scale = Math.min((box.width - 60) / (right - left || 1), (box.height - 60) / (high - low || 1));
        view.x = box.width / 2 - view.scale * (left + right) / 2;
        view.y = box.height / 2 + view.scale * (low + high) / 2;
        draw();
    }
    function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
        view.x = x + (view.x - x) * factor;
        view.y = y + (view.y - y) * factor;
        view.scale *= factor;
        draw();
    }
    function pan(dx, dy) {
        view.x += dx;
        view.y += dy;
        draw();
    }
    function draw() {
        cancelAnimationFrame(frame);
        frame = requestAnimationFrame(paint);
    }
    function dot(p, r, fill, ring) {
        ink.beginPath();
        ink.arc(px(p), py(p), r, 0, 2 * Math.PI);
        ink.fillStyle = fill;
        ink.fill();
        if (ring) {
            ink.lineWidth = 2;
            ink.strokeStyle = ring;
            ink.stroke();
        }
    }
    function paint() {
        const ratio = devicePixelRatio || 1;
        const [width, height] = [canvas.clientWidth, canvas.clientHeight];
        const isBusy = near.length > 0;
        const r = Math.max(1.8, Math.min(6, 105 / Math.sqrt(points.length) * Math.sqrt(view.scale / Math.min(width, height) * 2)));

        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
        ink.setTransform(ratio, 0, 0, ratio, 0, 0);
        ink.globalAlpha = isBusy ? 0.3 : 0.75;
        for (let g = COLORS; g >= 0; g--) {
            if (groups.hidden.has(g))
                continue;
            ink.fillStyle = colors.groups[g];
            ink.beginPath();
            for (const p of points) {
                if (p.group !== g)
                    continue;
                const [x, y] = [px(p), py(p)];

                if (x > -9 && y > -9 && x < width + 9 && y < height + 9) {
                    ink.moveTo(x + r, y);
                    ink.arc(x, y, r, 0, 2 * Math.PI);
                }
            }
            ink.fill();
        }
        ink.globalAlpha = 1;
        paintNear();
        if (isAimed && document.activeElement === canvas) {
            ink.strokeStyle = colors.soft;
            ink.lineWidth = 1;
            ink.strokeRect(width / 2 - 8.5, height / 2 - 8.5, 17, 17);
        }
        if (pointed)
            dot(pointed, 6.5, colors.accent, colors.card);
    }
    function paintNear() {
        ink.strokeStyle = colors.accent;
        ink.lineWidth = 1;
        ink.globalAlpha = 0.5;
        for (const p of origin ? near : []) {
            ink.beginPath();
            ink.moveTo(px(origin), py(origin));
            ink.lineTo(px(p), py(p));
            ink.stroke();
        }
        ink.globalAlpha = 1;
        near.forEach((p) => p.x !== undefined && dot(p, 5.5, colors.accent, colors.card));
        if (origin)
            dot(origin, 8, colors.card, colors.accent);
        if (origin)
            dot(origin, 4, colors.accent);
        paintLabels([...(origin ? [origin] : []), ...near]);
    }
    /* Names beside their points, where there is room. */
    function paintLabels(wanted) {
        const taken = [];

        ink.font = "12px system-ui, sans-serif";
        ink.textBaseline = "middle";
        for (const p of wanted) {
            if (p.x === undefined || !p.doc)
                continue;
            const text = describe(def, p.doc).title.slice(0, 36);
            const width = ink.measureText(text).width;
            const gap = p === origin ? 14 : 10;
            const x = px(p) + gap + width > canvas.clientWidth ? px(p) - gap - width : px(p) + gap;
            const box = [x, py(p) - 8, x + width, py(p) + 8];

            if (taken.some((t) => t[0] < box[2] && box[0] < t[2] && t[1] < box[3] && box[1] < t[3]))
                continue;
            taken.push(box);
            ink.lineWidth = 3.5;
            ink.strokeStyle = colors.card;
            ink.strokeText(text, x, py(p));
            ink.fillStyle = colors.ink;
            ink.fillText(text, x, py(p));
        }
    }
    function nearestTo(x, y, reach) {
        let best = null;
        let least = reach * reach;

        for (const p of [...near.filter((n) => n.x !== undefined), ...points]) {
            const d = (px(p) - x) ** 2 + (py(p) - y) ** 2;

            if (d < least && !groups.hidden.has(p.group)) {
                least = d;
                best = p;
            }
        }
        return best;
    }
    function point(p) {
        pointed = p && p.x !== undefined ? p : null;
        tip.hidden = !pointed;
        if (pointed) {
            const about = pointed.doc ? describe(def, pointed.doc) : { title: keyText(pointed.key), text: "", rest: [] };

            show(tip, h("b", null, about.title), about.text.slice(0, 120), about.rest.length > 0 && h("div", null,
                about.rest.slice(0, 3).map(([name, value]) => `${name} ${String(value).slice(0, 40)}`).join(" · ")));
            const isLeft = px(pointed) > canvas.clientWidth - 240;

            tip.style.left = isLeft ? "" : `${px(pointed) + 12}px`;
            tip.style.right = isLeft ? `${canvas.clientWidth - px(pointed) + 12}px` : "";
            tip.style.top = `${Math.max(6, Math.min(py(pointed) - 12, canvas.clientHeight - 80))}px`;
        }
        draw();
    }
    const place = (e) => {
        const box = canvas.getBoundingClientRect();

        return [e.clientX - box.left, e.clientY - box.top];
    };

    canvas.addEventListener("pointerdown", (e) => {
        canvas.setPointerCapture(e.pointerId);
        pointers.set(e.pointerId, place(e));
        isAimed = false;
        moved = 0;
    });
    canvas.addEventListener("pointermove", (e) => {
        const now = place(e);
        const before = pointers.get(e.pointerId);

        if (!before) {
            point(nearestTo(...now, 14));
            return;
        }
        const others = [...pointers].filter(([id]) => id !== e.pointerId);

        if (others.length) {
            const [, far] = others[0];
            const size = (p) => Math.hypot(p[0] - far[0], p[1] - far[1]) || 1;

            zoom(size(now) / size(before), (now[0] + far[0]) / 2, (now[1] + far[1]) / 2);
        } else {
            pan(now[0] - before[0], now[1] - before[1]);
        }
        moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
        pointers.set(e.pointerId, now);
    });
    canvas.addEventListener("pointerup", (e) => {
        const p = pointers.size === 1 && moved < 5 && nearestTo(...place(e), 16);

        pointers.delete(e.pointerId);
        if (p)
            onpick(p);
    });
    canvas.addEventListener("pointercancel", (e) => pointers.delete(e.pointerId));
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("wheel", (e) => {
        e.preventDefault();
        zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), ...place(e));
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
        const keys = { ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40),
            "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: fit, Enter: () => pointed && onpick(pointed) };

        if (!keys[e.key] || e.ctrlKey || e.metaKey)
            return;
        e.preventDefault();
        isAimed = true;
        if (e.key !== "Enter" || !pointed)
            point(nearestTo(canvas.clientWidth / 2, canvas.clientHeight / 2, 400));
        keys[e.key]();
        if (e.key !== "Enter")
            point(nearestTo(canvas.clientWidth / 2, canvas.clientHeight / 2, 400));
    });
    canvas.addEventListener("blur", () => point(null));

    const watch = new ResizeObserver(draw);
    const repaint = () => {
        colors = readColors();
        draw();
    };

    watch.observe(canvas);
    document.addEventListener("annex-theme", repaint);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    return { node, fit, draw, point,
        highlight(from, found) {
            origin = from && from.x !== undefined ? from : null;
            near = found;
            point(null);
        },
        stop() {
            watch.disconnect();
            document.removeEventListener("annex-theme", repaint);
        } };
}
