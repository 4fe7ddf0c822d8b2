// The state of the page: the model, the reader's input and changes, their run, and the chosen layer, unit and step.
import { number, visible } from "./dom.js";
import { Onward, Tensor } from "./onward.js";
import { bytes, emptyRecord, extend, floats, liveliest, savedRecord, softmax } from "./record.js";

export const MOST_STEPS = 400; // in a text or signal

export const state = {
  models: [], entry: null, model: null, vocabulary: [], // vocabulary: the characters of a text model
  compared: [],                                       // other models of the same task, with their names
  text: "", signal: null,                             // the input: one of them
  written: new Set(),                                 // the steps of it that the model wrote
  clamps: [], forget: {}, inputs: {},                 // what if: gates, factors of forget gates by layer, inputs
  record: null, before: null,                         // the run with these changes, and without them
  layer: null, unit: 0, step: 0,
  needed: null,                                       // the error without each unit, once it is known
};

// ---- Views -----------------------------------------------------------------------------------------------------------

let views = [];

/** Views may export open(), called for a new model; ranked(), once its units are ranked; run(), after each run; and show(), after each choice. */
export const attach = (all) => (views = all);

/** Tell the views that something happened. */
export const tell = (event) => views.forEach((view) => view[event]?.());

/** Choose a step, a unit and a layer; numbers beyond the range mean the nearest one. */
export function choose(step, unit = state.unit, layer = state.layer) {
  state.layer = state.record.layer(layer).name;
  state.step = Math.min(Math.max(step, 0), state.record.length - 1);
  state.unit = Math.min(Math.max(unit, 0), state.record.layer(layer).H - 1);
  tell("show");
}

/** Run the model after a change of the input or of what-if settings. */
export function refresh(step = state.step) {
  compute();
  tell("run");
  choose(step);
}

/** Draw everything again, in the colors of another theme. */
export function redraw() {
  tell("run");
  tell("show");
}

// ---- Models ----------------------------------------------------------------------------------------------------------

/** Open a model of the list; a link may choose the input, the layer, the unit and the step. */
export async function open(entry, { text, signal, layer = null, unit = null, step = Infinity } = {}, wasm = undefined) {
  let model = null, compared = [];
  if (!entry.record) {
    model = await Onward.load(entry.bytes ? bytes(entry.bytes) : entry.file, { wasm });
    compared = await Promise.all((entry.compare ?? []).map(async ({ file, ...each }) => ({ ...each, model: await Onward.load(file) })));
  }
  const vocabulary = [...(model?.vocabulary ?? "")], none = { clamps: [], forget: {}, inputs: {}, before: null, needed: null, text: "", signal: null, written: new Set() };
  Object.assign(state, { entry, model, compared, vocabulary, ...none });
  if (entry.record) {
    state.record = state.before = savedRecord(entry.record);
    state.signal = floats(entry.record.x);
  } else if (entry.kind === "text") {
    state.text = known(text ?? "").slice(0, MOST_STEPS) || entry.example;
  } else {
    const whole = signal?.length && signal.length % entry.features === 0 && signal.every(Number.isFinite);
    state.signal = whole ? signal : entry.x ? floats(entry.x) : Float32Array.from(entry.examples[0].x.flat());
  }
  compute();
  state.layer = state.record.layer(layer).name;
  state.unit = unit ?? entry.unit ?? liveliest(state.record.layer(layer));
  tell("open");
  tell("run");
  choose(step);
}

/** The characters of a text that the model knows. */
export const known = (text) => [...text].filter((character) => state.vocabulary.includes(character)).join("");

// ---- The input and its run -------------------------------------------------------------------------------------------

/** The number of features per step of a signal. */
export const width = () => (state.entry.kind === "text" ? 1 : state.entry.features);

/** A text as a Tensor of the model's numbers for its characters. */
export function encoded(characters) {
  const numbers = Int32Array.from(characters, (character) => state.vocabulary.indexOf(character));
  return new Tensor(numbers, [numbers.length]);
}

/** The input as a Tensor; `changed` applies the what-if changes of single steps. */
export function inputOf(changed = false) {
  const inputs = changed ? state.inputs : {};
  if (state.entry.kind === "text") return encoded(Array.from(state.text, (character, t) => inputs[t] ?? character));
  const data = state.signal.slice(), I = width();
  for (const [t, offset] of Object.entries(inputs)) for (let i = 0; i < I; i++) data[t * I + i] += offset;
  return new Tensor(data, [data.length / I, I]);
}

export const changed = () =>
  state.clamps.length > 0 || Object.values(state.forget).some((factor) => factor !== 1) || Object.keys(state.inputs).length > 0;

/** The variant of the model with the changes of “what if”: gates held at every step, or at a single one. */
export function changedVariant() {
  const always = state.clamps.filter(({ step }) => step === null), model = always.length ? state.model.clamp(always) : state.model;
  const single = state.clamps.filter(({ step }) => step !== null);
  const special = new Map(single.map(({ step }) => [step, state.model.clamp([...always, ...single.filter((each) => each.step === step)])]));
  return { model, forget: state.forget, special };
}

/** The record of a variant of a model on x. */
export function recordOf(variant, x) {
  const first = new Tensor(x.data.slice(0, x.data.length / x.shape[0]), [1, ...x.shape.slice(1)]);
  const record = emptyRecord(variant.model, variant.model.run(first).data.length);
  extend(record, variant, x);
  return record;
}

/** Run the model again, on all of the input or, where only steps were added, on these. */
function compute() {
  if (!state.model) return;
  const x = inputOf(), size = x.data.length / x.shape[0], { before } = state;
  const same = before !== null && before.x.every((value, n) => Object.is(value, x.data[n]));
  if (!same) state.before = recordOf({ model: state.model }, x);
  else if (before.x.length < x.data.length)
    extend(before, { model: state.model }, new Tensor(x.data.slice(before.x.length), [x.shape[0] - before.x.length / size, ...x.shape.slice(1)]));
  state.before.x = x.data;
  state.record = changed() ? recordOf(changedVariant(), inputOf(true)) : state.before;
}

// ---- Names -----------------------------------------------------------------------------------------------------------

/** What the model reads at a step, in words. */
export function labelOf(t) {
  if (state.entry.kind === "text") return `“${visible(state.inputs[t] ?? [...state.text][t] ?? "")}”`;
  if (state.entry.labels) return `“${visible(state.entry.labels[t])}”`;
  return width() === 1 ? number(state.signal[t], 2) : `frame ${t + 1}`;
}

/** A layer's name on the page: its place among the recurrent layers, and its direction. */
export function titleOf(layer) {
  const { layers } = state.record, before = layers.slice(0, layers.indexOf(layer) + 1);
  return `Layer ${before.filter(({ reverse }) => !reverse).length}${layer.reverse ? ", right to left" : ""}`;
}

/** The names of the outputs; null for a model without classes. */
export const classes = () => (state.entry.kind === "text" ? state.vocabulary.map(visible) : state.entry.classes ?? null);

/** The outputs {name, value, k} of a row: the probabilities of classes, or the values themselves. */
export function answersOf(row) {
  const names = classes();
  const total = row.reduce((sum, value) => sum + value, 0);
  const isDistribution = row.every((value) => value >= 0) && Math.abs(total - 1) < 1e-3; // as after a Softmax layer
  const values = names && !isDistribution ? softmax(row) : row;
  return values.map((value, k) => ({ name: names ? names[k] : row.length > 1 ? `output ${k}` : "output", value, k }));
}

/** The outputs after a step of a record. */
export const outputsAt = (record, t) => answersOf([...record.outputs.row(t)]);
