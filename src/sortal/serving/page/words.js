// Which words mattered: what /explain says about the text that was classified, for the label that is chosen.

import { byId, count, element, percent } from "./element.js";
import { askJson } from "./server.js";

const LISTED = 10;
const FAINT = 0.1; // of the strongest effect; weaker ones are not marked
let running = new AbortController();

// Offer it for a text; nothing is asked before the button is pressed. `failed` gets what goes wrong.
export function offerWords(text, model, labels, failed) {
  running.abort();
  const button = byId("explain");
  const cost = byId("explain-cost");
  const ready = () => {
    byId("offer").hidden = false;
    button.disabled = text.trim() === "";
    cost.textContent = `Leaves out one word at a time: up to ${model.mostWords} more texts are scored.`;
  };
  ready();
  byId("words").hidden = model.mostWords < 1;
  byId("explained").hidden = true;
  button.onclick = async () => {
    running = new AbortController();
    button.disabled = true;
    cost.textContent = "Scoring the text without each of its words …";
    try {
      const body = { inputs: text, model: model.name, labels: labels.map((i) => model.labels[i]) };
      show(await askJson("explain", body, running.signal));
      byId("offer").hidden = true;
      byId("reason").focus();
      failed(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      ready();
      failed(error);
    }
  };
}

function show(found) {
  const reason = byId("reason");
  reason.replaceChildren(...found.labels.map((label, i) => element("option", { value: i }, label)));
  reason.onchange = () => mark(found, Number(reason.value));
  mark(found, 0);
  const grouped = found.words.some((word) => /\S\s+\S/.test(word.text));
  byId("explained-cost").textContent =
    (grouped ? `The text is long: neighbouring words were left out together, in ${found.words.length} groups. ` : "") +
    `${count(found.texts, "text")} scored in ${Math.round(found.ms).toLocaleString("en")} ms. ` +
    "The effect is how much the log-odds of the label fall when the words are left out; words that matter only together show less.";
  byId("explained").hidden = false;
  byId("said").textContent = "The words that mattered are shown.";
}

function mark(found, column) {
  const effects = found.words.map((word) => word.effects[column]);
  const most = Math.max(...effects.map(Math.abs), 1e-9);
  const spans = found.words.map((word, i) => {
    const made = element("span", {}, word.text.trimEnd());
    if (Math.abs(effects[i]) >= FAINT * most) {
      made.className = `word ${effects[i] > 0 ? "for" : "against"}`;
      made.style.setProperty("--strength", Math.abs(effects[i]) / most);
    }
    return [made, word.text.slice(word.text.trimEnd().length)];
  });
  byId("marked").replaceChildren(...spans.flat());
  const order = effects.map((_, i) => i).sort((a, b) => Math.abs(effects[b]) - Math.abs(effects[a]));
  const rows = order.slice(0, LISTED).map((i) => {
    const signed = `${effects[i] < 0 ? "−" : "+"}${Math.abs(effects[i]).toFixed(2)}`;
    const without = `${percent(found.scores[column])} → ${percent(found.words[i].scores[column])}`;
    return element(
      "tr", {},
      element("th", { scope: "row" }, found.words[i].text.trim()),
      element("td", { className: "r" }, signed),
      element("td", { className: "r" }, without),
    );
  });
  byId("effects").replaceChildren(...rows);
}
