// CSV and TSV files as rows, by the rules of `sortal predict`: encoding, delimiter, quotes, blank lines, and what is refused.

import { decoded, Unreadable } from "./decoding.js";

export { Unreadable };

const DELIMITERS = [",", ";", "\t", "|"];
const SAMPLE_ROWS = 20;
const LINE_END = /\r\n|\r|\n/g;

const linesIn = (text) => text.match(LINE_END)?.length ?? 0;

// Records as { start, cells }: the line each starts on, and its cells; none for a blank line.
function* records(text, { delimiter, quoted = true, backslash = false }) {
  const end = `\\r\\n${delimiter}`;
  const plain = new RegExp(backslash ? `[^\\\\${end}]*(?:\\\\[^][^\\\\${end}]*)*` : `[^${end}]*`, "y");
  const inner = backslash ? /[^"\\]*(?:(?:\\[^]|"")[^"\\]*)*/y : /[^"]*(?:""[^"]*)*/y;
  const unescape = (cell) => (backslash ? cell.replace(/\\([^])/g, "$1") : cell);
  let at = 0;
  let line = 1;
  const taken = (pattern) => {
    pattern.lastIndex = at;
    const [found] = pattern.exec(text);
    at += found.length;
    line += linesIn(found);
    return found;
  };
  while (at < text.length) {
    const start = line;
    const cells = [];
    let blank = true;
    for (;;) {
      if (quoted && text[at] === '"') {
        blank = false;
        at += 1;
        const cell = taken(inner);
        if (text[at] !== '"') throw new Unreadable(`line ${start}: a quoted cell that starts here is never closed`);
        at += 1;
        if (at < text.length && !["\r", "\n", delimiter].includes(text[at])) {
          throw new Unreadable(`line ${start}: there is a stray quote inside the row that starts here`);
        }
        cells.push(backslash ? cell.replace(/\\([^])|""/g, (_, kept) => kept ?? '"') : cell.replaceAll('""', '"'));
      } else {
        cells.push(unescape(taken(plain)));
      }
      if (text[at] !== delimiter) break;
      at += 1;
    }
    at += text[at] === "\r" && text[at + 1] === "\n" ? 2 : 1;
    line += 1;
    yield { start, cells: blank && cells.length === 1 && cells[0] === "" ? [] : cells };
  }
}

// [the first rows have as many cells as the header, delimiters in the header]
function agreement(text, delimiter) {
  const widths = [];
  try {
    for (const { cells } of records(text, { delimiter })) {
      if (cells.length) widths.push(cells.length);
      if (widths.length === SAMPLE_ROWS) break;
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
  }
  const header = widths[0] ?? 1;
  return [Number(header > 1 && widths.every((width) => width === header)), header - 1];
}

function sniff(text, name) {
  const usual = name.toLowerCase().includes(".tsv") ? "\t" : ",";
  const ranks = DELIMITERS.map((delimiter) => ({ delimiter, rank: [...agreement(text, delimiter), Number(delimiter === usual)] }));
  const better = (a, b) => a.map((value, i) => value - b[i]).find((gap) => gap !== 0) > 0;
  const best = ranks.reduce((found, one) => (better(one.rank, found.rank) ? one : found));
  return quoting(text, { delimiter: best.rank[1] ? best.delimiter : usual });
}

// Tell quotes that quote from quotes that are text, by what the whole file says.
function quoting(text, dialect) {
  const lines = text.split(LINE_END).filter((line) => line !== "");
  const fields = (line) => line.split(dialect.delimiter).length;
  const literal = dialect.delimiter === "\t" && lines.every((line) => fields(line) === fields(lines[0]));
  const backslash = lines.some((line) => line.includes('\\"'));
  const leading = lines.some((line) => line.startsWith('"') || line.includes(`${dialect.delimiter}"`));
  if (!leading || !(backslash || literal) || readsCleanly(text, dialect, !literal)) return dialect;
  if (literal) return { ...dialect, quoted: false };
  const escaped = { ...dialect, backslash: true };
  return readsCleanly(text, escaped, true) ? escaped : dialect;
}

function readsCleanly(text, dialect, lineBreaks) {
  let width = 0;
  try {
    for (const { cells } of records(text, dialect)) {
      width ||= cells.length;
      if (cells.length && cells.length !== width) return false;
      if (!lineBreaks && cells.some((cell) => linesIn(cell))) return false;
    }
  } catch (error) {
    if (error instanceof Unreadable) return false;
    throw error;
  }
  return true;
}

// { columns, rows, note } of a file's bytes; Unreadable says what is wrong with it.
export function readTable(bytes, name) {
  const { text, note } = decoded(bytes);
  const rows = [];
  let columns = null;
  let blank = 0;
  for (const { start, cells } of records(text, sniff(text, name))) {
    if (columns === null) {
      if (cells.length) columns = cells.map((cell) => cell.trim());
      continue;
    }
    if (!cells.length) {
      blank += 1;
      continue;
    }
    // In a one-column file a blank line between rows is an empty text.
    if (columns.length === 1) for (; blank > 0; blank -= 1) rows.push([""]);
    blank = 0;
    rows.push(cells);
    const where = `row ${rows.length} (line ${start})`;
    if (cells.length !== columns.length) {
      throw new Unreadable(`${where} has ${cells.length} cells and the header has ${columns.length}: quote cells that hold the delimiter, and fill missing ones`);
    }
    if (cells.some((cell) => cell.includes("\0"))) throw new Unreadable(`${where} has a NUL byte`);
  }
  if (columns === null || !rows.length) throw new Unreadable("there are no rows below the header");
  const twice = columns.find((column, i) => column !== "" && columns.indexOf(column) !== i);
  if (twice !== undefined) throw new Unreadable(`two columns are called ${twice}: rename one of them`);
  return { columns: columns.map((column, i) => column || `Unnamed: ${i}`), rows, note };
}

// The text of a row: a template as `{title}\n{body}`, or the cells that are not empty, one a line.
export function textOf(cells, positions, template) {
  if (template !== null) return template(cells);
  if (positions.length === 1) return cells[positions[0]];
  return positions.map((i) => cells[i]).filter((cell) => cell.trim() !== "").join("\n");
}

// A function from cells to their text, or null when the columns of the template are not those chosen.
export function templateOf(words, columns, positions) {
  if (words === null) return null;
  const written = words.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
  const pieces = [...written.matchAll(/\{\{|\}\}|\{([^{}]+)\}|[^{}]+/g)].map(([piece, column]) => {
    if (column === undefined) return piece === "{{" || piece === "}}" ? piece[0] : piece;
    return columns.indexOf(column);
  });
  const wanted = new Set(pieces.filter((piece) => typeof piece === "number"));
  if (wanted.size !== positions.length || !positions.every((i) => wanted.has(i))) return null;
  return (cells) => pieces.map((piece) => (typeof piece === "number" ? cells[piece] : piece)).join("");
}
