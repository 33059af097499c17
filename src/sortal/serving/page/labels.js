// The answer to one text: its labels with their probabilities as bars, and the lines that decide.

import { byId, count, element, labelName, percent } from "./element.js";

const FIRST = 5;

// Positions of labels, most probable first.
export const ranked = (probs) => probs.map((_, i) => i).sort((a, b) => probs[b] - probs[a] || a - b);

// `given` is one entry of /classify's data.
export function showLabels(given, model, cost) {
  const order = ranked(given.probs);
  const predicted = new Set(given.labels);
  const shown = order.filter((i, rank) => rank < FIRST || predicted.has(model.labels[i]));
  byId("answer").replaceChildren(...answer(given, model, order));
  byId("cost").textContent = cost;
  const line = legend(model);
  byId("legend").hidden = line === "";
  byId("legend-words").textContent = line;
  const fill = (positions) =>
    byId("labels").replaceChildren(...positions.map((i) => row(model, i, given.probs[i], predicted.has(model.labels[i]))));
  const all = byId("all");
  const fold = (open) => {
    fill(open ? order : shown);
    all.setAttribute("aria-expanded", String(open));
    all.textContent = open ? "Show fewer labels" : `Show all ${model.labels.length} labels`;
    all.onclick = () => fold(!open);
  };
  fold(false);
  all.hidden = shown.length === order.length;
  byId("result").hidden = false;
  return shown;
}

function answer(given, model, order) {
  const best = given.probs[order[0]];
  if (given.labels.length) {
    const positions = order.filter((i) => given.labels.includes(model.labels[i]));
    return positions.flatMap((i, n) => [n ? ", " : "", labelName(model.labels[i]), ` ${percent(given.probs[i])}`]);
  }
  if (model.task === "multi") return ["No label: none reaches its threshold"];
  return ["No label: the best one, ", labelName(model.labels[order[0]]), `, has ${percent(best)}`];
}

function legend(model) {
  if (model.task === "multi") return "threshold: a label is given from this line on";
  if (model.abstain_below !== null) return `a label is given from ${percent(model.abstain_below)} on`;
  return "";
}

const lineOf = (model, i) => (model.task === "multi" ? (model.thresholds?.[i] ?? 0.5) : model.abstain_below);

function row(model, i, p, predicted) {
  const line = lineOf(model, i);
  const bar = element("span", { className: "bar-track", ariaHidden: "true" }, element("span", { className: "bar-fill" }));
  bar.style.setProperty("--p", p);
  if (line !== null) {
    bar.append(element("span", { className: "bar-line" }));
    bar.style.setProperty("--line", line);
  }
  const words = [labelName(model.labels[i])];
  if (predicted) words.push(element("span", { className: "hidden" }, " (given)"));
  const value = element("span", { className: "value" }, percent(p));
  if (line !== null) {
    const from = element("span", { className: "hidden" }, `, threshold ${percent(line)}`);
    value.append(from);
    bar.title = `threshold ${percent(line)}`;
  }
  return element("li", { className: predicted ? "given" : "" }, element("span", {}, ...words), bar, value);
}

// One line under a model's name.
export function about(model) {
  const base = model.base_model === null ? "" : ` on ${model.base_model}`;
  const labels = count(model.labels.length, "label");
  const several = model.task === "multi" ? `any number of ${labels}` : `one of ${labels}`;
  const most = model.max_length === null ? "" : ` · reads up to ${count(model.max_length, "token")}`;
  return `${model.method}${base} · ${several}${most}`;
}
