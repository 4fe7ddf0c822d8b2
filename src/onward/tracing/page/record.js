// The record of one run of a model: its gates, states and outputs, computed here or saved by Python.
import { Tensor } from "./onward.js";

/** A growing array of rows of `width` numbers. */
export class Rows {
  constructor(width, data = new Float32Array(0)) {
    this.width = width;
    this.data = data;
  }
  get length() {
    return this.data.length / this.width;
  }
  push(more) {
    const data = new Float32Array(this.data.length + more.length);
    data.set(this.data);
    data.set(more, this.data.length);
    this.data = data;
  }
  /** A value; 0 before the first and after the last step. */
  at(t, unit) {
    return t < 0 || t >= this.length ? 0 : this.data[t * this.width + unit];
  }
  row(t) {
    return this.data.subarray(t * this.width, (t + 1) * this.width);
  }
}

/** The gates, states and outputs of a run; T steps of each layer's arrays (T, H). */
export class Record {
  constructor(layers, outputs) {
    this.layers = layers; // [{name, type, H, reverse, arrays: {i: Rows, ...}}]
    this.outputs = outputs; // Rows (T, O)
    this.states = [];
  }
  get length() {
    return this.outputs.length;
  }
  layer(name) {
    return this.layers.find((layer) => layer.name === name) ?? this.layers[0];
  }
}

const GATE_NAMES = {
  i: ["input gate", "lets the candidate in"],
  f: ["forget gate", "keeps the cell state"],
  g: ["candidate", "what to write"],
  o: ["output gate", "lets the state out"],
  r: ["reset gate", "lets the past in"],
  z: ["update gate", "keeps the state"],
  n: ["candidate", "what to write"],
  c: ["cell state", "what the cell keeps"],
  h: ["hidden state", "the output"],
};
export const ORDER = { LSTM: ["i", "f", "o", "g", "c", "h"], GRU: ["r", "z", "n", "h"], RNN: ["h"] };

/** The title and the meaning of an array of a layer; in layers beyond torch.nn, the letters mean something else. */
export const meaningOf = (layer, name) => (ORDER[layer.type] ? GATE_NAMES[name] : ["values", ""]);
export const isGate = (name) => "ifozr".includes(name);

/** An empty record of a model. */
export function emptyRecord(model, outputs) {
  const layers = model.recurrent.flatMap((layer) =>
    layer.suffixes.map((suffix) => ({
      name: layer.prefix + suffix.slice(1),
      type: layer.type,
      H: layer.H,
      reverse: suffix.endsWith("_reverse"),
      source: layer,
      arrays: Object.fromEntries(
        [...new Set([...layer.gates, ...(layer.type === "LSTM" ? ["c"] : []), "h", ...layer.gates.map((gate) => `${gate}_preactivation`)])].map(
          (name) => [name, new Rows(name === "h" ? layer.P : layer.H)],
        ),
      ),
    })),
  );
  return new Record(layers, new Rows(outputs));
}

/** Whether a model answers once for a sequence. */
export const answersAtEnd = ({ description }) => Boolean(description.layers?.some((layer) => layer.type === "Last"));

/**
 * A variant of a model: the model, the factors of its forget gates by layer, and the models of single steps, as a Map.
 * A whole model is the variant { model }.
 */
const everyStep = ({ model, forget = {} }) => Object.values(forget).some((factor) => factor !== 1) || answersAtEnd(model);

/** The parts [from, to) of some steps that a variant runs in one call. */
export function parts(from, to, variant) {
  if (everyStep(variant)) return Array.from({ length: to - from }, (_, n) => [from + n, from + n + 1]);
  const cuts = [...(variant.special?.keys() ?? [])].flatMap((step) => [step, step + 1]).filter((cut) => cut > from && cut < to);
  const ends = [...new Set([from, ...cuts, to])].sort((a, b) => a - b);
  return ends.slice(1).map((end, n) => [ends[n], end]);
}

/** A variant's states of its layers before a step, with c scaled as its forget gates are. */
export const scaled = (states, { model, forget = {} }) => states?.map(({ h, c }, n) => {
  const factor = forget[model.names[n]] ?? 1;
  return { h, c: c && factor !== 1 ? c.map((value) => value * factor) : c };
});

/** Append steps x (a Tensor of T steps) to a record of a variant. */
export function extend(record, variant, x) {
  const features = x.shape.slice(1), size = features.reduce((a, b) => a * b, 1), { model, forget = {}, special } = variant;
  const first = record.length;
  for (const [from, to] of parts(first, first + x.shape[0], variant)) {
    const block = new Tensor(x.data.slice((from - first) * size, (to - first) * size), [to - from, ...features]);
    const trace = (special?.get(from) ?? model).trace(block, { state: scaled(record.states.at(-1), variant) });
    for (const layer of record.layers) {
      const factor = forget[layer.name] ?? 1;
      for (const [name, rows] of Object.entries(layer.arrays)) {
        const { data } = trace.layers[layer.name][name];
        rows.push(name === "f" && factor !== 1 ? data.map((value) => value * factor) : data);
      }
    }
    record.outputs.push(trace.y.data);
    for (let step = from; step < to - 1; step++) record.states.push(null);
    record.states.push(trace.state);
  }
}

/** The record of a run that Python saved. */
export function savedRecord({ layers, outputs }) {
  const rows = ({ data, width }) => new Rows(width, floats(data));
  return new Record(
    layers.map(({ arrays, ...layer }) => ({
      ...layer,
      reverse: layer.name.endsWith("_reverse"),
      arrays: Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, rows(array)])),
    })),
    rows(outputs),
  );
}

export function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

export function floats(base64) {
  return new Float32Array(bytes(base64).buffer);
}

export function softmax(logits) {
  const peak = Math.max(...logits), powers = Array.from(logits, (value) => Math.exp(value - peak));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** The unit whose hidden state varies most over time. */
export function liveliest({ arrays: { h } }) {
  const variances = Array.from({ length: h.width }, (_, unit) => {
    const values = Array.from({ length: h.length }, (_, t) => h.at(t, unit)), mean = values.reduce((a, b) => a + b, 0) / h.length;
    return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  });
  return variances.indexOf(Math.max(...variances));
}

/** The values of one unit at one step; `_prev` are those of the step that the layer read before. */
export function valuesOf(layer, t, unit) {
  const values = {};
  for (const [name, rows] of Object.entries(layer.arrays)) {
    if (unit >= rows.width) continue;
    values[name] = rows.at(t, unit);
    values[`${name}_prev`] = rows.at(layer.reverse ? t + 1 : t - 1, unit);
  }
  return values;
}

const MOST_ROUNDS = 500, CONVERGED = 1e-9; // limits of the power iteration for a principal component
const MOST_STEPS = 500; // on which units are compared, evenly spread over a longer run

/** The units in the order of their angle in the plane of the first two principal components, as in Python. */
export function bySimilarity(rows, H) {
  const every = Math.ceil(rows.length / MOST_STEPS), T = Math.floor(rows.length / every);
  if (T < 3 || H < 3) return Array.from({ length: H }, (_, unit) => unit);
  const columns = Array.from({ length: H }, (_, unit) => {
    const column = Float64Array.from({ length: T }, (_, t) => rows.at(t * every, unit));
    const mean = column.reduce((a, b) => a + b, 0) / T;
    return normalized(column.map((value) => value - mean));
  });
  const component = (others) => {
    let v = normalized(Float64Array.from({ length: T }, (_, t) => Math.sin(1 + 1.7 * t))); // not orthogonal to the result
    for (let round = 0, change = 1; round < MOST_ROUNDS && change > CONVERGED; round++) {
      for (const other of others) remove(v, other);
      const next = new Float64Array(T);
      for (const column of columns) {
        const weight = dot(column, v);
        for (let t = 0; t < T; t++) next[t] += weight * column[t];
      }
      const before = v;
      v = normalized(next);
      change = 1 - dot(v, before);
    }
    return v;
  };
  const first = component([]), second = component([first]);
  const angle = columns.map((column) => Math.atan2(dot(column, second), dot(column, first)));
  return Array.from({ length: H }, (_, unit) => unit).sort((a, b) => angle[a] - angle[b]);
}

const dot = (a, b) => {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return sum;
};
const normalized = (v) => {
  const norm = Math.sqrt(dot(v, v)) || 1;
  return v.map((value) => value / norm);
};
const remove = (v, other) => {
  const weight = dot(v, other);
  for (let n = 0; n < v.length; n++) v[n] -= weight * other[n];
};
