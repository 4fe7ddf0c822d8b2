// What if: gates held at 0 or 1, scaled forget gates, changed inputs; and the predictions before and after.
import { draw, temperature } from "./clock.js";
import { $, button, choice, make, note, number, visible } from "./dom.js";
import { Tensor } from "./onward.js";
import { extend, isGate, ORDER } from "./record.js";
import { changed, changedVariant, inputOf, recordOf, refresh, state } from "./state.js";

const SAMPLED = 80, FORECAST = 20; // steps of a comparison
const card = {};

/** Undo all changes. */
export function undo() {
  Object.assign(state, { clamps: [], forget: {}, inputs: {} });
  refresh();
}

/** Hold a gate of a unit, or with unit null of the whole layer, at 0 or 1: at every step or, with a step, at this one. */
export function clamp(layer, gate, unit, value, step = null) {
  const replaced = (each) => each.layer === layer && each.gate === gate && each.step === step && (unit === null || each.unit === unit);
  state.clamps = [...state.clamps.filter((each) => !replaced(each)), { layer, gate, unit, value, step }];
  refresh();
}

export function build() {
  const { record, model, entry } = state, kind = record.layers[0].type, gates = ORDER[kind].filter(isGate), text = entry.kind === "text";
  const gate = choice({ id: "clamp-gate", "aria-label": "Gate to hold" }, gates.map((name) => [name, name]));
  const scope = choice({ id: "clamp-scope", "aria-label": "Which units" }, [["unit", "of this unit"], ["layer", "of the whole layer"]]);
  const value = choice({ id: "clamp-value", "aria-label": "Value" }, [[0, "at 0, closed"], [1, "at 1, open"]]);
  const when = choice({ id: "clamp-when", "aria-label": "When" }, [["always", "at every step"], ["step", "at this step only"]]);
  const hold = () => clamp(state.layer, gate.value, scope.value === "unit" ? state.unit : null, Number(value.value),
    when.value === "step" ? state.step : null);
  const possible = gates.length > 0 && model.recurrent.every((layer) => layer.plain);
  const scale = () => {
    state.forget = { ...state.forget, [state.layer]: Number(factor.value) };
    refresh();
  };
  const change = () => {
    const { [state.step]: _, ...others } = state.inputs, entered = text ? step.value : Number(step.value);
    const valid = text ? state.vocabulary.includes(entered) : Number.isFinite(entered) && entered !== 0;
    state.inputs = valid ? { ...others, [state.step]: entered } : others;
    refresh();
  };
  const factor = make("input", { type: "range", id: "forget", min: "0", max: "1.2", step: "0.05", value: "1", on: { input: scale } });
  const type = text ? { type: "text", maxlength: "1" } : { type: "number", step: "0.1" };
  const step = make("input", { id: "swap", ...type, on: { input: change } });
  const chips = make("div", { class: "chips" }), compared = make("div", { "aria-live": "polite", id: "compare" });
  Object.assign(card, { factor, step, chips, compared, scaled: make("output") });
  const field = (name, ...inputs) => make("p", {}, make("label", { class: "field" }, name, ...inputs));
  return [
    make("h3", {}, "What if?"),
    note("Hold a gate open or closed, and watch the page change: the model runs with another bias of that gate."),
    possible
      ? make("div", { class: "row" }, gate, scope, value, when, button("Hold", hold, { id: "clamp", class: "primary" }))
      : note(gates.length ? "The gates of this model have options and cannot be held." : "An RNN has no gates to hold."),
    kind === "LSTM" ? field("Scale the forget gates of this layer ", factor, card.scaled) : null,
    field(text ? "At this step, read instead " : "At this step, add to the input ", step),
    chips,
    entry.kind === "signal" ? null : button(text ? "Compare samples" : "Compare forecasts", compare, { id: "compare-samples" }),
    compared,
  ].filter(Boolean);
}

/** The changes in words, and how to undo each of them. */
function changes() {
  const layerOf = (name) => (state.record.layers.length > 1 ? ` in ${name}` : "");
  const without = (object, key) => Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
  return [
    ...state.clamps.map((each) => ({
      text: `${each.gate} of ${each.unit === null ? "all units" : `unit ${each.unit}`}${layerOf(each.layer)} = ${each.value}` +
        (each.step === null ? "" : ` at step ${each.step + 1}`),
      remove: () => (state.clamps = state.clamps.filter((other) => other !== each)),
    })),
    ...Object.entries(state.forget).filter(([, by]) => by !== 1).map(([layer, by]) => ({
      text: `forget gates${layerOf(layer)} × ${by}`, remove: () => (state.forget = without(state.forget, layer)),
    })),
    ...Object.entries(state.inputs).map(([t, by]) => ({
      text: state.entry.kind === "text" ? `step ${Number(t) + 1} reads ${visible(by)}` : `step ${Number(t) + 1} plus ${by}`,
      remove: () => (state.inputs = without(state.inputs, t)),
    })),
  ];
}

export function run() {
  const all = changes(), words = all.map(({ text }) => text).join("; ");
  const chip = ({ text, remove }) => button(`${text} ✕`, () => { remove(); refresh(); }, { "aria-label": `Undo: ${text}` });
  card.chips.replaceChildren(...all.map(chip));
  $("whatif-banner").hidden = !changed();
  $("whatif-banner").replaceChildren(
    `What if: ${words}. The marks in the output show the prediction before.`, button("Undo all", undo, { id: "clear" }));
  card.compared.replaceChildren();
}

export function show() {
  const { factor, step, scaled } = card;
  factor.value = state.forget[state.layer] ?? 1;
  scaled.textContent = `× ${Number(factor.value).toFixed(2)}`;
  if (document.activeElement !== step) step.value = state.inputs[state.step] ?? "";
}

// ---- Before and after ------------------------------------------------------------------------------------------------

function compare() {
  const continued = state.entry.kind === "text" ? sampled : forecast;
  card.compared.replaceChildren(
    make("b", {}, "Before"), make("div", { class: "quote" }, continued({ model: state.model }, inputOf())),
    make("b", {}, "After"), make("div", { class: "quote" }, continued(changedVariant(), inputOf(true))));
}

/** The outputs while a variant reads x, and then `steps` steps that next() makes of its last outputs. */
function goOn(variant, x, steps, next) {
  const record = recordOf(variant, x);
  for (let n = 0; n < steps; n++) extend(record, variant, next([...record.outputs.row(record.length - 1)]));
}

/** A fixed sequence of random numbers, so that samples differ only where the model does. */
function randoms(seed = 12345) {
  return () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
}

function sampled(variant, x) {
  const random = randoms(), text = [];
  goOn(variant, x, SAMPLED, (scores) => {
    const k = draw(scores, temperature(), random);
    text.push(state.vocabulary[k]);
    return new Tensor(Int32Array.of(k), [1]);
  });
  return text.join("");
}

function forecast(variant, x) {
  const values = [];
  goOn(variant, x, FORECAST, ([value]) => {
    values.push(number(value, 2));
    return new Tensor(Float32Array.of(value), [1, 1]);
  });
  return values.join("  ");
}
