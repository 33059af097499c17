// A file: its columns, its rows labelled in parts, the first of them as a table.

import { byId, count, element, labelName, percent } from "./element.js";
import { save } from "./saving.js";
import { askJson, bytes, pause, Refused } from "./server.js";
import { readTable, templateOf, textOf, Unreadable } from "./table.js";

const SHOWN = 20;
const FIRST_PART = 8; // rows of the first request; more when it is answered fast
const QUICK = 500; // ms
const LARGEST = 200 * 2 ** 20;

let running = new AbortController();

// What is open is closed, and no more of it is labelled.
export function closeFile() {
  running.abort();
  byId("rows").hidden = true;
}

// Show a chosen file. `context` has `model()`, `limits`, and `failed(error)`.
export async function openFile(file, context) {
  closeFile();
  try {
    if (file.size > LARGEST) throw new Unreadable("it has more than 200 MB; label it with sortal predict");
    const table = readTable(new Uint8Array(await file.arrayBuffer()), file.name);
    byId("file-name").textContent = file.name;
    byId("file-about").textContent = `${count(table.rows.length, "row")}. ${table.note}`;
    for (const id of ["progress", "table", "stop"]) byId(id).hidden = true;
    byId("rows-form").onsubmit = (event) => {
      event.preventDefault();
      label(table, file.name, context);
    };
    choose(table, context.model());
    byId("rows").hidden = false;
    byId("said").textContent = `${file.name}: ${count(table.rows.length, "row")}. Choose the text columns, then label all rows.`;
  } catch (error) {
    context.failed(error instanceof Unreadable ? new Error(`${file.name} cannot be read: ${error.message}.`) : error);
  }
}

// Boxes for the columns; those that the model was trained on are ticked.
function choose(table, model) {
  const known = model.text_columns.filter((name) => table.columns.includes(name));
  const guess = known.length === model.text_columns.length && known.length ? known : table.columns.length === 1 ? table.columns : [];
  const boxes = table.columns.map((name, i) => {
    const box = element("input", { type: "checkbox", value: i, checked: guess.includes(name) });
    return element("label", {}, box, ` ${name}`);
  });
  byId("columns").replaceChildren(...boxes);
  const told = () => {
    const positions = chosen();
    const template = templateOf(model.text_template, table.columns, positions);
    byId("joined").textContent =
      template !== null ? "They are joined as in training." : positions.length > 1 ? "They are joined, one a line." : "";
  };
  byId("columns").onchange = told;
  told();
}

const chosen = () => [...byId("columns").querySelectorAll("input:checked")].map((box) => Number(box.value));

async function label(table, name, context) {
  const model = context.model();
  const positions = chosen();
  if (!positions.length) {
    context.failed(new Error("No text column is chosen. Tick the columns that hold the text, then label all rows."));
    return;
  }
  const template = templateOf(model.text_template, table.columns, positions);
  const texts = table.rows.map((cells) => textOf(cells, positions, template));
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const stop = byId("stop");
  stop.onclick = () => running.abort();
  stop.hidden = false;
  context.failed(null);
  const answers = [];
  const began = performance.now();
  advance(0, texts.length, 0);
  byId("progress").hidden = false;
  byId("said").textContent = "Labelling has begun.";
  try {
    await answerAll(texts, answers, model.name, context.limits, signal, (waiting) =>
      advance(answers.length, texts.length, performance.now() - began, waiting));
    byId("said").textContent = `All ${count(texts.length, "row")} are labelled.`;
  } catch (error) {
    if (byId("rows").hidden || running.signal !== signal) return; // something else took its place
    if (error.name !== "AbortError") context.failed(error);
    byId("bar-words").textContent = `Stopped: ${answers.length.toLocaleString("en")} of ${count(texts.length, "row")} are labelled.`;
    byId("said").textContent = byId("bar-words").textContent;
  }
  if (answers.length) show(table, texts, answers, model, name);
  if (document.activeElement === stop) byId(answers.length ? "download" : "file").focus();
  stop.hidden = true;
}

// Requests one after another, so that others get their turn; a busy server is asked again when it says so.
async function answerAll(texts, answers, model, limits, signal, told) {
  let part = Math.min(FIRST_PART, limits.max_texts);
  while (answers.length < texts.length) {
    const input = fitting(texts.slice(answers.length, answers.length + part), limits.max_body_bytes);
    const began = performance.now();
    try {
      const reply = await askJson("classify", { input, model }, signal);
      answers.push(...reply.data);
      if (performance.now() - began < QUICK && input.length === part) part = Math.min(2 * part, limits.max_texts);
      told("");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.passing) {
        told(` The server is busy; going on in ${error.wait} s.`);
        part = Math.ceil(input.length / 2); // it may find room sooner
        await pause(error.wait, signal);
      } else if (input.length > 1 && [413, 500].includes(error.status)) {
        part = Math.ceil(input.length / 2);
      } else if ([413, 500].includes(error.status)) {
        answers.push(null); // this text alone is at fault
      } else {
        throw error;
      }
    }
  }
}

// As many of the texts as a body may hold, but one.
function fitting(texts, most) {
  let left = most - 1000; // the rest of the body
  const after = texts.findIndex((text) => (left -= bytes(text)) < 0);
  return after < 0 ? texts : texts.slice(0, Math.max(1, after));
}

function advance(done, all, ms, waiting = "") {
  const bar = byId("bar");
  [bar.max, bar.value] = [all, done];
  const left = done ? Math.ceil((ms / done) * (all - done) / 1000) : 0;
  const rest = done < all && left > 5 ? `, about ${left < 90 ? `${left} s` : `${Math.round(left / 60)} min`} left` : "";
  byId("bar-words").textContent = `${done.toLocaleString("en")} of ${count(all, "row")}${rest}.${waiting}`;
}

// The labels of a row, each with its probability.
function labelled(answer, model) {
  if (!answer.labels.length) return ["none"];
  const names = answer.labels.map((name) => [name, answer.probs[model.labels.indexOf(name)]]).sort((a, b) => b[1] - a[1]);
  return names.flatMap(([name, p], i) => [i ? ", " : "", labelName(name), ` ${percent(p)}`]);
}

function show(table, texts, answers, model, name) {
  const failed = answers.filter((answer) => answer === null).length;
  const rows = answers.slice(0, SHOWN).map((answer, i) =>
    element(
      "tr", {},
      element("td", { className: "r" }, String(i + 1)),
      element("td", { className: "t" }, element("span", { className: "cut" }, texts[i].replaceAll("\x1e", "\n"))),
      element("td", { className: "l" }, ...(answer === null ? ["could not be scored"] : labelled(answer, model))),
    ));
  byId("table-rows").replaceChildren(...rows);
  const some = answers.length > SHOWN ? `The first ${SHOWN} of ${count(answers.length, "labelled row")}` : count(answers.length, "labelled row");
  const missing = failed ? `; ${count(failed, "text")} could not be scored` : "";
  byId("table-caption").textContent = `${some}${missing}`;
  byId("download").onclick = () => save(table, answers, model, name, { safe: byId("safe").checked, every: byId("every").checked });
  byId("table").hidden = false;
}
