/* Dark or light: as the reader chose it here, else as the system says. */
(function () {
  "use strict";

  const KEPT = "cockpit-scheme";

  function remembered() {
    try {
      return window.localStorage.getItem(KEPT);
    } catch (error) {
      return null; // storage may be forbidden
    }
  }

  function keep(scheme) {
    try {
      window.localStorage.setItem(KEPT, scheme);
    } catch (error) {
      // storage may be forbidden; the scheme then holds for this page
    }
  }

  function first() {
    const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    return remembered() || system;
  }

  document.documentElement.setAttribute("data-mantine-color-scheme", first());

  function paint(scheme) {
    window.dash_clientside.set_props("theme", {forceColorScheme: scheme});
  }

  function toggle(clicks) {
    if (!clicks) {
      return;
    }
    const {choice, commit} = window.dash_clientside.cockpit;
    const scheme = choice.scheme === "dark" ? "light" : "dark";
    keep(scheme);
    paint(scheme);
    commit({scheme});
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {scheme: {first, paint, toggle}});
})();
