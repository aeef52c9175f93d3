/* The controls of the page: each stands where the page does, and says whether it was the reader who moved it. */
(function () {
  "use strict";

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const page = () => window.dash_clientside.cockpit;

  /* A control is only set where that changes it: what is being typed or dragged would be lost. */

  const painted = {};
  const emptied = new Set(); // controls that have dropped what they were set to, as lists do whose options are not there yet

  function paint(id, props) {
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

  /* Controls of a view, with ids {"more": name, "default": value}: each holds a part of the address. */

  const held = {}; // the last value of each, as far as it was set since

  function wantedOf(id) {
    const {choice} = page();
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

  let slider; // of steps
  let smoothing; // of the weight of the past

  function show(shown) {
    paintMore();
    const ofRun = shown.last !== undefined;
    paint("run", {value: shown.run});
    paint("view-select", {value: shown.view});
    paint("view-tabs", {value: shown.view});
    paint("replay", {style: {display: ofRun ? "" : "none"}});
    if (!ofRun) {
      return;
    }
    const step = shown.step === null ? shown.last : shown.step;
    const still = shown.last <= shown.first;
    const words = "step " + step.toLocaleString("en");
    paint("play", {disabled: still});
    slider.show({min: shown.first, max: still ? shown.first + 1 : shown.last, value: step, disabled: still, text: words});
    paint("measure", {value: shown.x});
    smoothing.show({value: shown.smooth === null ? 0 : shown.smooth, text: shown.smooth === null ? "auto" : shown.smooth});
    paint("smooth-auto", {variant: shown.smooth === null ? "light" : "subtle"});
    paint("follow", {checked: shown.step === null});
    paint("step", {children: words});
  }

  /* How much of the window the strip and the replay bar take, which depends on how many lines their words need. */
  function measureAbove() {
    const [strip, bar] = ["header", "#replay"].map((part) => document.querySelector(part));
    const above = strip.offsetHeight + bar.offsetHeight;
    document.documentElement.style.setProperty("--above", above + "px");
  }

  function start(slide, smooth) {
    const {make} = window.dash_clientside.ranges;
    slider = make("slider", "Step", {min: 0, max: 1, value: 0, step: 1}, slide);
    smoothing = make("smooth", "Smoothing", {min: 0, max: 0.99, value: 0, step: 0.01}, smooth);
    const above = new ResizeObserver(measureAbove);
    ["header", "#replay"].forEach((part) => above.observe(document.querySelector(part)));
  }

  function pickMore(values, ids) {
    const update = {};
    ids.forEach((id, index) => {
      const value = values[index];
      if (page().shown() && value && value !== wantedOf(id)) {
        held[JSON.stringify({default: id.default, more: id.more})] = value;
        update[id.more] = value === id.default ? null : value;
      }
    });
    page().chooseMore(update);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {controls: {isEcho, paint, pickMore, show, start}});
})();
