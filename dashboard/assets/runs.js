/* The table of runs in the browser. The server tells what has changed; here it is put into the rows that are there, so
   that selection, filters, the place one has scrolled to, and a cell that is being edited stay as they are. */
(function () {
  "use strict";

  const PATIENCE = 60000; // ms after which an answer counts as lost, although nothing says so: the first look takes its time
  const LIVE = "running";
  const NEWEST = "created.desc"; // how rows are sorted until the reader sorts them
  const own = (part) => ({runs: part, nr: 0});

  let grid = null; // the table on the page
  let tables = 0; // how many there have been: one is made whenever the view is opened
  let known = null; // what the server said last, to be told what has changed since
  let asked = 0; // how many questions there have been
  let busyUntil = 0;
  let patience; // before a question that failed is asked anew
  let due; // the timer of that
  let trouble = ""; // why the list could not be read
  const kept = new Map(); // changes of rows that are being edited
  let chosen = []; // the runs that the dialog is about
  let doomed = []; // those of them that it offers to delete

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const page = () => window.dash_clientside.cockpit;

  /* What has changed */

  function put(api, rows, gone) {
    const names = new Set(api.getEditingCells().map((cell) => api.getDisplayedRowAtIndex(cell.rowIndex)?.id));
    const transaction = {add: [], update: [], remove: []};
    rows.forEach((row) => {
      if (names.has(row.name)) {
        kept.set(row.name, row);
      } else {
        transaction[api.getRowNode(row.name) ? "update" : "add"].push(row);
      }
    });
    transaction.remove = gone.filter((name) => api.getRowNode(name)).map((name) => ({name}));
    api.applyTransaction(transaction);
  }

  function release(api) {
    const rows = [...kept.values()];
    kept.clear();
    put(api, rows, []);
  }

  function adopt(api) {
    grid = api;
    tables += 1;
    known = null;
    busyUntil = 0;
    kept.clear();
    api.addEventListener("cellEditingStopped", () => setTimeout(() => api.isDestroyed() || release(api)));
    api.addEventListener("modelUpdated", () => count(api));
    api.addEventListener("sortChanged", () => page().chooseMore({sort: order(api)}));
    api.setGridOption("quickFilterText", document.querySelector(".runs-filter input").value);
  }

  /* By which column rows are sorted, as the address says it; nothing where it is the usual one. */
  function order(api) {
    const [first] = api.getColumnState().filter(({sort}) => sort).sort((one, other) => one.sortIndex - other.sortIndex);
    const words = first ? first.colId + "." + first.sort : "none";
    return words === NEWEST ? null : words;
  }

  function count(api) {
    let all = 0;
    api.forEachNode(() => (all += 1));
    const shown = api.getDisplayedRowCount();
    const words = all.toLocaleString("en") + (all === 1 ? " run" : " runs");
    set(own("count"), {children: shown === all ? words : shown.toLocaleString("en") + " of " + words});
  }

  function standing() {
    try {
      return window.dash_ag_grid.getApi(own("grid"));
    } catch (error) {
      return null; // not yet
    }
  }

  /* The table on the page, once it stands; null where the view was left before. */
  async function table() {
    for (let pause = 1; document.querySelector("section.runs"); pause = Math.min(2 * pause, 200)) {
      const api = standing();
      if (api && !api.isDestroyed()) {
        if (api !== grid) {
          adopt(api);
        }
        return api;
      }
      await new Promise((done) => setTimeout(done, pause));
    }
    return null;
  }

  const names = (rows) => rows.map((row) => row.name);

  function ask(question) {
    clearTimeout(due);
    asked += 1;
    busyUntil = performance.now() + PATIENCE;
    return {...question, number: asked};
  }

  /* What failed is asked anew, at once where the page has something new to show meanwhile. */
  function lose(lost) {
    if (!busyUntil || lost.number !== asked || lost.table !== tables) {
      return;
    }
    const isDue = () => lost.number === asked && lost.table === tables && document.querySelector("section.runs");
    busyUntil = 0;
    due = setTimeout(() => isDue() && set(own("ask"), {data: ask(lost)}), patience.next());
  }

  /* Who waits does not agree to more: what has begun to run is no longer offered, and what is over since is kept too. */
  function paintDialog() {
    const state = (name) => grid.getRowNode(name)?.data.state;
    const there = chosen.filter(state);
    const live = there.filter((name) => state(name) === LIVE);
    doomed = doomed.filter((name) => there.includes(name) && !live.includes(name));
    const over = there.filter((name) => !live.includes(name) && !doomed.includes(name));
    const keeps = [live.length ? "Still running, and kept: " + live.join(", ") : "",
      over.length ? "Over by now, and kept: " + over.join(", ") : ""];
    set(own("doomed"), {data: doomed});
    set(own("doomed-names"), {children: doomed.join("\n")});
    set(own("live-names"), {children: keeps.filter(Boolean).join(". ")});
    set(own("delete-now"), {disabled: !doomed.length, children: "Delete " + doomed.length + " for good"});
  }

  const functions = {
    async askForRuns(shown) {
      const places = window.dash_clientside.callback_context.outputs_list;
      const there = places.length && shown && shown.view === "Runs" && (await table());
      if (!there || performance.now() < busyUntil) {
        return places.map(() => window.dash_clientside.no_update);
      }
      if (!patience) {
        patience = window.dash_clientside.lost.patience();
        window.dash_clientside.lost.watch((id) => id.runs === "ask", lose);
      }
      return [ask({table: tables, known, columns: shown.more.columns || null, sort: shown.more.sort || null})];
    },

    async showRuns([answer]) {
      if (!answer) {
        return;
      }
      const api = await table();
      if (!api || answer.table !== tables) {
        return; // the view was left, and may have been opened again, while this was on its way
      }
      busyUntil = 0;
      patience.anew();
      if (answer.trouble !== trouble) {
        trouble = answer.trouble;
        set(own("said"), {children: trouble});
      }
      if (answer.definitions) {
        set(own("grid"), {columnDefs: answer.definitions});
      }
      if (answer.offered) {
        set(own("columns"), {data: answer.offered});
      }
      if (answer.definitions) {
        set(own("columns"), {value: answer.known.columns});
      }
      if (answer.whole && known === null) {
        api.setGridOption("rowData", answer.rows);
      } else {
        put(api, answer.rows, answer.gone);
      }
      known = answer.known;
      if (chosen.length) {
        paintDialog();
      }
    },

    filterRuns([text]) {
      if (!grid || grid.isDestroyed()) {
        return window.dash_clientside.no_update;
      }
      grid.setGridOption("quickFilterText", text || "");
      return {find: text || null};
    },

    chooseColumns([columns]) {
      const before = known && JSON.stringify(known.columns);
      if (!columns || before === null || JSON.stringify(columns) === before) {
        return window.dash_clientside.no_update;
      }
      return {columns: JSON.stringify(columns)};
    },

    countSelected([rows]) {
      const chosen = (rows || []).length;
      const style = {display: document.querySelector('#view-tabs input[value="Compare"]') ? "" : "none"};
      set(own("compare"), {style, disabled: chosen < 2, children: chosen < 2 ? "Compare" : "Compare " + chosen});
      set(own("delete"), {disabled: chosen < 1, children: chosen < 1 ? "Delete …" : "Delete " + chosen + " …"});
    },

    compareRuns([clicks]) {
      if (clicks && grid) {
        page().go({view: "Compare", step: null, zoom: {}, more: {runs: names(grid.getSelectedRows()).join("|")}});
      }
    },

    askForDeletion([clicks]) {
      if (!clicks || !grid) {
        return;
      }
      const rows = grid.getSelectedRows();
      chosen = names(rows);
      doomed = names(rows.filter((row) => row.state !== LIVE));
      paintDialog();
      set(own("dialog"), {opened: true});
    },

    keepRuns() {
      set(own("dialog"), {opened: false});
    },

    endDialog([opened]) {
      if (opened === false) {
        chosen = [];
      }
    },
  };

  /* Enter opens the run whose name has the focus. */
  document.addEventListener("keydown", (event) => {
    const cell = event.key === "Enter" && event.target.closest && event.target.closest('.runs-grid [col-id="name"]');
    const link = cell && cell.querySelector("a");
    if (link) {
      event.preventDefault();
      link.click();
    }
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {cockpit_runs: functions});
})();
