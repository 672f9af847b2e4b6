// Filters the rows of a table while someone types: data-filter is the id of the table, data-count
// that of the place for the number of rows.
"use strict";
(() => {
  for (const input of document.querySelectorAll("input[data-filter]")) {
    const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const count = document.getElementById(input.dataset.count);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((row, index) => {
        row.hidden = !texts[index].includes(wanted);
        if (!row.hidden) shown += 1;
      });
      count.textContent = `${shown} ${shown === 1 ? "model" : "models"}`;
    });
  }
})();
