/* Where the reader is: the address, and the browser's way back and forth.

   An entry of the history is made when the reader goes elsewhere, not when the answer comes: the way back then leads to
   what is still seen. Answers only fill in what an address left open. Of places that follow so fast that none is seen
   before the next is chosen, the last is kept. */
(function () {
  "use strict";

  /* ?run=…&view=…&step=…&x=…&smooth=… opens the same view again; log=… and linear=… name panels whose value axis was
     switched, zoom=panel:from:to those of which a part is seen. Whatever else it says is the view's own. */

  const COMMON = ["run", "view", "step", "x", "smooth", "log", "linear", "zoom"];
  const PLACE = ["run", "view"]; // what makes another place of it; the rest changes where it stands
  const ENTERED = "entered";
  const RETURNED = "returned";

  function zoomed(text) {
    const [, panel, ...ends] = /^(.*):([^:]+):([^:]+)$/.exec(text) || [];
    return [panel, ends.map(Number)];
  }

  /* The choice that the address tells. */
  function here() {
    const query = new URLSearchParams(window.location.search);
    const step = query.get("step");
    const smooth = query.get("smooth");
    return {
      run: query.get("run"),
      view: query.get("view"),
      step: step !== null && /^-?\d+$/.test(step) ? Number(step) : null,
      x: query.get("x") || "step",
      smooth: smooth !== null && /^0(\.\d+)?$/.test(smooth) ? Number(smooth) : null,
      log: Object.fromEntries([
        ...query.getAll("log").map((panel) => [panel, true]),
        ...query.getAll("linear").map((panel) => [panel, false]),
      ]),
      zoom: Object.fromEntries(
        query.getAll("zoom").map(zoomed).filter(([panel, ends]) => panel && ends.every(Number.isFinite))
      ),
      more: Object.fromEntries([...query].filter(([name]) => !COMMON.includes(name))),
    };
  }

  /* The address of a choice. */
  function address({run, view, step, x, smooth, log, zoom, more}) {
    const known = (value) => value !== null && value !== undefined;
    const entries = Object.entries({run: run || null, view, step, x: x === "step" ? null : x, smooth});
    const query = new URLSearchParams(entries.filter(([, value]) => known(value)));
    Object.entries(log).forEach(([panel, on]) => query.append(on ? "log" : "linear", panel));
    Object.entries(zoom).forEach(([panel, ends]) => query.append("zoom", [panel, ...ends].join(":")));
    Object.entries(more || {}).forEach(([name, value]) => query.set(name, value));
    return "?" + query.toString();
  }

  /* The view's own part of an address, changed; what is nothing is left out. */
  function withMore(update, more) {
    const entries = Object.entries({...more, ...update});
    return Object.fromEntries(entries.filter(([, value]) => value !== null && value !== ""));
  }

  let unseen = null; // how the reader came to this entry, until it is shown
  let scrolled = null; // how far down it is to be shown; null: as the page stands

  const depths = () => window.dash_clientside.depths;

  /* What nobody has seen is left as it was. */
  function leave() {
    if (!unseen) {
      depths().leave();
    }
  }

  /* Whether an update of the choice leads elsewhere, which is then an entry of the history. `enters`: it does anyway. */
  function enter(choice, update, enters) {
    const now = here();
    if (!enters && !PLACE.some((part) => part in update && now[part] !== null && now[part] !== update[part])) {
      return false;
    }
    if (unseen === ENTERED) {
      window.history.replaceState(window.history.state, "", address(choice));
    } else {
      leave();
      window.history.pushState({inside: true}, "", address(choice));
      depths().arrive();
    }
    unseen = ENTERED;
    scrolled = enters || now.view !== choice.view ? 0 : null; // another run is shown where the one before it was
    return true;
  }

  /* What was asked for is shown; `choice`: as the address is to tell it from now on, null where it cannot be shown. */
  function show(choice) {
    if (choice && address(choice) !== window.location.search) {
      window.history.replaceState(window.history.state, "", address(choice));
    }
    if (unseen && scrolled !== null) {
      depths().seek(scrolled);
    }
    unseen = null;
  }

  let kept = null; // of the choice, on the way back

  function come() {
    unseen = RETURNED;
    scrolled = depths().arrive();
  }

  /* The reader's way back or forth: `arrive` is told what is to become the choice. */
  function watch(arrive) {
    window.history.scrollRestoration = "manual";
    window.addEventListener("popstate", () => {
      leave();
      come();
      arrive({...here(), ...kept});
      kept = null;
    });
    window.addEventListener("pagehide", () => {
      leave();
      depths().keep();
    });
    come();
  }

  /* Back to the entry that led here, at the step that is chosen; whether there is one. */
  function back(step) {
    const inside = Boolean(window.history.state?.inside);
    if (inside && !unseen && !kept) {
      kept = {step};
      window.history.back();
    }
    return inside;
  }

  const places = {address, back, enter, here, show, watch, withMore, underWay: () => unseen !== null};
  window.dash_clientside = Object.assign({}, window.dash_clientside, {places});
})();
