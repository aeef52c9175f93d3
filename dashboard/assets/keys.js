/* Keys that work wherever nothing else waits for them: not while something is typed, nor in a list, slider or table. */
(function () {
  "use strict";

  const BUSY =
    "textarea, select, [contenteditable], [role=slider], [role=option], [role=listbox], [role=dialog], [role=grid], " +
    "[role=treegrid], input:not([type=radio]):not([type=checkbox]):not([type=range]), .ag-root-wrapper, .ag-popup";
  const ARROWS = "input[type=radio], input[type=range]"; // there, the arrows lead to the next one
  const ENDS = "input[type=range]";
  const PRESSED = "button, summary, a[href], input[type=checkbox]"; // there, the space bar presses

  function busy(target, key) {
    return (
      target.closest(BUSY) ||
      (key.startsWith("Arrow") && target.closest(ARROWS)) ||
      (/^(Home|End|Page)/.test(key) && target.closest(ENDS)) ||
      (key === " " && target.closest(PRESSED))
    );
  }

  function chooseView(place) {
    const tab = document.querySelectorAll("#view-tabs input[type=radio]")[place];
    if (tab) {
      tab.click();
    }
    return Boolean(tab);
  }

  function act(event) {
    const page = window.dash_clientside.cockpit;
    if (/^[1-9]$/.test(event.key)) {
      return chooseView(Number(event.key) - 1);
    }
    if (event.key === "?") {
      window.dash_clientside.set_props("keys", {opened: true});
      return true;
    }
    if (event.key === "d" || event.key === "D") {
      document.getElementById("scheme-toggle").click();
      return true;
    }
    return page.key(event.key, event.shiftKey);
  }

  /* Past the strip and the replay bar, into what the view shows; the address stays as it is. */
  document.addEventListener("click", (event) => {
    if (event.target.closest("a.skip")) {
      event.preventDefault();
      document.getElementById("view").focus();
    }
  });

  document.addEventListener("keydown", (event) => {
    const combined = event.ctrlKey || event.metaKey || event.altKey || event.isComposing;
    if (combined || event.defaultPrevented || !event.target.closest || busy(event.target, event.key)) {
      return;
    }
    if (act(event)) {
      event.preventDefault();
    }
  });
})();
