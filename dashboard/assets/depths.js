/* How far down the page the reader was at each entry of the history: the way back, the way forth and a reload lead there
   again. The browser itself would move what is about to leave, and cannot wait for what is still to come. */
(function () {
  "use strict";

  const KEPT = "cockpit-depths"; // of this tab
  const MOST = 100; // entries that are kept; a browser's history has fewer
  const BY_HAND = ["wheel", "touchmove", "pointerdown", "keydown"];

  function remembered() {
    try {
      return JSON.parse(window.sessionStorage.getItem(KEPT)) || [];
    } catch (error) {
      return []; // storage may be forbidden
    }
  }

  const depths = new Map(remembered()); // by the names of entries
  let here; // the entry that is on the page, or on its way there
  let sought = null; // for which the page is not long enough yet

  function nameOfEntry() {
    if (!window.history.state?.entry) {
      const now = performance.timeOrigin + performance.now(); // no other entry of this tab was made then
      window.history.replaceState({...window.history.state, entry: now}, "");
    }
    return window.history.state.entry;
  }

  /* The history has come to an entry: how far down it was left; a new one begins at its top. */
  function arrive() {
    here = nameOfEntry();
    return depths.get(here) ?? 0;
  }

  /* What is on the page is about to leave. */
  function leave() {
    depths.set(here, sought ?? window.scrollY);
    rest();
  }

  /* For the page that is loaded next. One that rested meanwhile may have kept other entries. */
  function keep() {
    try {
      const all = [...new Map([...remembered(), ...depths])];
      window.sessionStorage.setItem(KEPT, JSON.stringify(all.slice(-MOST)));
    } catch (error) {
      // storage may be forbidden; a page that is loaded anew then begins at its top
    }
  }

  const growth = new ResizeObserver(() => {
    window.scrollTo(0, sought);
    if (window.scrollY > sought - 1) {
      rest();
    }
  });

  function rest() {
    sought = null;
    growth.disconnect();
    BY_HAND.forEach((kind) => window.removeEventListener(kind, rest, true));
  }

  /* Moves the page there, as soon as it is so long; not once the reader moves it. */
  function seek(depth) {
    rest();
    sought = depth;
    BY_HAND.forEach((kind) => window.addEventListener(kind, rest, {capture: true, passive: true}));
    growth.observe(document.getElementById("view"));
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {depths: {arrive, keep, leave, seek}});
})();
