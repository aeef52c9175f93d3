/* What the page does by itself. The reader's choices are kept here and handed to the server as one object; the server
   answers with what is shown. One request at a time: what is chosen meanwhile is sent with the next. */
(function () {
  "use strict";

  const PATIENCE = 5000; // ms after which an answer counts as lost
  const FRAME = 40; // ms between an answer and the next frame of a replay
  const SCHEME = "cockpit-scheme";

  const choice = {
    run: null, view: null, step: null, scheme: "light", log: {}, zoom: {}, more: {}, x: "step", smooth: null,
  };
  let shown = null;
  let serial = 0;
  let busyUntil = 0;
  let waiting = false;
  let replay = null;

  const set = (id, props) => window.dash_clientside.set_props(id, props);

  /* A control is only set where that changes it: what is being typed or dragged would be lost. */

  const painted = {};

  function paintControl(id, props) {
    const look = JSON.stringify(props);
    if (painted[id] === look) {
      return false;
    }
    painted[id] = look;
    set(id, props);
    return true;
  }

  function commit(update) {
    Object.assign(choice, update);
    if (performance.now() < busyUntil) {
      waiting = true;
    } else {
      send();
    }
  }

  function send() {
    waiting = false;
    serial += 1;
    busyUntil = performance.now() + PATIENCE;
    set("choice", {data: {...choice, seen: window.dash_clientside.seen.names(), serial}});
  }

  /* What has come into view is shown as it is now. */
  function catchUp() {
    const behind = (shown && shown.behind) || [];
    if (behind.length && window.dash_clientside.seen.names().some((panel) => behind.includes(panel))) {
      commit({});
    }
  }

  /* The address: ?run=…&view=…&step=…&x=…&smooth=… opens the same view again; log=… and linear=… name panels whose value axis
     was switched, zoom=panel:from:to those of which a part is seen. Whatever else it says is the view's own. */

  const COMMON = ["run", "view", "step", "x", "smooth", "log", "linear", "zoom"];

  function zoomed(text) {
    const [, panel, ...ends] = /^(.*):([^:]+):([^:]+)$/.exec(text) || [];
    return [panel, ends.map(Number)];
  }

  function fromAddress() {
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

  function address({run, view, step, more, x, smooth}) {
    const query = new URLSearchParams(run ? {run, view} : {view});
    if (step !== null && step !== undefined) {
      query.set("step", String(step));
    }
    if (x && x !== "step") {
      query.set("x", x);
    }
    if (smooth !== null && smooth !== undefined) {
      query.set("smooth", String(smooth));
    }
    Object.entries(choice.log).forEach(([panel, log]) => query.append(log ? "log" : "linear", panel));
    Object.entries(choice.zoom).forEach(([panel, ends]) => query.append("zoom", [panel, ...ends].join(":")));
    Object.entries(more || {}).forEach(([name, value]) => query.set(name, value));
    return "?" + query.toString();
  }

  let entering = false; // what is asked for becomes an entry of the history, to which its way back leads
  let returning; // the step that is kept on the way back

  function writeAddress() {
    const before = fromAddress();
    const next = address(shown);
    const named = ["run", "view"].filter((part) => before[part] !== null); // what was left open is only filled in
    const elsewhere = entering || named.some((part) => before[part] !== shown[part]);
    entering = false;
    if (next === window.location.search) {
      return;
    }
    if (elsewhere) {
      window.history.pushState({inside: true}, "", next);
    } else {
      window.history.replaceState(window.history.state, "", next);
    }
  }

  window.addEventListener("popstate", () => {
    stopReplay();
    const kept = returning === undefined ? {} : {step: returning};
    returning = undefined;
    commit({...fromAddress(), ...kept});
  });

  /* Links within the page say where they lead in data-view and data-more. One called “back” is taken by Escape too. */

  function withMore(update, more) {
    const entries = Object.entries({...more, ...update});
    return Object.fromEntries(entries.filter(([, value]) => value !== null && value !== ""));
  }

  function target(link) {
    const update = JSON.parse(link.dataset.more || "{}");
    return {view: link.dataset.view, more: withMore(update, link.dataset.view === shown.view ? choice.more : {})};
  }

  function visit(link) {
    if (link.classList.contains("back") && window.history.state && window.history.state.inside) {
      returning = choice.step;
      window.history.back();
      return;
    }
    entering = entering || Boolean(link.dataset.enters);
    commit(target(link));
  }

  document.addEventListener("click", (event) => {
    const row = event.target.closest(".follows"); // a row that follows its link wherever it is clicked
    const link = event.target.closest("a[data-view]") || (row && row.querySelector("a[data-view]"));
    if (link && shown && !event.button && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
      event.preventDefault();
      visit(link);
    }
  });

  /* Opened elsewhere, a link leads to the step that is shown. */
  ["mouseover", "focusin"].forEach((kind) =>
    document.addEventListener(kind, (event) => {
      const link = event.target.closest("a[data-view]");
      if (link && shown) {
        link.href = address({...shown, ...target(link)});
      }
    })
  );

  document.addEventListener("keydown", (event) => {
    const back = document.querySelector("a.back[data-view]");
    const typing = event.target.closest("input:not([type=range]), textarea, select, details[open]");
    const above = document.querySelector("[role=dialog]"); // which the key closes
    if (event.key === "Escape" && back && shown && !typing && !above && !event.defaultPrevented) {
      visit(back);
    }
  });

  /* A tab that comes back into view looks for new runs, which it does not do while every run is over, and shows what it
     has missed: while it is behind others, nothing is drawn. */
  document.addEventListener("visibilitychange", () => {
    if (shown) {
      commit({});
    }
  });

  /* Colour scheme */

  function rememberedScheme() {
    try {
      return window.localStorage.getItem(SCHEME);
    } catch (error) {
      return null; // storage may be forbidden
    }
  }

  function paint(scheme) {
    choice.scheme = scheme;
    set("theme", {forceColorScheme: scheme});
  }

  function firstScheme() {
    const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    return rememberedScheme() || system;
  }

  document.documentElement.setAttribute("data-mantine-color-scheme", firstScheme());

  /* How much of the window the strip and the replay bar take, which depends on how many lines their words need. */
  function measureAbove() {
    const [strip, bar] = ["header", "#replay"].map((part) => document.querySelector(part));
    const above = strip.offsetHeight + bar.offsetHeight;
    document.documentElement.style.setProperty("--above", above + "px");
  }

  /* Replay: a clock decides which step is due, so that slow drawing drops frames and not speed. */

  const LONGEST = 2000; // ms that a replay waits for a view that draws by itself
  let looping = false; // whether it begins anew at its end
  let drawn = Infinity; // the answer that such a view has drawn last
  let since = 0;

  function advance() {
    if (!replay || waiting) {
      return;
    }
    if (drawn < shown.serial && performance.now() - since < LONGEST) {
      setTimeout(advance, FRAME);
      return;
    }
    const part = (performance.now() - replay.began) / (1000 * replay.seconds);
    const step = Math.min(shown.last, Math.round(replay.from + part * (shown.last - shown.first)));
    if (step >= shown.last) {
      if (looping) {
        replayFrom(shown.first, replay.seconds);
      } else {
        stopReplay();
      }
    }
    if (step !== choice.step) {
      commit({step});
    } else if (replay) {
      setTimeout(advance, FRAME);
    }
  }

  function replayFrom(from, seconds) {
    replay = {from, began: performance.now(), seconds: Number(seconds)};
  }

  function stopReplay() {
    replay = null;
    set("play", {children: "Play"});
  }

  /* Controls of a view, with ids {"more": name, "default": value}: each holds a part of the address. */

  const held = {}; // the last value of each, as far as it was set since

  function wantedOf(id) {
    return id.more in choice.more ? choice.more[id.more] : id.default;
  }

  function paintMore() {
    document.querySelectorAll('[id^="{\\"default\\""]').forEach((control) => {
      const id = JSON.parse(control.id);
      const value = wantedOf(id);
      if (held[control.id] !== value) {
        held[control.id] = value;
        set(id, {value});
      }
    });
  }

  function showControls() {
    paintMore();
    const ofRun = shown.last !== undefined;
    paintControl("run", {value: shown.run});
    paintControl("view-select", {value: shown.view});
    paintControl("view-tabs", {value: shown.view});
    paintControl("replay", {style: {display: ofRun ? "" : "none"}});
    if (!ofRun) {
      return;
    }
    const step = shown.step === null ? shown.last : shown.step;
    const still = shown.last <= shown.first;
    const words = "step " + step.toLocaleString("en");
    paintControl("play", {disabled: still});
    slider.show({min: shown.first, max: still ? shown.first + 1 : shown.last, value: step, disabled: still, text: words});
    paintControl("measure", {value: shown.x});
    smoothing.show({value: shown.smooth === null ? 0 : shown.smooth, text: shown.smooth === null ? "auto" : shown.smooth});
    paintControl("smooth-auto", {variant: shown.smooth === null ? "light" : "subtle"});
    paintControl("follow", {checked: shown.step === null});
    paintControl("step", {children: words});
  }

  /* Plotly tells the end of a time axis as text, in universal time. */
  function plainNumber(end) {
    return typeof end === "string" ? Date.parse(end.replace(" ", "T") + "Z") : end;
  }

  /* The stretch that a figure was moved to, told to a ten thousandth of its length; none where all of it is shown. */
  function stretchOf(move) {
    const ends = (move["xaxis.range"] || [move["xaxis.range[0]"], move["xaxis.range[1]"]]).map(plainNumber);
    const digits = Math.min(12, Math.max(0, 4 - Math.floor(Math.log10(Math.abs(ends[1] - ends[0])))));
    return ends.every(Number.isFinite) ? ends.map((end) => Number(end.toFixed(digits))) : null;
  }

  let slider; // of steps
  let smoothing; // of the weight of the past

  function moveTo(step) {
    if (!shown || !shown.run || step === (choice.step === null ? shown.last : choice.step)) {
      return;
    }
    if (replay) {
      stopReplay();
    }
    commit({step});
  }

  /* To the end of a live run: there, the latest step is followed. */
  function slide(step) {
    if (shown && shown.state === "running" && step >= shown.last) {
      functions.follow(true);
    } else {
      moveTo(step);
    }
  }

  function smooth(weight) {
    if (shown && weight !== choice.smooth) {
      commit({smooth: weight});
    }
  }

  const functions = {
    start() {
      const {make} = window.dash_clientside.ranges;
      slider = make("slider", "Step", {min: 0, max: 1, value: 0, step: 1}, slide);
      smoothing = make("smooth", "Smoothing", {min: 0, max: 0.99, value: 0, step: 0.01}, smooth);
      const above = new ResizeObserver(measureAbove);
      ["header", "#replay"].forEach((part) => above.observe(document.querySelector(part)));
      window.dash_clientside.seen.watch(catchUp);
      Object.assign(choice, fromAddress());
      paint(firstScheme());
      send();
    },

    reflect(answer) {
      if (!answer) {
        return;
      }
      shown = answer;
      busyUntil = 0;
      if (waiting) {
        send();
        return;
      }
      if (!shown.view) {
        document.title = "Cockpit";
        paintControl("replay", {style: {display: "none"}});
        return;
      }
      document.title = (shown.last === undefined ? shown.view : shown.run) + " · Cockpit";
      showControls();
      writeAddress();
      since = performance.now();
      if (replay) {
        setTimeout(advance, FRAME);
      }
      catchUp();
    },

    /* A view that draws by itself tells in the stores {"drawn": …} which answer it has drawn: a replay waits for it. */
    noteDrawn(serials) {
      const known = serials.filter((serial) => Number.isFinite(serial));
      drawn = serials.length && known.length === serials.length ? Math.min(...known) : Infinity;
    },

    /* For other scripts of the page: what they change of the choice. */
    go(update) {
      if (replay) {
        stopReplay();
      }
      commit(update);
    },

    chooseRun(run) {
      if (run && shown && run !== (choice.run || shown.run)) {
        stopReplay();
        const view = shown.last === undefined ? null : choice.view; // a view of no single run would not change
        commit({run, view, step: null, log: {}, zoom: {}, more: {}});
      }
    },

    chooseView(selected, tabbed) {
      const now = choice.view || (shown && shown.view);
      const [wire] = window.dash_clientside.callback_context.triggered;
      const view = wire && wire.prop_id.startsWith("view-tabs") ? tabbed : selected;
      if (view && shown && view !== now) {
        commit({view, more: {}});
      }
    },

    openKeys(clicks) {
      if (clicks) {
        set("keys", {opened: true});
      }
    },

    /* One key at a time, see keys.js; whether it means anything here. */
    key(name, large) {
      const ofRun = shown && shown.last !== undefined;
      const step = ofRun && (choice.step === null ? shown.last : choice.step); // what was asked for last
      const length = ofRun && (large ? Math.max(1, Math.round((shown.last - shown.first) / 50)) : 1);
      const within = (wanted) => Math.min(Math.max(wanted, shown.first), shown.last);
      const meanings = {
        ArrowLeft: () => moveTo(within(step - length)),
        ArrowRight: () => moveTo(within(step + length)),
        Home: () => moveTo(shown.first),
        End: () => functions.follow(true),
        " ": () => document.getElementById("play").click(),
      };
      if (!ofRun || !meanings[name]) {
        return false;
      }
      meanings[name]();
      return true;
    },

    chooseMore(update) {
      const kept = withMore(update, choice.more);
      if (update && JSON.stringify(kept) !== JSON.stringify(choice.more)) {
        commit({more: kept});
      }
    },

    pickMore(values, ids) {
      const update = {};
      ids.forEach((id, index) => {
        const value = values[index];
        if (shown && value && value !== wantedOf(id)) {
          held[JSON.stringify({default: id.default, more: id.more})] = value;
          update[id.more] = value === id.default ? null : value;
        }
      });
      functions.chooseMore(update);
    },

    chooseMeasure(x) {
      if (x && shown && x !== choice.x) {
        commit({x, zoom: {}});
      }
    },

    smoothAsSuits(clicks) {
      if (clicks && choice.smooth !== null) {
        commit({smooth: null});
      }
    },

    follow(checked) {
      if (!shown || !shown.run || checked === (choice.step === null)) {
        return;
      }
      if (replay) {
        stopReplay();
      }
      commit({step: checked ? null : shown.last});
    },

    play(clicks, seconds) {
      if (!clicks || !shown || !shown.run || shown.last <= shown.first) {
        return;
      }
      if (replay) {
        stopReplay();
        return;
      }
      const atEnd = choice.step === null || choice.step >= shown.last;
      const from = atEnd ? shown.first : choice.step;
      replayFrom(from, seconds);
      set("play", {children: "Pause"});
      commit({step: from});
    },

    loop(checked) {
      looping = Boolean(checked);
    },

    pace(seconds) {
      if (replay) {
        replayFrom(choice.step, seconds);
      }
    },

    toggleScheme(clicks) {
      if (!clicks) {
        return;
      }
      const scheme = choice.scheme === "dark" ? "light" : "dark";
      try {
        window.localStorage.setItem(SCHEME, scheme);
      } catch (error) {
        // storage may be forbidden; the scheme then holds for this page
      }
      paint(scheme);
      commit({});
    },

    switchLog(checked, ids) {
      const log = {...choice.log};
      ids.forEach((id, index) => {
        const before = id.panel in log ? log[id.panel] : shown && shown.log && shown.log[id.panel];
        if (before !== checked[index]) {
          log[id.panel] = checked[index];
        }
      });
      if (JSON.stringify(log) !== JSON.stringify(choice.log)) {
        commit({log});
      }
    },

    /* Of figures that were moved just now: what others were moved to earlier may have been another axis. */
    zoom(moves, ids) {
      const zoom = {...choice.zoom};
      const moved = window.dash_clientside.callback_context.triggered.map((wire) => wire.prop_id);
      ids.forEach(({panel, part}, index) => {
        const move = moved.includes(JSON.stringify({panel, part}) + ".relayoutData") && moves[index];
        if (move && stretchOf(move)) {
          zoom[panel] = stretchOf(move);
        } else if (move && move["xaxis.autorange"]) {
          delete zoom[panel];
        }
      });
      if (JSON.stringify(zoom) !== JSON.stringify(choice.zoom)) {
        commit({zoom});
      }
    },
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {cockpit: functions});
})();
