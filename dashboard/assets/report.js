/* A report: the drawings that it brings, at the step that the slider shows. Nothing is loaded, nothing is sent. */
(function () {
  "use strict";

  const FRAME = 200; // ms from one step of a replay to the next
  const {pool, names, frames, configs, palettes} = JSON.parse(document.getElementById("report-data").textContent);

  const slider = document.getElementById("slider");
  const play = document.getElementById("play");
  const views = [...document.querySelectorAll(".view")];
  const tabs = [...document.querySelectorAll(".tab")];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const shown = {view: 0, frame: frames.length - 1, scheme: null};
  let replay = null;
  let due = false;

  /* Values as they were before equal parts gave way to numbers, in the colours of the scheme. Plotly writes into what it
     is given, so each drawing is a copy. */

  function whole(value, colours) {
    if (typeof value === "string") {
      return value.replace(/\ue000(\w+)\ue001/g, (_, name) => colours[name]);
    }
    if (Array.isArray(value)) {
      return value.map((part) => whole(part, colours));
    }
    if (value === null || typeof value !== "object") {
      return value;
    }
    if ("$" in value) {
      return whole(pool[value.$], colours);
    }
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, whole(part, colours)]));
  }

  function scheme() {
    return shown.scheme || (dark.matches ? "dark" : "light");
  }

  function drawPanel(card, frame) {
    const number = Number(card.dataset.panel);
    const graph = card.querySelector(".graph");
    const look = JSON.stringify([frame.panels[number], scheme()]);
    if (card.dataset.look === look) {
      window.Plotly.Plots.resize(graph); // the window may have changed while it was hidden
      return;
    }
    card.dataset.look = look;
    const {figure, words, empty, notice, height} = whole(frame.panels[number], palettes[scheme()]);
    card.querySelector(".words").textContent = words || "";
    card.querySelector(".empty").textContent = empty || "";
    card.querySelector(".notice").textContent = notice || "";
    card.querySelector(".plot").style.minHeight = (height || 0) + "px";
    const config = {...configs[number], responsive: true};
    window.Plotly.react(graph, figure.data, figure.layout, config);
  }

  function draw() {
    due = false;
    const frame = frames[shown.frame];
    document.documentElement.setAttribute("data-mantine-color-scheme", scheme());
    views.forEach((view, place) => (view.hidden = place !== shown.view));
    tabs.forEach((tab, place) => tab.setAttribute("aria-pressed", String(place === shown.view)));
    slider.value = shown.frame;
    slider.setAttribute("aria-valuetext", "step " + frame.label);
    document.getElementById("step").textContent = "step " + frame.label;
    document.getElementById("loss").textContent = frame.loss;
    views[shown.view].querySelectorAll(".panel[data-panel]").forEach((card) => drawPanel(card, frame));
  }

  /* Of what is asked for while the page draws, the last is drawn. */
  function show(update) {
    Object.assign(shown, update);
    if (!due) {
      due = true;
      window.requestAnimationFrame(draw);
    }
    const query = new URLSearchParams({view: views[shown.view].dataset.view});
    if (shown.frame < frames.length - 1) {
      query.set("step", frames[shown.frame].step);
    }
    window.history.replaceState(null, "", "#" + query);
  }

  /* The address: #view=…&step=… opens the report there again. */
  function fromAddress() {
    const query = new URLSearchParams(window.location.hash.slice(1));
    const view = views.findIndex((each) => each.dataset.view === query.get("view"));
    const step = query.get("step");
    const after = frames.findIndex((frame) => step !== null && frame.step >= Number(step));
    return {view: Math.max(0, view), frame: after < 0 ? frames.length - 1 : after};
  }

  function moveTo(frame) {
    stop();
    show({frame: Math.min(Math.max(0, frame), frames.length - 1)});
  }

  function stop() {
    clearInterval(replay);
    replay = null;
    play.textContent = "Play";
  }

  function start() {
    play.textContent = "Pause";
    show({frame: shown.frame < frames.length - 1 ? shown.frame : 0});
    replay = setInterval(() => {
      if (shown.frame + 1 >= frames.length) {
        stop();
      } else if (!due) {
        show({frame: shown.frame + 1});
      }
    }, FRAME);
  }

  const large = () => Math.max(1, Math.round(frames.length / 10));
  const KEYS = {
    ArrowLeft: (event) => moveTo(shown.frame - (event.shiftKey ? large() : 1)),
    ArrowRight: (event) => moveTo(shown.frame + (event.shiftKey ? large() : 1)),
    Home: () => moveTo(0),
    End: () => moveTo(frames.length - 1),
    " ": () => play.click(),
    d: () => document.getElementById("scheme").click(),
  };

  document.addEventListener("keydown", (event) => {
    const own = event.target.closest("input, a, summary") || (event.key === " " && event.target.closest("button"));
    if (own || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    if (/^[1-9]$/.test(event.key) && views[event.key - 1]) {
      show({view: event.key - 1});
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key](event);
    }
  });

  slider.max = Math.max(1, frames.length - 1);
  slider.disabled = play.disabled = frames.length < 2;
  slider.addEventListener("input", () => moveTo(Number(slider.value)));
  play.addEventListener("click", () => (replay ? stop() : start()));
  tabs.forEach((tab, place) => tab.addEventListener("click", () => show({view: place})));
  document.getElementById("scheme").addEventListener("click", () => {
    show({scheme: scheme() === "dark" ? "light" : "dark"});
  });
  dark.addEventListener("change", () => show({}));
  window.addEventListener("hashchange", () => show(fromAddress()));

  const above = document.querySelector("main");
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--above", above.getBoundingClientRect().top + window.scrollY + "px");
  }).observe(document.querySelector("header"));

  show(fromAddress());
})();
