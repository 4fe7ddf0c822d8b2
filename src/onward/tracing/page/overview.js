// The whole model: its layers as pictures, and its output after the chosen step.
import { $, make, number, percent, scrollTo } from "./dom.js";
import { picture } from "./heatmap.js";
import { orderOf } from "./layer.js";
import { changed, choose, classes, labelOf, outputsAt, state, titleOf } from "./state.js";
import { timeline } from "./timeline.js";

const MOST_BARS = 8;
let pictures = [], predictions = []; // predictions: the outputs of every step, where the page draws them over time

export function run() {
  const { record } = state;
  pictures = record.layers.map((layer) => ({ name: layer.name, ...picture(layer.arrays.h, orderOf(layer), false, 1) }));
  $("layers").replaceChildren(...record.layers.map((layer, n) => make("button", {
    type: "button", class: layer.reverse ? "stage reverse" : "stage", "data-layer": layer.name,
    "aria-label": `Look inside layer ${layer.name}: ${layer.type} with ${layer.H} units`,
    on: { click: () => { choose(state.step, state.unit, layer.name); scrollTo("layer"); } },
  }, make("span", { class: "name" }, titleOf(layer)), make("span", { class: "kind" }, `${layer.type}, ${layer.H} units`), pictures[n].element)));
  predictions = state.entry.kind === "text" ? [] : Array.from({ length: record.length }, (_, t) => outputsAt(record, t));
  $("flow").style.setProperty("--layers", `${Math.min(Math.max(record.layers.length, 1), 3)}fr`);
}

export function show() {
  for (const { name, element, mark } of pictures) {
    mark(state.step);
    element.parentElement.setAttribute("aria-pressed", String(name === state.layer));
  }
  const { entry, step } = state, named = Boolean(classes());
  const all = outputsAt(state.record, step), before = outputsAt(state.before, step);
  const top = [...all].sort((a, b) => (named ? b.value - a.value : a.k - b.k)).slice(0, MOST_BARS);
  const most = named ? 1 : Math.max(1, ...all.map(({ value }) => Math.abs(value)));
  const signed = !named && state.record.outputs.data.some((value) => value < 0); // then zero is in the middle of a bar
  const share = (value) => Math.min(1, Math.abs(value) / most) * (signed ? 50 : 100);
  const end = (value) => (signed ? 50 + Math.sign(value) * share(value) : share(value));
  const fill = (value) => `width:${share(value)}%` + (signed ? `;margin-left:${Math.min(50, end(value))}%;background:rgb(var(--${value < 0 ? "neg" : "pos"}))` : "");
  const text = (value) => (named ? percent(value, 1) : number(value));
  $("after").textContent = `After step ${step + 1}, ${labelOf(step)}`;
  $("prediction").textContent = named
    ? `${entry.kind === "text" ? "Next: " : ""}${top[0].name} (${percent(top[0].value)})`
    : `${entry.predicts ?? top[0].name}: ${number(top[0].value)}`;
  $("bars").replaceChildren(...top.map(({ name, value, k }) => make("div", { class: "bar" },
    make("span", { class: "mono" }, name),
    make("span", { class: "track" },
      make("span", { class: "fill", style: fill(value) }),
      changed() ? make("span", { class: "before", style: `left:${end(before[k].value)}%`, title: `before: ${text(before[k].value)}` }) : null),
    make("span", { class: "value" }, text(value)))));
  $("outcome").textContent = outcome(all);
  $("history").replaceChildren(...(predictions.length ? history(top[0]) : []));
}

/** The best output over time, or a single one. */
function history({ name, k }) {
  const values = predictions.map((outputs) => outputs[k].value);
  const label = `${name} after each step`;
  return [make("span", { class: "note" }, label), timeline(label, values, state.step, Boolean(classes()))];
}

/** How probable the model found the character that does come next. */
function outcome(all) {
  if (state.entry.kind !== "text" || !state.model) return "";
  if (state.step === state.record.length - 1) return "Write the next character, or press “Let it write” below.";
  const k = state.vocabulary.indexOf([...state.text][state.step + 1]);
  return `The text goes on with “${all[k].name}”, which it gave ${percent(all[k].value, 1)}.`;
}
