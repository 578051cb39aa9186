/* Runs before the first paint, everything else after it: the theme, so that nothing flashes. */
try {
    const theme = JSON.parse(localStorage.getItem("annex.theme"));

    if (theme === "light" || theme === "dark")
        document.documentElement.dataset.theme = theme;
} catch {
    /* a browser that keeps nothing */
}
