// The rows of a file and their labels as a CSV file, made in the browser.

import { element } from "./element.js";

// All columns of the file, then what was found; a name that the file has already gets a number.
// `every`: also a column with the probability of each label. `safe`: see below.
export function save(table, answers, model, name, { safe, every }) {
  const single = model.task === "single";
  const number = (p) => String(Number(p.toPrecision(6)));
  const found = (answer) => {
    const empty = answer === null || (single && answer.label === null);
    const given = single ? (empty ? ["", ""] : [answer.label, number(Math.max(...answer.probs))]) : [empty ? "" : JSON.stringify(answer.labels)];
    const probs = answer === null ? model.labels.map(() => "") : answer.probs.map(number);
    return every ? [...given, ...probs] : given;
  };
  const added = [...(single ? ["predicted", "probability"] : ["predicted"]), ...(every ? model.labels.map((label) => `p:${label}`) : [])];
  const header = [...table.columns, ...added.map((column) => free(column, table.columns))];
  const parts = writeCsv([header, ...answers.map((answer, i) => [...table.rows[i], ...found(answer)])], safe);
  const url = URL.createObjectURL(new Blob([safe ? "\ufeff" : "", ...parts], { type: "text/csv" }));
  element("a", { href: url, download: `${name.replace(/\.[^.]*$/, "")}.labelled.csv` }).click();
  URL.revokeObjectURL(url);
}

function free(column, taken) {
  let name = column;
  for (let n = 2; taken.includes(name); n += 1) name = `${column}_${n}`;
  return name;
}

// The lines of a CSV file. `safe`: what a spreadsheet would run as a formula gets a ' before it; numbers do not.
function writeCsv(rows, safe) {
  const formula = (cell) => /^[=+\-@\t\r]/.test(cell) && !/^[+-]?\d+(?:[.,]\d+)*%?$/.test(cell);
  const written = (cell) => {
    const kept = safe && formula(cell) ? `'${cell}` : cell;
    return /[",;\r\n\t]|^\s|\s$/.test(kept) || kept === "" ? `"${kept.replaceAll('"', '""')}"` : kept;
  };
  return rows.map((cells) => `${cells.map(written).join(",")}\r\n`);
}
