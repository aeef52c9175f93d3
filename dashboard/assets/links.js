/* Links within the page say where they lead in data-view and data-more. One called “back” is taken by Escape too. */
(function () {
  "use strict";

  const page = () => window.dash_clientside.cockpit;
  const places = () => window.dash_clientside.places;

  function target(link) {
    const {choice, shown} = page();
    const update = JSON.parse(link.dataset.more || "{}");
    const within = link.dataset.view === shown().view && !places().underWay();
    return {view: link.dataset.view, more: places().withMore(update, within ? choice.more : {})};
  }

  function visit(link) {
    const {choice, commit} = page();
    if (!link.classList.contains("back") || !places().back(choice.step)) {
      commit(target(link), Boolean(link.dataset.enters));
    }
  }

  document.addEventListener("click", (event) => {
    const row = event.target.closest(".follows"); // a row that follows its link wherever it is clicked
    const link = event.target.closest("a[data-view]") || (row && row.querySelector("a[data-view]"));
    if (link && page().shown() && !event.button && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
      event.preventDefault();
      visit(link);
    }
  });

  /* Opened elsewhere, a link leads to the step that is shown. */
  ["mouseover", "focusin"].forEach((kind) =>
    document.addEventListener(kind, (event) => {
      const link = event.target.closest("a[data-view]");
      if (link && page().shown()) {
        link.href = places().address({...page().asShown(), ...target(link)});
      }
    })
  );

  document.addEventListener("keydown", (event) => {
    const back = document.querySelector("a.back[data-view]");
    const typing = event.target.closest("input:not([type=range]), textarea, select, details[open]");
    const above = document.querySelector("[role=dialog]"); // which the key closes
    if (event.key === "Escape" && back && page().shown() && !typing && !above && !event.defaultPrevented) {
      visit(back);
    }
  });
})();
