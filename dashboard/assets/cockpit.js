/* What the page does by itself. The reader's choices are kept here and handed to the server as one object; the server
   answers with what is shown. One request at a time: what is chosen meanwhile is sent with the next. */
(function () {
  "use strict";

  const PATIENCE = 300000; // ms after which an answer counts as lost, although nothing says so
  const FRAME = 40; // ms between an answer and the next look at what is drawn, or the next frame of a replay
  const LONGEST = 2000; // ms that is waited for what has been answered but not yet drawn

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
  let since = 0; // the last answer
  let patience; // before what failed is asked anew

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const places = () => window.dash_clientside.places;
  const controls = () => window.dash_clientside.controls;
  const replay = () => window.dash_clientside.replay;

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

  const soon = (act) => setTimeout(act, FRAME);
  const isDrawing = () => performance.now() - since < LONGEST; // or may be

  /* After an answer a view may ask on its own, as for the curves of a comparison. Where that takes longer than the page
     rests, its questions would pile up. */
  const isAnswered = () => !window.dash_clientside.lost.waiting() || performance.now() - since > PATIENCE;

  /* The page looks by itself once what is on the screen is drawn. */
  function look() {
    if (!isAnswered() || (!window.dash_clientside.seen.drawn() && isDrawing())) {
      due = soon(look);
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
    replay().stop();
    Object.assign(choice, place);
    ask();
  }

  /* The choice as it is shown: what was left open is filled in, and what cannot be is what it became. */
  function asShown() {
    const {run, view, step, x, smooth, more} = shown;
    return {...choice, run, view, step, x, smooth, more};
  }

  /* A tab that comes back into view looks for new runs, which it does not do while every run is over, and shows what it
     has missed: while it is behind others, nothing is drawn. */
  document.addEventListener("visibilitychange", () => {
    if (shown) {
      commit({});
    }
  });

  function moveTo(step) {
    if (!shown || !shown.run || step === (choice.step === null ? shown.last : choice.step)) {
      return;
    }
    replay().stop();
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
      const {first, paint} = window.dash_clientside.scheme;
      controls().start(slide, smooth);
      window.dash_clientside.seen.watch(catchUp);
      patience = window.dash_clientside.lost.patience();
      window.dash_clientside.lost.watch((id) => id === "choice", lose);
      places().watch(arrive);
      Object.assign(choice, places().here(), {scheme: first()});
      paint(choice.scheme);
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
        controls().paint("replay", {style: {display: "none"}});
        return;
      }
      document.title = (shown.last === undefined ? shown.view : shown.run) + " · Cockpit";
      controls().show(shown);
      places().show(asShown());
      replay().resume();
      catchUp();
    },

    /* For other scripts of the page: what they change of the choice. */
    go(update) {
      replay().stop();
      commit(update);
    },

    chooseRun(run) {
      if (!controls().isEcho("run", {value: run}) && run && shown && run !== (choice.run || shown.run)) {
        replay().stop();
        const view = shown.last === undefined ? null : choice.view; // a view of no single run would not change
        commit({run, view, step: null, log: {}, zoom: {}, more: {}});
      }
    },

    chooseView(selected, tabbed) {
      const [wire] = window.dash_clientside.callback_context.triggered;
      const [id, view] = wire && wire.prop_id.startsWith("view-tabs") ? ["view-tabs", tabbed] : ["view-select", selected];
      if (!controls().isEcho(id, {value: view}) && view && shown && view !== (choice.view || shown.view)) {
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
      const kept = places().withMore(update, choice.more);
      const leaving = places().underWay(); // of what is on the page then, nothing is a choice of the reader's
      if (update && !leaving && JSON.stringify(kept) !== JSON.stringify(choice.more)) {
        commit({more: kept});
      }
    },

    chooseMeasure(x) {
      if (!controls().isEcho("measure", {value: x}) && x && shown && x !== choice.x) {
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
      replay().stop();
      commit({step: checked ? null : shown.last});
    },

    switchFollow(checked) {
      if (!controls().isEcho("follow", {checked})) {
        functions.follow(checked);
      }
    },
  };

  const parts = {
    asShown, choice, commit, isDrawing, soon, isAsking: () => Boolean(asking), isWaiting: () => waiting, shown: () => shown,
  }; // for other scripts
  window.dash_clientside = Object.assign({}, window.dash_clientside, {cockpit: {...functions, ...parts}});
})();
