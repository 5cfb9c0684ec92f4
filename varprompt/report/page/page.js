"use strict";
// Without this the page shows the same; it only sorts rows and hides those without given words.
const key = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
};

function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what has no number comes last
  return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

function sort(heading) {
  const body = heading.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => [key(row, heading.cellIndex), row]);
  const first = rows.some(([value]) => typeof value === "number") ? "descending" : "ascending";
  const now = heading.getAttribute("aria-sort");
  const turned = now === "descending" ? "ascending" : "descending";
  const next = now === "none" ? first : turned;
  for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", next);
  rows.sort(([a], [b]) => {
    const order = compare(a, b);
    return typeof a === typeof b && next === "descending" ? -order : order;
  });
  body.append(...rows.map(([, row]) => row));
}

for (const heading of document.querySelectorAll(".sortable th")) {
  heading.addEventListener("click", () => sort(heading));
}

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll(".sortable tbody tr")) {
    const said = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => said.includes(word));
  }
});
