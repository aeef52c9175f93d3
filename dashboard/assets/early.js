/* Plotly is as large as all other scripts together. It is loaded while the first answer is waited for, not after it. */
(() => {
  "use strict";

  const ASKED = 100; // milliseconds after the page stands, when it has asked

  /* Where a graph wants Plotly, Dash waits for what stands in its place. */
  function load() {
    window.Plotly ??= new Promise((loaded, failed) => {
      const script = document.createElement("script");
      script.src = window._dashPlotlyJSURL;
      script.onload = () => loaded();
      script.onerror = failed;
      document.head.append(script);
    });
  }

  function wait() {
    if (document.getElementById("view")) window.setTimeout(load, ASKED);
    else window.requestAnimationFrame(wait);
  }

  wait();
})();
