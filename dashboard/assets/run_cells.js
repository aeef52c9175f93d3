/* Cells of the table of runs: text that stays text, and how values are written and ordered. */
(function () {
  "use strict";

  const element = (...parts) => window.React.createElement(...parts);

  function openRun(name) {
    window.dash_clientside.cockpit.go({run: name, view: null, step: null, log: {}, zoom: {}, more: {}});
  }

  function plainClick(event) {
    return event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  }

  function CockpitRun({value}) {
    const follow = (event) => {
      if (plainClick(event)) {
        event.preventDefault();
        openRun(value);
      }
    };
    const href = "?" + new URLSearchParams({run: value}).toString();
    return element("a", {href, onClick: follow, tabIndex: -1}, value);
  }

  function CockpitState({value, data}) {
    const words = data.reason ? value + ": " + data.reason : value;
    return element("span", {className: "run-state state-" + value, title: data.reason || undefined}, words);
  }

  const SUFFIXES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  const formats = {
    cockpitNumber(value) {
      if (typeof value !== "number") {
        return value === null || value === undefined ? "" : String(value);
      }
      if (Number.isInteger(value) && Math.abs(value) < 1e15) {
        return value.toLocaleString("en");
      }
      const size = Math.abs(value);
      return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
    },

    cockpitTime(seconds) {
      const time = new Date(1000 * seconds);
      const two = (number) => String(number).padStart(2, "0");
      const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
      return Number.isNaN(time.getTime()) ? "" : day + " " + two(time.getHours()) + ":" + two(time.getMinutes());
    },

    cockpitDuration(seconds) {
      if (typeof seconds !== "number") {
        return "";
      }
      const at = Math.max(0, SUFFIXES.findIndex(([length]) => seconds >= length));
      const [length, name] = seconds >= 1 ? SUFFIXES[at] : [1, "s"];
      const whole = length === 1 ? Number(seconds.toPrecision(2)) : Math.floor(seconds / length);
      const next = SUFFIXES[at + 1];
      const rest = length === 1 ? 0 : Math.floor((seconds % length) / next[0]);
      return whole + " " + name + (rest ? " " + rest + " " + next[1] : "");
    },

    cockpitDay(wanted, seconds) {
      const day = new Date(1000 * seconds);
      return new Date(day.getFullYear(), day.getMonth(), day.getDate()) - wanted;
    },

    /* Numbers by size, then infinities and what is not a number, then what is missing. */
    cockpitOrder(one, other) {
      const rank = (value) => (typeof value === "number" ? 0 : value === null || value === undefined ? 2 : 1);
      if (rank(one) !== rank(other)) {
        return rank(one) - rank(other);
      }
      return rank(one) === 0 ? one - other : String(one).localeCompare(String(other));
    },
  };

  window.dashAgGridFunctions = Object.assign(window.dashAgGridFunctions || {}, formats);
  window.dashAgGridComponentFunctions = Object.assign(window.dashAgGridComponentFunctions || {}, {
    CockpitRun,
    CockpitState,
  });
})();
