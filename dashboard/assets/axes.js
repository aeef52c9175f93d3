/* What the reader does to the axes of a figure: logarithmic or not, and which stretch of it is seen. */
(function () {
  "use strict";

  const page = () => window.dash_clientside.cockpit;

  /* Plotly tells the end of a time axis as text, by the reader's clock; kept are milliseconds of universal time, so that an
     address shows the same stretch everywhere. */
  function plainNumber(end) {
    return typeof end === "string" ? Date.parse(end.replace(" ", "T") + "Z") - (page().shown().ahead || 0) : end;
  }

  /* The stretch that a figure was moved to, told to a ten thousandth of its length; none where all of it is shown. */
  function stretchOf(move) {
    const ends = (move["xaxis.range"] || [move["xaxis.range[0]"], move["xaxis.range[1]"]]).map(plainNumber);
    const digits = Math.min(12, Math.max(0, 4 - Math.floor(Math.log10(Math.abs(ends[1] - ends[0])))));
    return ends.every(Number.isFinite) ? ends.map((end) => Number(end.toFixed(digits))) : null;
  }

  function choose(part, settings) {
    const {choice, commit} = page();
    const leaving = window.dash_clientside.places.underWay(); // of what is on the page then, nothing is a choice of the reader's
    if (!leaving && JSON.stringify(settings) !== JSON.stringify(choice[part])) {
      commit({[part]: settings});
    }
  }

  function switchLog(checked, ids) {
    const shown = page().shown();
    const log = {...page().choice.log};
    ids.forEach((id, index) => {
      const before = id.panel in log ? log[id.panel] : shown && shown.log && shown.log[id.panel];
      if (before !== checked[index]) {
        log[id.panel] = checked[index];
      }
    });
    choose("log", log);
  }

  /* Of figures that were moved just now: what others were moved to earlier may have been another axis. */
  function zoom(moves, ids) {
    const stretches = {...page().choice.zoom};
    const moved = window.dash_clientside.callback_context.triggered.map((wire) => wire.prop_id);
    ids.forEach(({panel, part}, index) => {
      const move = moved.includes(JSON.stringify({panel, part}) + ".relayoutData") && moves[index];
      if (move && stretchOf(move)) {
        stretches[panel] = stretchOf(move);
      } else if (move && move["xaxis.autorange"]) {
        delete stretches[panel];
      }
    });
    choose("zoom", stretches);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {axes: {switchLog, zoom}});
})();
