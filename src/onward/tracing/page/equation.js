// The equations of the chosen unit and step: the lines of onward/textbook.py, and the same lines with their numbers.
import { $, make, note, number } from "./dom.js";
import { valuesOf } from "./record.js";
import { inputOf, state } from "./state.js";

const TOLERANCE = 1e-4; // the numbers of the displayed equation are rounded to float32
const CAUSE = "a “what if” or an option of this layer changes this line";
const LARGEST = 4;      // terms of a sum that are listed

// The two candidates of a GRU.
const RESET_AFTER = 'n = tanh(Wnx @ xt + bn + r * (Wna @ a_prev + bnr))';
const RESET_BEFORE = "n = tanh(Wnx @ xt + bn + Wna @ (r * a_prev))";
const EITHER = "One of these two lines: the record does not tell whether the layer resets before or after the product.";

const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const gate = (line, name) => ({
  line, name, sum: name,
  filled: (v) => `σ(${number(v[`${name}_preactivation`])})`,
  value: (v) => sigmoid(v[`${name}_preactivation`]),
});
const tanh = (line, name, sum = name) => ({
  line, name, sum,
  filled: (v) => `tanh(${number(v[`${name}_preactivation`])})`,
  value: (v) => Math.tanh(v[`${name}_preactivation`]),
});

// sum: the gate whose argument is split into its parts; value: the line computed from the numbers, to check them.
const CELLS = {
  LSTM: () => [
    gate("f = sigmoid(Wf @ ax + bf)", "f"),
    gate("i = sigmoid(Wi @ ax + bi)", "i"),
    gate("o = sigmoid(Wo @ ax + bo)", "o"),
    tanh("g = tanh(Wc @ ax + bc)", "g"),
    {
      line: "c_next = f * c_prev + i * g", name: "c",
      filled: (v) => `${number(v.f)} × ${number(v.c_prev)} + ${number(v.i)} × ${number(v.g)}`,
      value: (v) => v.f * v.c_prev + v.i * v.g,
    },
    {
      line: "a_next = o * tanh(c_next)", name: "h",
      filled: (v) => `${number(v.o)} × tanh(${number(v.c)})`,
      value: (v) => v.o * Math.tanh(v.c),
    },
  ],
  // Without the layer itself, both candidates are shown.
  GRU: ({ source }) => [
    gate("r = sigmoid(Wr @ ax + br)", "r"),
    gate("z = sigmoid(Wz @ ax + bz)", "z"),
    ...(source?.config.reset_after !== false ? [tanh(RESET_AFTER, "n", null)] : []),
    ...(source?.config.reset_after !== true ? [{ ...tanh(RESET_BEFORE, "n", null), remark: source ? null : EITHER }] : []),
    {
      line: "a_next = (1 - z) * n + z * a_prev", name: "h",
      filled: (v) => `(1 − ${number(v.z)}) × ${number(v.n)} + ${number(v.z)} × ${number(v.h_prev)}`,
      value: (v) => (1 - v.z) * v.n + v.z * v.h_prev,
    },
  ],
  RNN: () => [tanh("a_next = tanh(Wax @ xt + Waa @ a_prev + ba)", "h")],
};

export function show() {
  const layer = state.record.layer(state.layer), v = valuesOf(layer, state.step, state.unit), partsOf = splitter(layer);
  const lines = CELLS[layer.type]?.(layer);
  if (!lines) return $("lines").replaceChildren(note(`The equations of a ${layer.type} are in the documentation of its class in Python.`));
  $("lines").replaceChildren(...lines.map(({ line, name, sum, filled, value, remark }) => {
    const parts = remark ?? (sum && partsOf?.(sum)), differs = Math.abs(value(v) - v[name]) > TOLERANCE;
    return make("div", { class: "eq" },
      make("code", {}, line),
      make("span", { class: "numbers mono" }, `${filled(v)} = ${number(differs ? value(v) : v[name], 6)}`),
      differs ? make("span", { class: "parts differs" }, `Here it is ${number(v[name], 6)}: ${CAUSE}.`) : null,
      parts ? make("span", { class: "parts" }, parts) : null);
  }));
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

/** A function from a gate to the parts of its argument in words; null where the page does not have them. */
function splitter(layer) {
  const { source } = layer, { step, unit } = state, x = inputOfLayer(source, step);
  if (!source?.plain || !x || state.clamps.length) return null;
  const { W, R, b_W, b_R } = source.widened()[0];
  const h = step > 0 ? layer.arrays.h.row(step - 1) : new Float32Array(source.P);
  return (gate) => {
    const row = source.gates.indexOf(gate) * source.H + unit;
    const products = (values, { data }, name) =>
      Array.from(values, (value, k) => ({ name: `${name}${k}`, value: value * data[row * values.length + k] }));
    const input = products(x, W, "x"), past = products(h, R, "h");
    const total = (terms) => signed(terms.reduce((sum, { value }) => sum + value, 0));
    const largest = [...input, ...past].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, LARGEST);
    const bias = (b_W?.[row] ?? 0) + (b_R?.[row] ?? 0);
    return `The argument: ${total(input)} from the input x, ${total(past)} from h of the step before, ${signed(bias)} from the biases. ` +
      `Largest terms: ${largest.map(({ name, value }) => `${name} ${signed(value)}`).join(", ")}.` +
      (source.precision === "int8" ? " They add up nearly: the model rounds x and h to 8 bits." : "");
  };
}

/** What a recurrent layer reads at a step; null if a layer without a record computes it. */
function inputOfLayer(source, t) {
  if (!source) return null;
  const { layers } = state.model, before = layers[layers.indexOf(source) - 1];
  const record = state.record.layers.find((layer) => layer.source === before);
  if (record) return record.arrays.h.row(t);
  const { data, shape } = inputOf(true), I = data.length / shape[0];
  if (!before) return data.subarray(t * I, (t + 1) * I);
  return before.table?.subarray(data[t] * before.features, (data[t] + 1) * before.features) ?? null;
}
