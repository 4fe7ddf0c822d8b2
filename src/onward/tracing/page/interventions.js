// Interventions: the model runs again with each input erased, or with each unit frozen, as rows of a batch.
import { Tensor } from "./onward.js";
import { parts, scaled } from "./record.js";

const ERASED = 16; // inputs that are erased in one batch
const FROZEN = 64; // units that are frozen in one batch
const SLICE = 12;  // milliseconds of work between two pauses

/** Let the page draw and listen after some work. */
export function pauses() {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < SLICE) return;
    await new Promise((resolve) => setTimeout(resolve));
    since = performance.now();
  };
}

const between = ({ data, shape: [T, ...rest] }, from, to) => {
  const size = data.length / T;
  return new Tensor(data.slice(from * size, to * size), [to - from, ...rest]);
};

/** An array B times, one copy after the other. */
export function repeated(array, B) {
  const copies = new array.constructor(array.length * B);
  for (let b = 0; b < B; b++) copies.set(array, b * array.length);
  return copies;
}

const repeatedStates = (states, B) => states?.map(({ h, c }) => ({ h: repeated(h, B), c: c && repeated(c, B) }));

/** One layer on x (T, B, ...): its output and, for a recurrent layer, its state. */
const runLayer = (layer, x, state) => ("gates" in layer ? layer.run(x, state ?? {}) : { y: layer.run(x), state: null });

/** The output and the states after layers read x (T, B, ...) as steps `first`, ... of a variant. */
function advance(layersOf, x, first, states, variant) {
  let y = null, before = states;
  for (const [from, to] of parts(first, first + x.shape[0], variant)) {
    before = scaled(before, variant);
    const after = [];
    y = between(x, from - first, to - first);
    for (const layer of layersOf(variant.special?.get(from) ?? variant.model)) {
      const result = runLayer(layer, y, before?.[after.length]);
      if (result.state) after.push(result.state);
      y = result.y;
    }
    before = after;
  }
  return { y, states: before };
}

/**
 * Erase each input up to step t in turn: replace it, embedded if it is a character, by the mean of all inputs. found(n, row)
 * gets the outputs after step t without input n, from the last input to the first, until current() is false.
 */
export async function erase(variant, x, t, found, current) {
  const { layers } = variant.model, embedded = layers[0].table ? 1 : 0, pause = pauses();
  const [T, ...features] = x.shape, steps = new Tensor(x.data, [T, 1, ...features]);
  const inputs = embedded ? layers[0].run(steps) : steps, I = inputs.data.length / T, rest = (model) => model.layers.slice(embedded);
  const mean = Float32Array.from({ length: I }, (_, i) => {
    let sum = 0;
    for (let n = 0; n < T; n++) sum += inputs.data[n * I + i];
    return sum / T;
  });
  const ends = [], starts = [];
  for (let end = t + 1; end > 0; end -= ERASED) ends.unshift(end);
  for (let n = 0, states = null; n < ends.length; n++) {
    starts.push(states);
    states = advance(rest, between(inputs, ends[n - 1] ?? 0, ends[n]), ends[n - 1] ?? 0, states, variant).states;
  }
  for (let n = ends.length - 1; n >= 0; n--) {
    const first = ends[n - 1] ?? 0, B = ends[n] - first, rows = new Float32Array((t + 1 - first) * B * I);
    for (let s = first; s <= t; s++) rows.set(repeated(inputs.data.subarray(s * I, (s + 1) * I), B), (s - first) * B * I);
    for (let b = 0; b < B; b++) rows.set(mean, (b * B + b) * I);
    const { y } = advance(rest, new Tensor(rows, [t + 1 - first, B, I]), first, repeatedStates(starts[n], B), variant);
    const O = y.shape.at(-1), from = y.data.length - B * O;
    for (let b = B - 1; b >= 0; b--) found(first + b, y.data.subarray(from + b * O, from + (b + 1) * O));
    await pause();
    if (!current()) return;
  }
}

/**
 * Freeze each unit in turn: hold its hidden state at its mean. `samples` are inputs {x}; measure(sample, outputs (T, O)) is
 * the error of a run. Returns the mean error of the intact model and, by layer, those without each unit; null once
 * current() is false.
 */
export async function freeze(model, samples, measure, current) {
  const pause = pauses(), runs = samples.map((sample) => intactRun(model, sample, measure));
  const average = (values) => values.reduce((a, b) => a + b, 0) / values.length, layers = {};
  for (const [n, layer] of model.layers.entries()) {
    if (!("gates" in layer)) continue;
    const mean = meanOf(runs.map(({ inputs }) => inputs[n + 1]), layer.P), errors = new Float64Array(layer.P);
    for (let first = 0; first < layer.P; first += FROZEN) {
      const units = Array.from({ length: Math.min(FROZEN, layer.P - first) }, (_, b) => first + b);
      for (const { sample, inputs } of runs) {
        const found = await frozenErrors(model.layers.slice(n), inputs[n], units, mean, (outputs) => measure(sample, outputs), pause);
        if (!current()) return null;
        units.forEach((unit, b) => (errors[unit] += found[b] / runs.length));
      }
    }
    layers[layer.prefix + layer.suffixes[0].slice(1)] = errors;
  }
  return { intact: average(runs.map(({ error }) => error)), layers };
}

/** What each layer reads in a run over a sample, the output last, and its error. */
function intactRun(model, sample, measure) {
  const [T, ...features] = sample.x.shape, inputs = [new Tensor(sample.x.data, [T, 1, ...features])];
  for (const layer of model.layers) inputs.push(runLayer(layer, inputs.at(-1)).y);
  sample.intact = inputs.at(-1).data;
  return { sample, inputs, error: measure(sample, sample.intact) };
}

/** The mean of each unit over the steps of several runs (T, 1, H). */
function meanOf(runs, H) {
  const sums = new Float64Array(H), steps = runs.reduce((sum, { data }) => sum + data.length / H, 0);
  for (const { data } of runs) data.forEach((value, n) => (sums[n % H] += value));
  return Float32Array.from(sums, (sum) => sum / steps);
}

/** The errors of the layers on x (T, 1, I), where row b freezes units[b] of the first layer. */
async function frozenErrors(layers, x, units, mean, error, pause) {
  const B = units.length, T = x.shape[0], size = x.data.length / T;
  let states = [], outputs = null;
  for (let t = 0; t < T; t++) {
    const after = [];
    let y = new Tensor(repeated(x.data.subarray(t * size, (t + 1) * size), B), [1, B, size]);
    for (const layer of layers) {
      const result = runLayer(layer, y, states[after.length]);
      if (layer === layers[0]) units.forEach((unit, b) => (result.y.data[b * layer.P + unit] = result.state.h[b * layer.P + unit] = mean[unit]));
      if (result.state) after.push(result.state);
      y = result.y;
    }
    states = after;
    const O = y.data.length / B, everyStep = y.shape.length === 3; // else only the outputs after the last step count
    outputs ??= Array.from({ length: B }, () => new Float32Array((everyStep ? T : 1) * O));
    outputs.forEach((row, b) => row.set(y.data.subarray(b * O, (b + 1) * O), everyStep ? t * O : 0));
    await pause();
  }
  return outputs.map(error);
}
