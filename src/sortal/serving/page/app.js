// The page: which model, which key, and what happens when.

import { byId, count } from "./element.js";
import { about, showLabels } from "./labels.js";
import { closeFile, openFile } from "./rows.js";
import { ask, askJson, hasKey, pause, Refused, useKey } from "./server.js";
import { offerWords } from "./words.js";

const MOST_WORDS = 64;
let info = null;
let model = null;
let running = new AbortController();

// Say what went wrong, or with null that nothing is wrong any more.
function failed(error) {
  const unasked = error instanceof Refused && error.status === 401 && !hasKey();
  byId("problem").textContent = error === null || unasked ? "" : (error.advice ?? error.message);
  if (error instanceof Refused && error.status === 401) {
    useKey(null);
    byId("key-form").hidden = false;
    byId("work").hidden = true;
    byId("key").setAttribute("aria-invalid", String(!unasked));
    byId("key").focus();
  }
}

async function start() {
  try {
    info = await askJson("info");
  } catch (error) {
    failed(error);
    return;
  }
  failed(null);
  byId("key-form").hidden = true;
  byId("forget").hidden = !hasKey();
  byId("work").hidden = false;
  byId("version").textContent = info.version;
  byId("model").replaceChildren(...info.models.map((one) => new Option(one.name, one.name)));
  byId("choice").hidden = info.models.length === 1;
  byId("name").classList.toggle("hidden", info.models.length > 1); // the choice says it
  choose(info.models[0].name);
  byId("text").focus();
  await untilReady();
}

// Models may still be loading; everything can be typed meanwhile.
async function untilReady() {
  for (;;) {
    try {
      await ask("ready");
      failed(null);
      return;
    } catch (error) {
      failed(error);
      if (!error.passing) return;
      await pause(error.wait);
    }
  }
}

function choose(name) {
  const found = info.models.find((one) => one.name === name);
  model = { ...found, mostWords: Math.min(MOST_WORDS, info.limits.max_texts - 1) };
  byId("name").textContent = name;
  document.title = `${name} – Sortal`;
  byId("about").textContent = about(model);
  byId("report").hidden = !model.report;
  byId("report-link").href = `report?model=${encodeURIComponent(name)}`;
  byId("report-link").textContent = hasKey() ? "Save the report of this model" : "Report of this model";
  byId("result").hidden = true;
  byId("file").value = "";
  closeFile();
  running.abort();
}

async function classify() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const text = byId("text").value;
  const asked = model;
  const began = performance.now();
  document.body.setAttribute("aria-busy", "true");
  try {
    const reply = await askJson("classify", { input: text, model: asked.name }, signal);
    const ms = performance.now() - began;
    failed(null);
    const shown = showLabels(reply.data[0], asked, cost(reply, asked, ms));
    offerWords(text, asked, shown, failed);
    byId("said").textContent = `${byId("answer").textContent}. ${count(asked.labels.length, "label")} below.`;
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("result").hidden = true;
    failed(error);
  } finally {
    if (running.signal === signal) document.body.removeAttribute("aria-busy");
  }
}

function cost(reply, asked, ms) {
  const tokens = reply.usage.prompt_tokens;
  const took = `Answered in ${ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`;
  const read = tokens ? `, ${count(tokens, "token")}` : "";
  const cut = asked.max_length !== null && tokens >= asked.max_length ? ". The text is as long as the model reads; what is beyond was cut" : "";
  return `${took}${read}${cut}.`;
}

// With a key the report cannot be a plain link, since the key must not be in it.
async function saveReport(event) {
  if (!hasKey()) return;
  event.preventDefault();
  try {
    const file = await (await ask(`report?model=${encodeURIComponent(model.name)}`)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `${model.name.replaceAll("/", "-")}.report.html`;
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    failed(error);
  }
}

const context = { model: () => model, failed, get limits() { return info.limits; } };

byId("text-form").addEventListener("submit", (event) => {
  event.preventDefault();
  classify();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("text-form").requestSubmit();
});
byId("model").addEventListener("change", (event) => choose(event.target.value));
byId("report-link").addEventListener("click", saveReport);
byId("file").addEventListener("change", (event) => {
  failed(null);
  if (event.target.files.length) openFile(event.target.files[0], context);
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
  start();
});
byId("forget").addEventListener("click", () => {
  useKey(null);
  location.reload();
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (model !== null && event.dataTransfer.files.length) {
    failed(null);
    openFile(event.dataTransfer.files[0], context);
  }
});

start();
