/* The view Compare: what the reader chooses becomes a part of the address. */
(function () {
  "use strict";

  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    compare: {
      /* Only what differs from what the page shows: its own choice of quantities is no choice of the reader's. */
      choose([runs], [keys], [over], [drawn]) {
        const update = {};
        if (drawn && runs && !same(runs, drawn.chosen.runs)) {
          update.runs = runs.join("|");
        }
        if (drawn && keys && !same(keys, drawn.chosen.keys)) {
          update.key = keys.join("|");
        }
        if (drawn && over && over !== drawn.chosen.over) {
          update.over = over;
        }
        return Object.keys(update).length ? update : window.dash_clientside.no_update;
      },
    },
  });
})();
