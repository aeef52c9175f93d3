/* Replay: a clock decides which step is due, so that slow drawing drops frames and not speed. */
(function () {
  "use strict";

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const page = () => window.dash_clientside.cockpit;

  let replay = null;
  let looping = false; // whether it begins anew at its end
  let drawn = Infinity; // the answer that a view which draws by itself has drawn last

  function advance() {
    const {choice, commit, isDrawing, isWaiting, soon} = page();
    const shown = page().shown();
    if (!replay || isWaiting()) {
      return;
    }
    if (drawn < shown.serial && isDrawing()) {
      soon(advance);
      return;
    }
    const part = (performance.now() - replay.began) / (1000 * replay.seconds);
    const step = Math.min(shown.last, Math.round(replay.from + part * (shown.last - shown.first)));
    if (step >= shown.last) {
      if (looping) {
        replayFrom(shown.first, replay.seconds);
      } else {
        stop();
      }
    }
    if (step !== choice.step) {
      commit({step});
    } else if (replay) {
      soon(advance);
    }
  }

  function replayFrom(from, seconds) {
    replay = {from, began: performance.now(), seconds: Number(seconds)};
  }

  function stop() {
    if (replay) {
      replay = null;
      set("play", {children: "Play"});
    }
  }

  /* What was asked for is shown: the next frame may come. */
  function resume() {
    if (replay) {
      page().soon(advance);
    }
  }

  /* A view that draws by itself tells in the stores {"drawn": …} which answer it has drawn: a replay waits for it. */
  function noteDrawn(serials) {
    const known = serials.filter((serial) => Number.isFinite(serial));
    drawn = serials.length && known.length === serials.length ? Math.min(...known) : Infinity;
  }

  function play(clicks, seconds) {
    const {choice, commit} = page();
    const shown = page().shown();
    if (!clicks || !shown || !shown.run || shown.last <= shown.first) {
      return;
    }
    if (replay) {
      stop();
      return;
    }
    const atEnd = choice.step === null || choice.step >= shown.last;
    const from = atEnd ? shown.first : choice.step;
    replayFrom(from, seconds);
    set("play", {children: "Pause"});
    commit({step: from});
  }

  function loop(checked) {
    looping = Boolean(checked);
  }

  function pace(seconds) {
    if (replay) {
      replayFrom(page().choice.step, seconds);
    }
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {replay: {loop, noteDrawn, pace, play, resume, stop}});
})();
