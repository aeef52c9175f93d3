/* Sliders as the browser has them. Whoever moves one decides where it stands: what is told here is told at once, and nothing
   sets a slider that is being held. One whose value goes through the page's components is set back by an answer that was
   on its way while it was moved, and loses the focus when its range grows. */
(function () {
  "use strict";

  /* A slider in the element `id`; `moved` is told each value that the reader gives it. */
  function make(id, label, settings, moved) {
    const input = document.createElement("input");
    Object.assign(input, {type: "range", ...settings});
    input.setAttribute("aria-label", label);
    let held = false;
    input.addEventListener("pointerdown", () => {
      held = true;
    });
    ["pointerup", "pointercancel"].forEach((kind) =>
      window.addEventListener(kind, () => {
        held = false;
      })
    );
    input.addEventListener("input", () => moved(Number(input.value)));
    document.getElementById(id).append(input);

    /* Its ends come before its value, which is kept within them. */
    function show({text, ...place}) {
      if (held) {
        return;
      }
      Object.assign(input, place);
      input.setAttribute("aria-valuetext", text);
    }
    return {show};
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {ranges: {make}});
})();
