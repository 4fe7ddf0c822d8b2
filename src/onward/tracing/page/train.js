// Training as by onward.train.fit in Python, with the same bits: mean squared error, clipping by norm, and Adam.
//
// Weights are float32, and each operation on them rounds once, as those of NumPy do. Numbers of a step are float64.
import { OnwardError } from "./onward.js";

const float = Math.fround;

/** The sum of value(n) for n < count, in the order of the core. */
function sum(count, value) {
  const sums = new Float64Array(16);
  for (let n = 0; n < count; n++) sums[n % 16] += value(n);
  for (let half = 8; half; half >>= 1) for (let k = 0; k < half; k++) sums[k] += sums[k + half];
  return sums[0];
}

/** The mean squared error of outputs, and its gradient. */
export function mse(y, targets) {
  const errors = y.map((value, n) => value - targets[n]), squares = errors.map((error) => error * error);
  return { loss: sum(y.length, (n) => squares[n]) / y.length, dy: errors.map((error) => (2 * error) / y.length) };
}

/** The exponent of a positive number: it is from 2 ** (exponent - 1) up to 2 ** exponent. */
function exponentOf(number) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, number);
  return ((view.getUint16(0) >> 4) & 0x7ff) - 1022;
}

/** The L2 norm of all gradients as one vector. */
function globalNorm(gradients) {
  const largest = gradients.reduce((most, g) => g.reduce((a, b) => Math.max(a, Math.abs(b)), most), 0);
  if (!(largest > 0 && largest < Infinity)) return largest;
  const scale = 2 ** -exponentOf(largest);
  const squares = gradients.map((g) => sum(g.length, (n) => (scale * g[n]) * (scale * g[n])));
  return Math.sqrt(sum(squares.length, (n) => squares[n])) / scale;
}

/** Gradients scaled to a norm of at most `maxNorm`. */
function clipNorm(gradients, maxNorm) {
  const scale = Math.min(1, maxNorm / (globalNorm(gradients) + 1e-6));
  return scale < 1 ? gradients.map((gradient) => gradient.map((value) => scale * value)) : gradients;
}

/** base ** exponent by repeated squaring, which rounds in the same way everywhere. */
function power(base, exponent) {
  let result = 1;
  for (; exponent; exponent >>= 1, base *= base) if (exponent & 1) result *= base;
  return result;
}

/** A function that makes a step of Adam (Kingma and Ba 2015): it returns new weights. */
function adam(lr, [b1, b2] = [0.9, 0.999], eps = 1e-8) {
  const [r1, f2, r2, e] = [1 - b1, b2, 1 - b2, eps].map(float);
  let means = null, squares = null, step = 0;
  return (weights, gradients) => {
    step += 1;
    means ??= weights.map((w) => new Float32Array(w.length));
    squares ??= weights.map((w) => new Float32Array(w.length));
    const correction = float(Math.sqrt(1 - power(b2, step))), rate = float(lr / (1 - power(b1, step)));
    return weights.map((w, k) => w.map((weight, n) => {
      const g = gradients[k][n], mean = means[k][n];
      const m = (means[k][n] = float(mean + float(r1 * float(g - mean))));
      const v = (squares[k][n] = float(float(f2 * squares[k][n]) + float(r2 * float(g * g))));
      const spread = float(float(float(Math.sqrt(v)) / correction) + e);
      return weight - float(rate * float(m / spread));
    }));
  };
}

/** Train a model in place on batches {x, y}, as train.fit does with a list of batches: each epoch yields its mean loss. */
export function* fit(model, batches, { lr, maxNorm }) {
  const optimize = adam(lr);
  for (let epoch = 1; ; epoch++) {
    let total = 0, count = 0;
    for (const { x, y: targets } of batches) {
      const before = model.weights, names = Object.keys(before);
      let loss = null;
      const { y, weights: gradients } = model.backward(x, (y) => {
        const found = mse(y.data, targets);
        loss = found.loss;
        return found.dy;
      });
      if (!Number.isFinite(loss)) throw new OnwardError(`the loss is ${loss} in epoch ${epoch}: lower the learning rate`);
      const updated = optimize(names.map((name) => before[name]), clipNorm(names.map((name) => gradients[name]), maxNorm));
      model.update(Object.fromEntries(names.map((name, n) => [name, updated[n]])));
      const rows = y.data.length / y.shape.at(-1);
      total += loss * rows;
      count += rows;
    }
    yield total / count;
  }
}
