/* What unfolds over the page, such as the warnings: one at a time, and gone with Escape or a click elsewhere. */
(function () {
  "use strict";

  const UNFOLDED = "details.unfolding[open]";

  function fold(kept) {
    const folded = [...document.querySelectorAll(UNFOLDED)].filter((each) => each !== kept);
    folded.forEach((each) => {
      each.open = false;
    });
    return folded;
  }

  document.addEventListener("click", (event) => fold(event.target.closest(UNFOLDED)));

  /* Before all others: Escape closes what lies on top, and only then leads back. */
  document.addEventListener(
    "keydown",
    (event) => {
      const [folded] = event.key === "Escape" ? fold(null) : [];
      if (folded) {
        event.preventDefault();
        if (folded.contains(document.activeElement)) {
          folded.querySelector("summary").focus();
        }
      }
    },
    true
  );
})();
