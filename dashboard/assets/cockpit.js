/* What the page does by itself. The reader's choices are kept here and handed to the server as one object; the server
   answers with what is shown. One request at a time: what is chosen meanwhile is sent with the next. */
(function () {
  "use strict";

  const PATIENCE = 300000; // ms after which an answer counts as lost, although nothing says so
  const FRAME = 40; // ms between an answer and the next frame of a replay
  const LONGEST = 2000; // ms that is waited for what has been answered but not yet drawn
  const SCHEME = "cockpit-scheme";

  const choice = {
    run: null, view: null, step: null, scheme: "light", log: {}, zoom: {}, more: {}, x: "step", smooth: null,
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone || "",
  };
  let shown = null;
  let serial = 0;
  let asking = false; // an answer is on its way: why it was asked for
  let waiting = false; // with another choice
  let again = false; // and a look for new runs
  let due; // the timer of the next look
  let replay = null;
  let since = 0; // the last answer
  let patience; // before what failed is asked anew

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const places = () => window.dash_clientside.places;

  /* A control is only set where that changes it: what is being typed or dragged would be lost. */

  const painted = {};
  const emptied = new Set(); // controls that have dropped what they were set to, as lists do whose options are not there yet

  function paintControl(id, props) {
    const look = JSON.stringify(props);
    if (painted[id] === look && !emptied.has(id)) {
      return;
    }
    painted[id] = look;
    emptied.delete(id);
    set(id, props);
  }

  /* Whether a control tells what it was set to, not what the reader chose: meanwhile that may be something else. */
  function isEcho(id, props) {
    const look = JSON.stringify(props);
    const echo = painted[id] === look;
    if (!echo && Object.values(props).every((value) => value === null || value === undefined)) {
      emptied.add(id);
      return true; // no reader can choose nothing
    }
    painted[id] = look;
    return echo;
  }

  function commit(update, enters = false) {
    Object.assign(choice, update);
    places().enter({...choice, run: choice.run || (shown && shown.run)}, update, enters);
    ask();
  }

  function ask() {
    if (asking) {
      waiting = true;
    } else {
      send("choice");
    }
  }

  /* An answer changes the page as it was when it was asked for: never are two of them on their way. */
  function send(why) {
    const {names} = window.dash_clientside.seen;
    const reason = again ? "again" : why;
    serial += 1;
    asking = reason;
    waiting = again = false;
    clearTimeout(due);
    due = setTimeout(send, PATIENCE, reason);
    set("choice", {data: {...choice, seen: names(), serial, why: reason}});
  }

  /* What failed is asked anew, at once where the reader chooses something meanwhile. */
  function lose(lost) {
    if (!asking || lost.serial !== serial) {
      return;
    }
    clearTimeout(due);
    due = setTimeout(send, patience.next(), waiting ? "choice" : asking);
    asking = false;
  }

  /* The page looks by itself once what is on the screen is drawn. */
  function look() {
    if (!window.dash_clientside.seen.drawn() && performance.now() - since < LONGEST) {
      due = setTimeout(look, FRAME);
    } else {
      send("tick");
    }
  }

  function rest() {
    if (shown.next !== null) {
      due = setTimeout(look, shown.next);
    }
  }

  /* What has come into view is shown as it is now. */
  function catchUp() {
    const behind = (shown && shown.behind) || [];
    if (behind.length && window.dash_clientside.seen.names().some((panel) => behind.includes(panel))) {
      commit({});
    }
  }

  function arrive(place) {
    stopReplay();
    Object.assign(choice, place);
    ask();
  }

  /* The choice as it is shown: what was left open is filled in, and what cannot be is what it became. */
  function asShown() {
    const {run, view, step, x, smooth, more} = shown;
    return {...choice, run, view, step, x, smooth, more};
  }

  /* Links within the page say where they lead in data-view and data-more. One called “back” is taken by Escape too. */

  function withMore(update, more) {
    const entries = Object.entries({...more, ...update});
    return Object.fromEntries(entries.filter(([, value]) => value !== null && value !== ""));
  }

  function target(link) {
    const update = JSON.parse(link.dataset.more || "{}");
    const within = link.dataset.view === shown.view && !places().underWay();
    return {view: link.dataset.view, more: withMore(update, within ? choice.more : {})};
  }

  function visit(link) {
    if (!link.classList.contains("back") || !places().back(choice.step)) {
      commit(target(link), Boolean(link.dataset.enters));
    }
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
        link.href = places().address({...asShown(), ...target(link)});
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

  let looping = false; // whether it begins anew at its end
  let drawn = Infinity; // the answer that such a view has drawn last

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

  /* Plotly tells the end of a time axis as text, by the reader's clock; kept are milliseconds of universal time, so that an
     address shows the same stretch everywhere. */
  function plainNumber(end) {
    return typeof end === "string" ? Date.parse(end.replace(" ", "T") + "Z") - (shown.ahead || 0) : end;
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
      patience = window.dash_clientside.lost.patience();
      window.dash_clientside.lost.watch((id) => id === "choice", lose);
      places().watch(arrive);
      Object.assign(choice, places().here());
      paint(firstScheme());
      ask();
    },

    reflect(answer) {
      if (!answer) {
        return;
      }
      shown = answer;
      if (answer.asked !== serial) {
        return; // it was on its way when something else was chosen
      }
      asking = false;
      patience.anew();
      clearTimeout(due);
      if (waiting) {
        send("choice");
        return;
      }
      since = performance.now();
      rest();
      if (!shown.view) {
        document.title = "Cockpit";
        places().show(null);
        paintControl("replay", {style: {display: "none"}});
        return;
      }
      document.title = (shown.last === undefined ? shown.view : shown.run) + " · Cockpit";
      showControls();
      places().show(asShown());
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
      if (!isEcho("run", {value: run}) && run && shown && run !== (choice.run || shown.run)) {
        stopReplay();
        const view = shown.last === undefined ? null : choice.view; // a view of no single run would not change
        commit({run, view, step: null, log: {}, zoom: {}, more: {}});
      }
    },

    chooseView(selected, tabbed) {
      const [wire] = window.dash_clientside.callback_context.triggered;
      const [id, view] = wire && wire.prop_id.startsWith("view-tabs") ? ["view-tabs", tabbed] : ["view-select", selected];
      if (!isEcho(id, {value: view}) && view && shown && view !== (choice.view || shown.view)) {
        commit({view, more: {}});
      }
    },

    lookForRuns(clicks) {
      if (clicks) {
        again = true;
        ask();
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
      const leaving = places().underWay(); // of what is on the page then, nothing is a choice of the reader's
      if (update && !leaving && JSON.stringify(kept) !== JSON.stringify(choice.more)) {
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
      if (!isEcho("measure", {value: x}) && x && shown && x !== choice.x) {
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

    switchFollow(checked) {
      if (!isEcho("follow", {checked})) {
        functions.follow(checked);
      }
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
      if (!places().underWay() && JSON.stringify(log) !== JSON.stringify(choice.log)) {
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
      if (!places().underWay() && JSON.stringify(zoom) !== JSON.stringify(choice.zoom)) {
        commit({zoom});
      }
    },
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {cockpit: functions});
})();
