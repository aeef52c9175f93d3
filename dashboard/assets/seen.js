/* Which panels are on the screen: these are drawn at once, the others when there is time or when they come into view. */
(function () {
  "use strict";

  const PLOTS = '[id*="\\"part\\":\\"plot\\""]';

  function isSeen(panel) {
    const {top, bottom, width} = panel.getBoundingClientRect();
    return width > 0 && bottom > 0 && top < window.innerHeight;
  }

  /* Their names; of a tab behind others, none. */
  function names() {
    const plots = document.hidden ? [] : [...document.querySelectorAll(PLOTS)];
    return plots.filter((plot) => isSeen(plot.closest(".panel"))).map((plot) => JSON.parse(plot.id).panel);
  }

  /* Whether all that is on the screen has been drawn, or says why there is nothing to draw. */
  function drawn() {
    const plots = document.hidden ? [] : [...document.querySelectorAll(PLOTS)];
    const isDrawn = (plot) => plot.querySelector(".main-svg") || plot.querySelector(".empty")?.textContent;
    return plots.filter((plot) => isSeen(plot.closest(".panel"))).every(isDrawn);
  }

  /* Tells whenever these may be others: by scrolling, by another size of the window, by other cards. */
  function watch(tell) {
    let told = true;
    const note = () => {
      if (told) {
        told = false;
        requestAnimationFrame(() => {
          told = true;
          tell();
        });
      }
    };
    window.addEventListener("scroll", note, {capture: true, passive: true});
    window.addEventListener("resize", note);
    new ResizeObserver(note).observe(document.getElementById("view"));
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {seen: {drawn, names, watch}});
})();
