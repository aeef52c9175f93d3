/* Pictures of figures: two buttons in the bar of each, for PNG and SVG. A picture says what the page around it says. */
(function () {
  "use strict";

  const HEADING = 30; // pixels above the figure

  /* As plotly shows text that is no markup. */
  function plain(text) {
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/%\{/g, "%&#123;");
  }

  function shownStep() {
    const output = document.getElementById("step");
    return output && output.offsetParent ? output.textContent : "";
  }

  function heading(graph, step) {
    const panel = graph.closest(".panel");
    const title = (panel && panel.getAttribute("aria-label")) || "";
    return [title, graph._context.toImageButtonOptions.run, step].filter(Boolean).join(" · ");
  }

  /* Runs that share a figure are told apart by a legend, which on the page stands above all figures. */
  function withLegend(data, layout) {
    const strongest = new Map(data.filter((trace) => trace.mode === "lines").map((trace) => [trace.name, trace]));
    data.forEach((trace) => (trace.showlegend = strongest.get(trace.name) === trace));
    layout.showlegend = true;
    layout.legend = {orientation: "h", x: 0, y: 1, yanchor: "bottom", bgcolor: "rgba(0, 0, 0, 0)"};
  }

  function picture(graph, step) {
    const {data, layout} = structuredClone({data: graph.data, layout: graph.layout});
    const legend = layout.meta && layout.meta.legend;
    const above = HEADING * (legend ? 2 : 1);
    if (legend) {
      withLegend(data, layout);
    }
    const font = {size: 13, color: layout.hoverlabel && layout.hoverlabel.font.color};
    const place = {x: 0, xref: "container", xanchor: "left", y: 1, yref: "container", yanchor: "top"};
    layout.title = {text: plain(heading(graph, step)), font, pad: {l: 10, t: 9}, automargin: false, ...place};
    layout.margin = {...layout.margin, t: (layout.margin.t || 0) + above};
    layout.autosize = false;
    layout.width = graph.clientWidth;
    layout.height = graph.clientHeight + above;
    return {data, layout};
  }

  function save(graph, format) {
    const {filename, scale} = graph._context.toImageButtonOptions;
    const step = shownStep();
    const figure = picture(graph, step);
    const {width, height} = figure.layout;
    const name = step ? `${filename}-${step.replace(/ /g, "-").replace(/[^\w-]/g, "")}` : filename;
    window.Plotly.downloadImage(figure, {format, filename: name, width, height, scale: format === "png" ? scale : 1});
  }

  function button(graph, format) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "modebar-btn picture";
    made.textContent = format.toUpperCase();
    made.dataset.title = `Download as ${made.textContent}`;
    made.setAttribute("aria-label", made.dataset.title);
    made.addEventListener("click", () => save(graph, format));
    return made;
  }

  /* Plotly's bar is as it makes it; whenever somebody is about to use it, it is looked whether the buttons are there. */
  function offer(graph) {
    const bar = graph.querySelector(".modebar");
    if (bar && !bar.querySelector(".picture")) {
      const group = document.createElement("div");
      group.className = "modebar-group";
      group.append(button(graph, "png"), button(graph, "svg"));
      bar.prepend(group);
    }
  }

  /* By keyboard they are found in their order: before the bar's own. */
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab") {
      document.querySelectorAll(".js-plotly-plot").forEach(offer);
    }
  });

  ["pointerover", "focusin"].forEach((kind) =>
    document.addEventListener(kind, (event) => {
      const near = event.target.closest && event.target.closest(".js-plotly-plot, .panel");
      if (near) {
        (near.matches(".panel") ? near.querySelectorAll(".js-plotly-plot") : [near]).forEach(offer);
      }
    })
  );
})();
