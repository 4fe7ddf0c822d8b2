// Which units the model needs: how much its error rises with each unit frozen at its mean.
import { make, note, number } from "./dom.js";
import { freeze } from "./interventions.js";
import { Tensor } from "./onward.js";
import { answersAtEnd } from "./record.js";
import { answersOf, choose, encoded, inputOf, state, tell, titleOf, width } from "./state.js";

const MOST_STEPS = 40; // of a text whose next characters are predicted
const BARS = 10;
const DELAY = 100;     // milliseconds before the page begins

let card = null;

/** The inputs on which units are ranked: recordings, or the start of the text. */
function samples() {
  const { entry, text } = state;
  if (entry.kind === "text") return [{ x: encoded([...(entry.example ?? text)].slice(0, MOST_STEPS)) }];
  if (!entry.examples) return [{ x: inputOf() }];
  return entry.examples.map(({ x, label }) => ({ label, x: new Tensor(Float32Array.from(x.flat()), [x.length, width()]) }));
}

/** What an error is: its name, and its value for a sample {x, label, intact} and outputs (T, O). */
const MEASURES = {
  text: ["cross-entropy of the next character", ({ x: { data } }, outputs) => {
    const O = outputs.length / data.length, losses = Array.from({ length: data.length - 1 }, (_, t) =>
      -Math.log(answersOf([...outputs.subarray(t * O, (t + 1) * O)])[data[t + 1]].value));
    return losses.reduce((a, b) => a + b, 0) / losses.length;
  }],
  label: ["cross-entropy of the right class", ({ label, x }, outputs) => {
    const O = state.record.outputs.width;
    return -Math.log(answersOf([...outputs.subarray(outputs.length - O)])[label].value);
  }],
  next: ["root mean square error of the next value", ({ x: { data } }, outputs) => distance(outputs.subarray(0, -1), data.subarray(1))],
  last: ["root mean square error", ({ x: { data } }, outputs) => {
    let pulse = 0;
    return distance(outputs, data.map((value) => (pulse = value || pulse)));
  }],
  change: ["root mean square change of the output", ({ intact }, outputs) => distance(outputs, intact)],
};

function distance(a, b) {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += (a[n] - b[n]) ** 2;
  return Math.sqrt(sum / a.length);
}

function measure() {
  const { entry, model } = state;
  if (entry.kind === "text") return MEASURES[answersAtEnd(model) ? "change" : "text"];
  return MEASURES[entry.target ?? (entry.examples?.[0].label === undefined ? "change" : "label")];
}

/** Rank the units of a model that has been opened, once the page is drawn. */
export async function rank() {
  const { model } = state;
  if (!model) return;
  await new Promise((resolve) => setTimeout(resolve, DELAY));
  const found = await freeze(model, samples(), measure()[1], () => state.model === model);
  if (!found) return;
  state.needed = found;
  tell("ranked");
}

/** The units of a layer that the model needs most, in that order; null before they are known. */
export function mostNeeded(layer, count) {
  const errors = state.needed?.layers[layer.name];
  return errors ? Array.from(errors.keys()).sort((a, b) => errors[b] - errors[a]).slice(0, count) : null;
}

export function build() {
  card = { title: make("h3"), result: make("div", { id: "needed", "aria-live": "polite" }) };
  return [card.title, card.result];
}

export function show() {
  const layer = state.record.layer(state.layer), units = mostNeeded(layer, BARS);
  card.title.textContent = `Which units of ${titleOf(layer).toLowerCase()} does the model need?`;
  if (!units) return card.result.replaceChildren(note("Freezing one unit after the other…"));
  const { intact, layers } = state.needed, errors = layers[layer.name], most = Math.max(intact, errors[units[0]]);
  const rows = [...units, ...(units.includes(state.unit) ? [] : [state.unit])];
  const bar = (name, error, attributes) => make("button", { type: "button", class: "bar ranked", ...attributes },
    make("span", {}, name),
    make("span", { class: "track" }, make("span", { class: "fill", style: `width:${(error / most) * 100}%` }),
      make("span", { class: "before", style: `left:${(intact / most) * 100}%` })),
    make("span", { class: "value" }, number(error)));
  card.result.replaceChildren(
    note(`The ${measure()[0]} is ${number(intact)}. Each bar is that error with one unit frozen: its hidden state is held at its mean. ` +
      "The line is the intact model. A unit that the model needs as its memory raises the error; one whose forget gate is merely open does not."),
    make("div", { class: "bars" }, ...rows.map((unit) => bar(`unit ${unit}`, errors[unit], {
      "data-unit": unit, "data-error": errors[unit], "aria-pressed": String(unit === state.unit),
      on: { click: () => choose(state.step, unit) },
    }))));
}
