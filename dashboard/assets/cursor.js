/* One hover cursor: all figures over steps show their values at the step under the pointer. */
(function () {
  "use strict";

  let leading = false;

  function isOverSteps(graph) {
    return Boolean(graph.on && graph.layout && graph.layout.meta && graph.layout.meta.cursor);
  }

  function lead(leader, act) {
    if (leading) {
      return; // this is a follower's own event
    }
    leading = true;
    try {
      const graphs = [...document.querySelectorAll(".js-plotly-plot")];
      graphs.filter((graph) => graph !== leader && isOverSteps(graph)).forEach(act);
    } finally {
      leading = false;
    }
  }

  function hover(graph, step) {
    const curves = graph.data.flatMap((trace, curveNumber) =>
      trace.mode === "lines" && trace.hovertemplate ? [{curveNumber, xval: step}] : []
    );
    window.Plotly.Fx.hover(graph, curves, graph.layout.meta.cursor);
  }

  document.addEventListener("mouseover", (entered) => {
    const graph = entered.target.closest(".js-plotly-plot");
    if (graph && isOverSteps(graph) && !graph.dataset.leads) {
      graph.dataset.leads = "yes";
      graph.on("plotly_hover", (event) => {
        const {x, xaxis} = event.points[0];
        lead(graph, (other) => hover(other, xaxis ? xaxis.d2c(x) : x)); // of a time of day, the number
      });
      graph.on("plotly_unhover", () => lead(graph, (other) => window.Plotly.Fx.unhover(other)));
    }
  });
})();
