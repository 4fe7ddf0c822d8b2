// The task that the page trains: a latch. Of two pulses, the answer is the second, `delay` steps after it.
import { Tensor } from "./onward.js";
import { generator } from "./generator.js";

const HIDDEN = 16, LEAD = 5, ROWS = 32, BATCHES = 20; // LEAD: the step of the second pulse; the first is before it
const GATES = { RNN: 1, LSTM: 4, GRU: 3 };
const OPTIONS = {
  RNN: { nonlinearity: "tanh" }, LSTM: { proj_size: 0, activations: ["sigmoid", "tanh", "tanh"] }, GRU: { reset_after: true, activations: ["sigmoid", "tanh"] },
};

export const KINDS = Object.keys(GATES);
export const SETTINGS = { lr: 1e-2, maxNorm: 1 };

/** Sequences x (T, ROWS, 1) with two pulses of at least 0.5, and the second one as the answer y (ROWS). */
function batch(random, delay) {
  const drawn = (count) => Array.from({ length: count }, random);
  const signs = drawn(2 * ROWS).map((value) => (value < 0.5 ? -1 : 1)), heights = drawn(2 * ROWS).map((value, n) => (signs[n] * (1 + value)) / 2);
  const data = new Float32Array((delay + LEAD + 1) * ROWS);
  drawn(ROWS).forEach((value, row) => (data[Math.floor(LEAD * value) * ROWS + row] = heights[row]));
  data.set(heights.slice(ROWS), LEAD * ROWS);
  return { x: new Tensor(data, [delay + LEAD + 1, ROWS, 1]), y: data.slice(LEAD * ROWS, (LEAD + 1) * ROWS) };
}

/** The batches of an epoch. */
export function batches(delay) {
  const random = generator(0);
  return Array.from({ length: BATCHES }, () => batch(random, delay));
}

/** A sequence with pulses as in training: 0.9 in the first step, and -0.6. */
export function example(delay) {
  const x = new Float32Array(delay + LEAD + 1);
  x[0] = 0.9;
  x[LEAD] = -0.6;
  return x;
}

/** The description and the initial weights of a model; `answersAtEnd`: it answers once, after the last step. */
export function untrained(kind, forgetBias, answersAtEnd = true) {
  const rows = GATES[kind] * HIDDEN, bound = HIDDEN ** -0.5;
  const layer = { type: kind, input_size: 1, hidden_size: HIDDEN, num_layers: 1, bias: true, bidirectional: false, dtype: "float32", ...OPTIONS[kind] };
  const linear = { type: "Linear", in_features: HIDDEN, out_features: 1, bias: true, dtype: "float32" };
  const shapes = [{ weight_ih_l0: [rows, 1], weight_hh_l0: [rows, HIDDEN], bias_ih_l0: [rows], bias_hh_l0: [rows] }, { weight: [1, HIDDEN], bias: [1] }];
  const last = answersAtEnd ? 2 : 1, weights = {};
  shapes.forEach((each, n) => {
    const random = generator(n + 1);
    for (const [name, shape] of Object.entries(each)) {
      const count = shape.reduce((a, b) => a * b, 1);
      weights[`${n ? last : 0}.${name}`] = new Tensor(Float32Array.from({ length: count }, () => -bound + 2 * bound * random()), shape);
    }
  });
  if (kind !== "RNN") { // the gates that keep the state: f of the LSTM, z of the GRU
    const { data } = weights["0.bias_ih_l0"];
    for (let unit = HIDDEN; unit < 2 * HIDDEN; unit++) data[unit] += forgetBias;
  }
  return { description: { type: "Sequential", layers: [layer, ...(answersAtEnd ? [{ type: "Last" }] : []), linear] }, weights };
}

/** The program in Python that computes the same numbers. */
export const python = (delay, forgetBias, epochs) => `import numpy as np
import onward
from onward import train

delay, forget_bias, epochs = ${delay}, ${forgetBias}, ${epochs}

def batch(rng):
    """Two pulses; the answer is the second one, after a delay."""
    signs = np.where(rng.random((2, ${ROWS})) < 0.5, -1, 1)
    heights = signs * (1 + rng.random((2, ${ROWS}))) / 2
    first = (${LEAD} * rng.random(${ROWS})).astype(int)
    x = np.zeros((delay + ${LEAD + 1}, ${ROWS}, 1), np.float32)
    x[first, np.arange(${ROWS}), 0], x[${LEAD}, :, 0] = heights
    return x, x[${LEAD}]

rng = np.random.default_rng(0)
batches = [batch(rng) for _ in range(${BATCHES})]
models, histories = {}, {}
for kind in (onward.RNN, onward.LSTM, onward.GRU):
    model = onward.Sequential(kind(1, ${HIDDEN}, rng=1), onward.Last(), onward.Linear(${HIDDEN}, 1, rng=2))
    if kind is not onward.RNN:  # the gates that keep the state: f of the LSTM, z of the GRU
        bias = model.state_dict()["0.bias_ih_l0"]
        bias[${HIDDEN}:${2 * HIDDEN}] += forget_bias
        model.load_state_dict({"0.bias_ih_l0": bias}, strict=False)
    models[kind.__name__] = model
    histories[kind.__name__] = train.fit(
        model, batches, loss="mse", optimizer=train.Adam(${SETTINGS.lr}), max_norm=${SETTINGS.maxNorm}, epochs=epochs
    )
`;
