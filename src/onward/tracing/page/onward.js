// Onward in JavaScript: opens the models that Onward saves, and calls, streams and traces them in WebAssembly.
//
// The core is compiled from the C++ sources of the Python package, and its results have the same bits. Axis letters:
// T time, B batch, I input, H hidden units, P projected units, D directions. onward.d.ts documents the public names.

export class OnwardError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}
export class ArgumentError extends OnwardError {}
export class SignatureError extends ArgumentError {}
export class ShapeError extends ArgumentError {}
export class DtypeError extends ArgumentError {}
export class FileError extends OnwardError {}

/** Numbers in row-major order, and the length of each axis. */
export class Tensor {
  constructor(data, shape) {
    if (size(shape) !== data.length)
      throw new ShapeError(`an array of ${data.length} numbers cannot have shape (${shape.join(", ")})`);
    this.data = data;
    this.shape = shape;
  }
}

const size = (shape) => shape.reduce((a, b) => a * b, 1);
const last = (shape) => shape[shape.length - 1];
const shown = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

// ---- The core ------------------------------------------------------------------------------------------------------

let core = null; // for layers, onward.wasm
let graphCore = null; // for whole models, onward-graph.wasm or onward-graph-relaxed.wasm
const started = {};

/** Compile a core, once, from its bytes or, by default, from a file beside this one. */
function start(name, wasm) {
  started[name] ??= compiled(name, wasm).catch((error) => {
    delete started[name];
    throw error;
  });
  return started[name];
}

// A module whose function f(a, c) is a a + c by the multiply-add of relaxed SIMD.
const MADD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 125, 125, 1, 125, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 22, 1, 20, 0, 32, 0, 253, 19, 32, 0,
  253, 19, 32, 1, 253, 19, 253, 133, 2, 253, 31, 0, 11);

/** Whether relaxed SIMD rounds a multiply-add once, as it does where the processor has that instruction. */
function roundsOnce() {
  if (!WebAssembly.validate(MADD)) return false;
  const { f } = new WebAssembly.Instance(new WebAssembly.Module(MADD)).exports;
  return f(1 + 2 ** -12, -1 - 2 ** -11) === 2 ** -24;
}

/** The core for whole models: the fast one where it gives the same bits, and its file is there. */
async function startGraph(wasm) {
  if (!wasm && roundsOnce()) {
    try {
      return await start("onward-graph-relaxed.wasm");
    } catch {
      // the other one computes the same
    }
  }
  return start("onward-graph.wasm", wasm);
}

async function compiled(name, wasm) {
  const bytes = wasm ?? (await read(new URL(name, import.meta.url)));
  let memory;
  const imports = {
    environ_sizes_get: (count, length) => {
      new DataView(memory.buffer).setUint32(count, 0, true);
      new DataView(memory.buffer).setUint32(length, 0, true);
      return 0;
    },
    proc_exit: (code) => {
      throw new OnwardError(`the core stopped with code ${code}`);
    },
  };
  const none = new Proxy(imports, { get: (known, name) => known[name] ?? (() => 0) });
  const module = await WebAssembly.compile(bytes);
  const needed = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) (needed[from] ??= {})[name] = none[name];
  const { exports } = await WebAssembly.instantiate(module, needed);
  memory = exports.memory;
  exports._initialize?.();
  return exports;
}

async function read(url) {
  if (url.protocol === "file:" && typeof process !== "undefined") {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(url));  // the slice of Node's own Buffer is not a copy
  }
  const response = await fetch(url);
  if (!response.ok) throw new FileError(`${url} cannot be read: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Call use(memory), and free all memory of a core that it allocated, even if it throws. */
function withMemory(use, from = core) {
  const pointers = [];
  const allocate = (bytes) => {
    const pointer = from.malloc(Math.max(bytes, 1));
    if (!pointer) throw new OnwardError(`out of memory: the core could not allocate ${bytes} bytes`);
    pointers.push(pointer);
    return pointer;
  };
  const memory = {
    floats: (n) => allocate(4 * n),
    put: (array) => {
      if (!array) return 0;
      const pointer = allocate(array.byteLength);
      new Uint8Array(from.memory.buffer, pointer).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
      return pointer;
    },
    get: (pointer, n) => new Float32Array(from.memory.buffer, pointer, n).slice(),
  };
  try {
    return use(memory);
  } finally {
    for (const pointer of pointers) from.free(pointer);
  }
}

const unused = new FinalizationRegistry(({ from, free, pointer }) => from[free](pointer));

/** An object of a core, freed when `owner` is garbage. */
function owned(owner, free, pointer, from = core) {
  unused.register(owner, { from, free, pointer }, owner);
  return pointer;
}

/** Free an object of a core now, if there is one. */
function released(owner, free, pointer, from = core) {
  if (!pointer) return;
  unused.unregister(owner);
  from[free](pointer);
}

// ---- Layers --------------------------------------------------------------------------------------------------------

// The order and the defaults of the functions in cpp/kernels/kernels.h and onward.Activation.
const CORE_FUNCTIONS = [
  "affine", "elu", "exponential", "gelu", "hard_sigmoid", "hard_swish", "leaky_relu", "mish", "relu", "relu6",
  "scaled_tanh", "sigmoid", "silu", "softplus", "softsign", "tanh", "thresholded_relu",
];
const DEFAULTS = {
  elu: [1, 1], hard_sigmoid: [1 / 6, 0.5], hard_swish: [1 / 6, 0.5], leaky_relu: [0.01],
  thresholded_relu: [1],
  hard_sigmoid_keras2: [0.2, 0.5, "hard_sigmoid"], linear: [1, 0, "affine"],
  selu: [1.6732632423543772, 1.0507009873554805, "elu"], swish: [0, 0, "silu"],
};

/** The core's number for a function, alpha and beta, from a name or [name, alpha, beta]. */
function activation(spec) {
  const [name, ...parameters] = [].concat(spec);
  const [alpha = 0, beta = 0, known = name] = DEFAULTS[name] ?? [];
  const given = parameters.filter((parameter) => parameter !== null);
  return [CORE_FUNCTIONS.indexOf(known), given[0] ?? alpha, given[1] ?? beta];
}

const isFunction = (spec) => typeof spec === "string" || (typeof spec[0] === "string" && spec.slice(1).every(Number.isFinite));

/** The functions of a cell in each direction, from those of both or a pair of them. */
function functionsOf({ activations, nonlinearity }) {
  if (!activations) return (isFunction(nonlinearity) ? [nonlinearity, nonlinearity] : nonlinearity).map((spec) => [spec]);
  return activations.every(isFunction) ? [activations, activations] : activations;
}

const GATES = { RNN: ["h"], LSTM: ["i", "f", "g", "o"], GRU: ["r", "z", "n"] };
const CELLS = ["rnn", "rnn_relu", "lstm", "gru", "gru_reset_before"];
const FORMATS = { "": 0, float16: 1, int8: 2 };
const SATURATED = 1e4; // the sigmoid of it is exactly 1

class Embedding {
  constructor({ num_embeddings, embedding_dim, precision = "" }, weights) {
    const table = widened(matrixOf("weight", precision, weights, num_embeddings, embedding_dim), embedding_dim, precision).data;
    Object.assign(this, { rows: num_embeddings, features: embedding_dim, table });
  }
  run(x) {
    const y = new Float32Array(x.data.length * this.features);
    x.data.forEach((given, n) => {
      const index = Number(given);
      if (!Number.isInteger(index) || index < 0 || index >= this.rows)
        throw new ArgumentError(
          `x contains ${index}, but this Embedding has num_embeddings=${this.rows}: pass integers from 0 to ${this.rows - 1}`,
        );
      y.set(this.table.subarray(index * this.features, (index + 1) * this.features), n * this.features);
    });
    return new Tensor(y, [...x.shape, this.features]);
  }
}

class Linear {
  constructor({ in_features, out_features, bias, precision = "" }, weights) {
    Object.assign(this, { I: in_features, O: out_features, precision });
    this.matrix = matrixOf("weight", precision, weights, this.O, this.I);
    this.bias = bias ? weights("bias", Float32Array, [this.O]) : null;
    this.pack();
  }
  get weights() {
    return { weight: this.matrix.data, ...(this.bias && { bias: this.bias }) };
  }
  pack() {
    for (const owner of [this.forward, this.transposed]) released(owner, "dense_free", owner?.pointer);
    this.forward = this.packed(this.precision, this.matrix, this.bias, this.O, this.I);
    this.transposed = null;
  }
  packed(precision, { data, scale }, bias, O, I) {
    const owner = { O, I };
    const pack = (m) => core.dense_new(FORMATS[precision], m.put(data), m.put(scale), m.put(bias), O, I);
    owner.pointer = owned(owner, "dense_free", withMemory(pack));
    return owner;
  }
  apply({ pointer, O, I }, x) {
    const rows = x.data.length / I;
    const y = withMemory((m) => {
      const to = m.floats(rows * O);
      core.dense_forward(pointer, m.put(x.data), rows, to);
      return m.get(to, rows * O);
    });
    return new Tensor(y, [...x.shape.slice(0, -1), O]);
  }
  run(x) {
    if (last(x.shape) !== this.I)
      throw new ShapeError(`x has shape ${shown(x.shape)}; the last axis must have in_features=${this.I}`);
    return this.apply(this.forward, x);
  }
  /** dx and, with x, the gradients of the weights. */
  backward(dy, x = null) {
    if (!this.transposed) {
      const { data } = widened(this.matrix, this.I, this.precision), transposed = new Float32Array(data.length);
      for (let o = 0; o < this.O; o++) for (let i = 0; i < this.I; i++) transposed[i * this.O + o] = data[o * this.I + i];
      this.transposed = this.packed("", { data: transposed, scale: null }, null, this.I, this.O);
    }
    return { dx: this.apply(this.transposed, dy), weights: x && this.gradients(dy, x) };
  }
  gradients(dy, x) {
    return withMemory((m) => {
      const { O, I } = this, W = m.put(new Float32Array(O * I)), b = this.bias ? m.put(new Float32Array(O)) : 0;
      core.dense_gradients(m.put(dy.data), O, m.put(x.data), I, x.data.length / I, W, b);
      return { weight: m.get(W, O * I), ...(b && { bias: m.get(b, O) }) };
    });
  }
}

class Last {
  run({ data, shape: [T, B, F] }, lengths) {
    const y = new Float32Array(B * F);
    for (let b = 0; b < B; b++) {
      const t = (lengths ? lengths[b] : T) - 1;
      if (t >= 0) y.set(data.subarray((t * B + b) * F, (t * B + b + 1) * F), b * F);
    }
    return new Tensor(y, [B, F]);
  }
  backward(dy, x) {
    const dx = new Float32Array(x.data.length);
    dx.set(dy.data, x.data.length - dy.data.length);
    return { dx: new Tensor(dx, x.shape) };
  }
}

class Elementwise {
  /** `gradient` returns dx from dy, x, y and the number of features. */
  constructor(call, gradient) {
    Object.assign(this, { call, gradient });
  }
  run(x) {
    const y = withMemory((m) => {
      const to = m.floats(x.data.length);
      this.call(m.put(x.data), last(x.shape), x.data.length, to);
      return m.get(to, x.data.length);
    });
    return new Tensor(y, x.shape);
  }
  backward(dy, x) {
    return { dx: new Tensor(this.gradient(dy.data, x.data, this.run(x).data, last(x.shape)), x.shape) };
  }
}

function softmaxGradient(dy, x, y, n) {
  const dx = new Float32Array(y.length);
  for (let row = 0; row < y.length; row += n) {
    let mean = 0;
    for (let k = row; k < row + n; k++) mean += dy[k] * y[k];
    for (let k = row; k < row + n; k++) dx[k] = y[k] * (dy[k] - mean);
  }
  return dx;
}

const logistic = (x) => 1 / (1 + Math.exp(-x));
/** The derivatives of the core's functions at x, where they have the value y; at a kink, those of PyTorch. */
const DERIVATIVES = {
  affine: (x, y, alpha) => alpha,
  elu: (x, y, alpha, beta) => beta * (x > 0 ? 1 : alpha * Math.exp(x)),
  exponential: (x, y) => y,
  gelu: (x, y) => (x ? y / x : 0.5) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  hard_sigmoid: (x, y, alpha, beta) => (alpha * x + beta > 0 && alpha * x + beta < 1 ? alpha : 0),
  hard_swish: (x, y, alpha, beta) => {
    const sum = alpha * x + beta;
    return sum <= 0 ? 0 : sum >= 1 ? 1 : sum + alpha * x;
  },
  leaky_relu: (x, y, alpha) => (x > 0 ? 1 : alpha),
  mish: (x) => {
    const t = Math.tanh(Math.log1p(Math.exp(x)));
    return t + x * logistic(x) * (1 - t * t);
  },
  relu: (x) => x > 0,
  relu6: (x) => x > 0 && x < 6,
  scaled_tanh: (x, y, alpha, beta) => alpha * beta * (1 - Math.tanh(beta * x) ** 2),
  sigmoid: (x) => logistic(x) * logistic(-x),
  silu: (x) => logistic(x) * (1 + x * logistic(-x)),
  softplus: logistic,
  softsign: (x) => (1 + Math.abs(x)) ** -2,
  tanh: (x) => 1 - Math.tanh(x) ** 2,
  thresholded_relu: (x, y, alpha) => x > alpha,
};

/** One layer of an RNN, LSTM or GRU, in one or two directions, in the core for layers or for whole models. */
class Recurrent {
  constructor(type, config, number, weights, from = core) {
    const D = config.bidirectional ? 2 : 1, H = config.hidden_size, P = config.proj_size || H;
    Object.assign(this, { from, type, config, number, D, H, P, I: number ? D * P : config.input_size });
    this.gates = GATES[type];
    this.precision = config.precision ?? "";
    const directions = functionsOf(config), isEvery = (names) => directions.every((functions) => String(functions) === names);
    const relu = type === "RNN" && isEvery("relu") && !config.clip;
    this.plain = (isEvery({ RNN: "tanh", LSTM: "sigmoid,tanh,tanh", GRU: "sigmoid,tanh" }[type]) || relu) && !(config.clip || config.cell_clip || config.peephole || config.coupled);
    this.cell = CELLS.indexOf(
      type === "LSTM" ? "lstm" : type === "RNN" ? (relu ? "rnn_relu" : "rnn") : config.reset_after ? "gru" : "gru_reset_before",
    );
    if (!this.plain) {
      const numbers = directions.slice(0, D).flatMap((each) => {
        const of = (n) => activation(each[Math.min(n, each.length - 1)]);
        return [...of(0), ...of(1), ...of(2), config.clip || Infinity, config.cell_clip || Infinity, config.coupled ? 1 : 0];
      });
      this.options = new Float32Array(numbers);
    }
    this.suffixes = D === 1 ? [`_l${number}`] : [`_l${number}`, `_l${number}_reverse`];
    this.directions = this.suffixes.map((suffix) => {
      const rows = this.gates.length * H, matrix = (name, ...shape) => matrixOf(name + suffix, this.precision, weights, ...shape);
      const vector = (name, present, n) => (present ? weights(name + suffix, Float32Array, [n]) : null);
      return {
        W: matrix("weight_ih", rows, this.I), R: matrix("weight_hh", rows, P), W_hr: config.proj_size ? matrix("weight_hr", P, H) : null,
        b_W: vector("bias_ih", config.bias, rows), b_R: vector("bias_hh", config.bias, rows),
        peephole: vector("weight_peephole", config.peephole, 3 * H),
      };
    });
    this.pack();
  }

  pack() {
    const { from, options } = this;
    released(this, "stack_free", this.pointer, from);
    const pack = (m) => from.stack_new(this.cell, FORMATS[this.precision], this.D, this.I, this.H, this.P, this.put(m, this.directions), m.put(options));
    this.pointer = owned(this, "stack_free", withMemory(pack, from), from);
    this.recorded = from.stack_recorded(this.pointer);
  }

  put(m, directions) {
    const pointers = directions.flatMap(({ W, R, W_hr, b_W, b_R, peephole }) =>
      [W.data, R.data, W_hr?.data, W.scale, R.scale, W_hr?.scale, b_W, b_R, peephole].map((array) => m.put(array)));
    return m.put(new Uint32Array(pointers));
  }

  /** A copy with the bias of some gates replaced, so that their sigmoids are exactly 0 or 1. */
  clamped(changes) {
    if (!this.plain) throw new ArgumentError(`this ${this.type} has options, and only plain cells can be clamped`);
    const copy = Object.assign(Object.create(Recurrent.prototype), this, { pointer: 0, wide: null, float: null });
    copy.directions = this.directions.map((direction, d) => {
      const b_W = direction.b_W ? direction.b_W.slice() : new Float32Array(this.gates.length * this.H);
      for (const { gate, unit, value, suffix } of changes) {
        if (suffix !== this.suffixes[d]) continue;
        const first = this.gates.indexOf(gate) * this.H;
        const [from, to] = unit === undefined || unit === null ? [first, first + this.H] : [first + unit, first + unit + 1];
        b_W.fill(value ? SATURATED : -SATURATED, from, to);
      }
      return { ...direction, b_W };
    });
    copy.pack();
    return copy;
  }

  get weights() {
    return Object.fromEntries(this.directions.flatMap((direction, d) => WEIGHTS.map(([name, part]) => [name + this.suffixes[d], arrayOf(direction[part])]))
      .filter(([, array]) => array));
  }
  /** Matrices in float32, for gradients: those of float16, or of int8 times its scales. */
  widened() {
    const wide = (matrix, columns) => widened(matrix, columns, this.precision);
    this.wide ??= this.directions.map((each) => ({ ...each, W: wide(each.W, this.I), R: wide(each.R, this.P), W_hr: wide(each.W_hr, this.H) }));
    return this.wide;
  }

  /** The initial state of B sequences as it was given, or null for zeros. Throws ShapeError. */
  initial({ h, c } = {}, B) {
    const checked = (name, given, n) => {
      if (given && given.length !== n) throw new ShapeError(`${name} of the state of this ${this.type} has ${given.length} numbers; expected ${n}`);
      return given && floats(given);
    };
    return { h: checked("h", h, this.D * B * this.P), c: checked("c", c, this.D * B * this.H) };
  }

  /** y and the final state; with `record`, also the recorded gates and sums (D, T, B, .., H). */
  run(x, state, lengths, record) {
    const [T, B, features] = x.shape, { h, c } = this.initial(state, B);
    if (features !== this.I)
      throw new ShapeError(`x has ${features} features in its last axis (shape ${shown(x.shape)}), but this ${this.type} takes input_size=${this.I}`);
    const { D, H, P, recorded } = this, G = this.gates.length, lstm = this.type === "LSTM";
    return withMemory((m) => {
      const y = m.floats(T * B * D * P), h_n = m.floats(D * B * P), c_n = lstm ? m.floats(D * B * H) : 0;
      const gates = record ? m.put(new Float32Array(D * T * B * recorded * H)) : 0;
      const sums = record ? m.put(new Float32Array(D * T * B * G * H)) : 0;
      this.from.stack_forward(this.pointer, T, B, m.put(x.data), y, m.put(h), m.put(c), m.put(lengths && BigInt64Array.from(lengths, BigInt)),
        h_n, c_n, gates, sums);
      return {
        y: new Tensor(m.get(y, T * B * D * P), [T, B, D * P]),
        state: { h: m.get(h_n, D * B * P), c: lstm ? m.get(c_n, D * B * H) : null },
        gates: record && m.get(gates, D * T * B * recorded * H),
        sums: record && m.get(sums, D * T * B * G * H),
      };
    }, this.from);
  }

  /** The gates and states in what run() recorded, by name, for each direction by its suffix. */
  arrays({ y, gates, sums }) {
    const [T, B] = y.shape, { D, H, P, recorded } = this, G = this.gates.length;
    return Object.fromEntries(this.suffixes.map((suffix, d) => {
      const pick = (from, count, k) => {
        const to = new Float32Array(T * B * H);
        for (let n = 0; n < T * B; n++) to.set(from.subarray(((d * T * B + n) * count + k) * H, ((d * T * B + n) * count + k + 1) * H), n * H);
        return new Tensor(to, [T, B, H]);
      };
      const arrays = Object.fromEntries(this.gates.map((gate, k) => [gate, pick(gates, recorded, k)])), h = new Float32Array(T * B * P);
      if (this.type === "LSTM") arrays.c = pick(gates, recorded, G);
      for (let n = 0; n < T * B; n++) h.set(y.data.subarray((n * D + d) * P, (n * D + d + 1) * P), n * P);
      arrays.h = new Tensor(h, [T, B, P]);
      this.gates.forEach((gate, k) => (arrays[`${gate}_preactivation`] = pick(sums, G, k)));
      return [suffix.slice(1), arrays];
    }));
  }

  /**
   * dx, and the gradients of the initial state and the weights, from dy and the gradient of the final state. `recorded` is
   * what run() returned for x, with its record, if the weights are in float32.
   */
  backward(x, dy, state = {}, { dh, dc } = {}, recorded = null) {
    if (!this.plain) throw new ArgumentError(`this ${this.type} has options, and only plain cells have gradients`);
    if (this.precision && !this.float) {
      this.float = Object.assign(Object.create(Recurrent.prototype), this, { directions: this.widened(), precision: "", pointer: 0 });
      this.float.pack();
    }
    const { y, gates } = recorded ?? (this.float ?? this).run(x, state, null, true);
    const [T, B] = x.shape, { h, c } = this.initial(state, B), { D, H, P } = this, lstm = this.type === "LSTM", wide = this.widened();
    return withMemory((m) => {
      const gradients = wide.map((direction) => WEIGHTS.map(([, part]) => arrayOf(direction[part])).map((array) => array && { pointer: m.put(new Float32Array(array.length)), size: array.length }));
      const dx = m.floats(x.data.length), dh0 = m.floats(D * B * P), dc0 = lstm ? m.floats(D * B * H) : 0;
      core.stack_backward(this.cell, D, this.I, H, P, this.put(m, wide), T, B, m.put(dy.data), m.put(x.data), m.put(y.data),
        m.put(h), m.put(c), m.put(dh), m.put(dc), m.put(gates), dx, dh0, dc0,
        m.put(Uint32Array.from(gradients.flat(), (each) => each?.pointer ?? 0)));
      return {
        dx: new Tensor(m.get(dx, x.data.length), x.shape),
        dh: m.get(dh0, D * B * P),
        dc: lstm ? m.get(dc0, D * B * H) : null,
        weights: Object.fromEntries(gradients.flatMap((all, d) => all.map((each, n) => each && [WEIGHTS[n][0] + this.suffixes[d], m.get(each.pointer, each.size)]))
          .filter(Boolean)),
      };
    });
  }
}

/** The weights of a direction: their names in Python, and here, in the order in which the core takes their gradients. */
const WEIGHTS = [["weight_ih", "W"], ["weight_hh", "R"], ["bias_ih", "b_W"], ["bias_hh", "b_R"], ["weight_hr", "W_hr"]];
const arrayOf = (part) => part?.data ?? part;

/** A stored matrix, and the scale of each row if it is int8. */
function matrixOf(name, precision, weights, rows, columns) {
  const type = { "": Float32Array, float16: Uint16Array, int8: Int8Array }[precision];
  return { data: weights(name, type, [rows, columns]), scale: precision === "int8" ? weights(`${name}_scale`, Float32Array, [rows]) : null };
}

/** A matrix in float32. */
function widened(matrix, columns, precision) {
  if (!matrix || !precision) return matrix;
  const data = new Float32Array(matrix.data.length);
  for (let n = 0; n < data.length; n++)
    data[n] = precision === "int8" ? matrix.data[n] * matrix.scale[Math.floor(n / columns)] : half(matrix.data[n]);
  return { data, scale: null };
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const SIZES = ["input_size", "hidden_size", "num_layers", "proj_size", "in_features", "out_features", "num_embeddings", "embedding_dim"];
const BUILDERS = {
  Embedding: (config, weights) => [new Embedding(config, weights)],
  Linear: (config, weights) => [new Linear(config, weights)],
  Last: () => [new Last()],
  Dropout: () => [],
  Softmax: ({ dim }) => {
    if (dim !== -1) throw new ArgumentError(`Softmax has dim=${dim}, but Onward for JavaScript supports only dim=-1`);
    return [new Elementwise((x, n, count, y) => core.softmax(x, count / n, n, 0, y), softmaxGradient)];
  },
  Activation: ({ name, alpha, beta }) => {
    if (name === "linear") return []; // it keeps the sign of zeros
    const [number, a, b] = activation([name, alpha, beta]);
    const slope = DERIVATIVES[CORE_FUNCTIONS[number]];
    return [new Elementwise((x, n, count, y) => core.activate(number, a, b, count, x, y), (dy, x, y) => dy.map((d, k) => d * slope(x[k], y[k], a, b)))];
  },
};
for (const type of Object.keys(GATES))
  BUILDERS[type] = (config, weights) =>
    Array.from({ length: config.num_layers }, (_, number) => new Recurrent(type, config, number, weights));

// ---- Models --------------------------------------------------------------------------------------------------------

/** The gates and states of one run; `layers["1.l0"].f` is a Tensor (T, B, H). */
class Trace {
  constructor(x, y, layers, state) {
    Object.assign(this, { x, y, layers, state });
  }
  get(name) {
    const found = Object.entries(this.layers).flatMap(([layer, arrays]) =>
      Object.keys(arrays).filter((array) => `${layer}.${array}` === name || `${layer}.${array}`.endsWith(`.${name}`))
        .map((array) => arrays[array]));
    if (found.length !== 1) throw new ArgumentError(`${name} names ${found.length} arrays of the trace; its layers are ${Object.keys(this.layers).join(", ")}`);
    return found[0];
  }
}

export class Model {
  constructor(description, weights, vocabulary) {
    const described = description.type === "Sequential" ? description.layers : [description];
    this.description = description;
    this.vocabulary = vocabulary;
    this.layers = described.flatMap((config, index) => {
      const prefix = description.type === "Sequential" ? `${index}.` : "";
      if (!(config.type in BUILDERS))
        throw new ArgumentError(
          `the model has a layer of type ${config.type}, which Onward for JavaScript does not support; it supports ${Object.keys(BUILDERS).join(", ")}`,
        );
      if (config.dtype && config.dtype !== "float32")
        throw new DtypeError(`the model computes in ${config.dtype}, but Onward for JavaScript computes in float32: convert its weights in Python`);
      for (const [name, n] of SIZES.flatMap((size) => (size in config ? [[size, config[size]]] : [])))
        if (!Number.isInteger(n) || n < (name === "proj_size" ? 0 : 1)) throw new FileError(`the model file has ${name}=${n}; expected a positive integer`);
      return BUILDERS[config.type](config, (name, type, shape) => {
        const tensor = weights[prefix + name];
        if (!(tensor?.data instanceof type) || !same(tensor.shape, shape) || !tensor.data.length)
          throw new FileError(`${prefix}${name} is missing from the model file, or does not have shape ${shown(shape)} and dtype ${type.name.replace("Array", "")}`);
        return tensor.data;
      }).map((layer) => Object.assign(layer, { prefix }));
    });
    this.batchFirst = described.some((config) => config.batch_first);
  }

  get recurrent() {
    return this.layers.filter((layer) => layer instanceof Recurrent);
  }

  /** The names of the recurrent layers and directions, as in a trace. */
  get names() {
    return this.recurrent.flatMap((layer) => layer.suffixes.map((suffix) => layer.prefix + suffix.slice(1)));
  }

  /** x as time-first and batched, and how to undo it for the output. */
  input(x, hasTime = true) {
    const first = this.layers.find((layer) => layer instanceof Embedding || layer.I), integers = first instanceof Embedding;
    let { data, shape } = x instanceof Tensor ? x : nested(x);
    if (!(x instanceof Tensor) && ArrayBuffer.isView(x))
      shape = first?.I && (hasTime || data.length !== first.I) ? [data.length / first.I, first.I] : [data.length];
    const features = integers ? [] : [first ? first.I : last(shape)]; // without weights, the model takes any
    if (!first && shape.length === 1) hasTime = false;
    if (!shape.every(Number.isInteger))
      throw new ShapeError(`x has ${data.length} numbers, but this model takes ${features[0]} per step`);
    if (!integers) data = floats(data);
    const axes = shape.length - features.length, extra = hasTime ? 0 : 1 - axes;
    if ((features.length && last(shape) !== features[0]) || axes < Number(hasTime) || axes > 2) {
      const step = hasTime ? "" : `${features.length ? shown(features) : "a number"}, `, [block, batches] = [["T"], ["T", "B"]].map((sizes) => shown([...sizes, ...features]));
      throw new ShapeError(`x has shape ${shown(shape)}, but this ${hasTime ? "model" : "stream"} takes ${step}${block}, or ${batches} in batches`);
    }
    const batched = axes === 2, swapped = batched && this.batchFirst;
    let steps = new Tensor(data, batched ? shape : [extra > 0 || !axes ? 1 : shape[0], 1, ...features]);
    if (swapped) steps = swap(steps);
    const output = (y) => {
      const noTime = y.shape.length === 2;
      if (!batched) return new Tensor(y.data, noTime ? y.shape.slice(1) : axes ? [y.shape[0], ...y.shape.slice(2)] : y.shape.slice(2));
      return swapped && !noTime ? swap(y) : y;
    };
    return { steps, output };
  }

  forward(x, { state, lengths } = {}, visit = null) {
    const after = [], [T, B] = x.shape, count = this.recurrent.length;
    if (state && state.length !== count) throw new ShapeError(`state has ${state.length} entries; expected ${count}, one for each recurrent layer`);
    const isList = Array.isArray(lengths) || ArrayBuffer.isView(lengths), isCount = (n) => ["number", "bigint"].includes(typeof n) && Number.isInteger(Number(n)) && n >= 0 && n <= T;
    if (lengths != null && !(isList && lengths.length === B && [...lengths].every(isCount)))
      throw new ShapeError(`lengths=${isList ? shown([...lengths]) : lengths}; expected ${B} integers from 0 to ${T}`);
    let y = x;
    for (const layer of this.layers) {
      if (layer instanceof Recurrent) {
        const before = state?.[after.length] ?? {};
        const result = layer.run(y, before, lengths, Boolean(visit));
        visit?.(layer, y, result);
        after.push(result.state);
        y = result.y;
      } else {
        y = layer.run(y, lengths);
      }
    }
    return { y, state: after };
  }

  run(x, options = {}) {
    const { steps, output } = this.input(x);
    return output(this.forward(steps, options).y);
  }

  stream() {
    const reverse = this.recurrent.find((layer) => layer.D === 2);
    if (reverse) throw new ArgumentError(`layer ${reverse.prefix.slice(0, -1)} is bidirectional and needs the whole sequence: it cannot stream`);
    const stream = (x) => {
      const { steps, output } = this.input(typeof x === "number" ? new Tensor(Float64Array.of(x), []) : x, false);
      const { y, state } = this.forward(steps, { state: stream.state });
      stream.state = state;
      return output(y);
    };
    stream.state = null;
    return stream;
  }

  trace(x, options = {}) {
    const layers = {}, { steps } = this.input(x);
    const { y, state } = this.forward(steps, options, (layer, _, result) => {
      for (const [name, arrays] of Object.entries(layer.arrays(result))) layers[layer.prefix + name] = arrays;
    });
    return new Trace(steps, y, layers, state);
  }

  clamp(changes) {
    const all = [].concat(changes).map((change) => {
      const layer = this.recurrent.find((each) => each.suffixes.some((suffix) => each.prefix + suffix.slice(1) === change.layer));
      if (!layer) throw new ArgumentError(`layer=${change.layer}; expected one of ${this.names.join(", ")}`);
      if (layer.type === "RNN" || !"ifozr".includes(change.gate) || !layer.gates.includes(change.gate))
        throw new ArgumentError(`gate=${change.gate}, but only the sigmoid gates of a layer can be clamped: ${layer.gates.filter((gate) => "ifozr".includes(gate)).join(", ") || "an RNN has none"}`);
      if (change.value !== 0 && change.value !== 1) throw new ArgumentError(`value=${change.value}; expected 0 or 1`);
      if (change.unit != null && !(Number.isInteger(change.unit) && change.unit >= 0 && change.unit < layer.H)) throw new ArgumentError(`unit=${change.unit}; expected 0 to ${layer.H - 1}`);
      return { ...change, of: layer, suffix: change.layer.slice(layer.prefix.length).replace(/^/, "_") };
    });
    const copy = Object.assign(Object.create(Model.prototype), this);
    copy.layers = this.layers.map((layer) => {
      const own = all.filter((change) => change.of === layer);
      return own.length ? layer.clamped(own) : layer;
    });
    return copy;
  }

  gradient(x, dy, options) {
    return this.backward(x, dy, options).dx;
  }

  backward(x, dy, { state } = {}) {
    const { steps } = this.input(x), states = [...(state ?? [])], calls = [], weights = {};
    let y = steps;
    for (const layer of this.layers) {
      const before = layer instanceof Recurrent ? states.shift() ?? {} : null;
      const result = before ? layer.run(y, before, null, !layer.precision) : { y: layer.run(y) };
      calls.push({ layer, x: y, before, recorded: result.gates ? result : null });
      y = result.y;
    }
    const given = typeof dy === "function" ? dy(y) : dy;
    let dx = new Tensor(floats((given instanceof Tensor ? given : nested(given)).data), y.shape);
    for (const { layer, x: input, before, recorded } of calls.reverse()) {
      if (layer instanceof Embedding) break;
      const found = before ? layer.backward(input, dx, before, {}, recorded) : layer.backward(dx, input);
      for (const [name, array] of Object.entries(found.weights ?? {})) weights[layer.prefix + name] = array;
      dx = found.dx;
    }
    return { y, dx, weights };
  }

  /** The arrays of the weights by name, and their layer. */
  trainable() {
    const layers = this.layers.filter((layer) => layer.weights), quantized = layers.find(({ precision }) => precision);
    if (quantized) throw new ArgumentError(`the model has weights in ${quantized.precision}, and only those in float32 can be read and replaced`);
    return layers.flatMap((layer) => Object.entries(layer.weights).map(([name, array]) => ({ name: layer.prefix + name, array, layer })));
  }

  get weights() {
    return Object.fromEntries(this.trainable().map(({ name, array }) => [name, array.slice()]));
  }

  update(weights) {
    const all = this.trainable(), changed = all.filter(({ name }) => name in weights);
    const unknown = Object.keys(weights).find((each) => !all.some(({ name }) => name === each));
    if (unknown !== undefined) throw new ArgumentError(`the model has no weight ${unknown}: its weights are ${all.map(({ name }) => name).join(", ")}`);
    for (const { name, array } of changed)
      if (weights[name].length !== array.length) throw new ShapeError(`${name} has ${weights[name].length} numbers; expected ${array.length}`);
    for (const { name, array } of changed) array.set(weights[name]);
    for (const layer of new Set(changed.map(({ layer }) => layer))) layer.pack();
  }
}

/** Swap the first two axes. */
function swap({ data, shape: [A, B, ...rest] }) {
  const n = size(rest), to = new data.constructor(data.length);
  for (let a = 0; a < A; a++) for (let b = 0; b < B; b++) to.set(data.subarray((a * B + b) * n, (a * B + b + 1) * n), (b * A + a) * n);
  return new Tensor(to, [B, A, ...rest]);
}

const floats = (data) => (data instanceof Float32Array ? data : Float32Array.from(data, Number));

/** The numbers and the shape of a number, of a typed array, or of nested arrays, which have equal lengths. */
function nested(x, Data = Float32Array) {
  if (ArrayBuffer.isView(x)) return { data: x, shape: [x.length] };
  const data = [], shape = [], isArray = (level) => Array.isArray(level) || ArrayBuffer.isView(level);
  for (let level = x; isArray(level); level = level[0]) shape.push(level.length);
  const add = (level, axis) => {
    if (isArray(level) && level.length !== shape[axis])
      throw new ShapeError(`nested arrays of shape ${shown(shape)} contain one of ${level.length} elements in axis ${axis}`);
    if (isArray(level)) for (const each of level) add(each, axis + 1);
    else if (axis === shape.length && ["number", "bigint", "boolean"].includes(typeof level)) data.push(level);
    else throw new ArgumentError(`got ${level === null ? "null" : typeof level}; expected a Tensor, a typed array or nested arrays of numbers`);
  };
  add(x, 0);
  return new Tensor(Data === Array ? data : Data.from(data, Number), shape);
}

// ---- Whole models --------------------------------------------------------------------------------------------------

const TYPES = {
  float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
};
const isInteger = (dtype) => !dtype.startsWith("float");
const list = (items) => [...new Set(items)].join(" or ");

/** Throw the core's last error if it returned -1; `type` is its class. */
function checked(result, type, before = "") {
  if (result >= 0) return result;
  const bytes = new Uint8Array(graphCore.memory.buffer, graphCore.error_message());
  throw new type(before + new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0))));
}

/** The packed weights and the programs of a file, in the memory of the core. */
class Graph {
  constructor(weights, tensors, file) {
    Object.assign(this, { tensors, file, pointer: owned(this, "graph_free", graphCore.graph_new(), graphCore) });
    const kinds = [Float32Array, Uint16Array, Int8Array, Int32Array];
    for (const { words, arrays } of weights)
      withMemory((m) => {
        const table = arrays.flatMap((name) => {
          const { data, shape } = this.tensor(name);
          return [m.put(data), kinds.indexOf(data.constructor), shape.length, shape[0] ?? 0, shape[1] ?? 0];
        });
        const numbers = BigInt64Array.from(words, BigInt), count = arrays.length;
        checked(graphCore.graph_add_weights(this.pointer, m.put(numbers), numbers.length, m.put(Int32Array.from(table)), count), FileError, `${file}: `);
      }, graphCore);
  }
  tensor(name, type = null) {
    const found = this.tensors[name];
    if (!found || (type && !(found.data instanceof type))) throw new FileError(`${this.file}: the tensor ${name} is missing or has the wrong dtype`);
    return found;
  }
}

/** The steps of a graph for inputs of all sizes that its guards permit. The core builds it at the first call. */
class Program {
  constructor(graph, described) {
    Object.assign(this, { graph, ...described, number: null, sizes: null });
    const dtypes = [...this.inputs.map(({ dtype }) => dtype), ...this.outputs];
    const isSize = (n) => Number.isInteger(n) && n >= -this.axes.length;
    if (!dtypes.every((dtype) => dtype in TYPES) || !this.inputs.every(({ shape }) => shape.every(isSize)))
      throw new FileError(`${graph.file}: a program has an invalid input or output`);
  }

  /** The sizes of the axes for inputs by name, or null if their shapes do not fit. */
  axesOf(arrays) {
    const found = this.axes.map(() => 0);
    const fits = (size, n) => {
      if (n < 0 && !found[-1 - n]) found[-1 - n] = size;
      return size === (n < 0 ? found[-1 - n] : n) && (n >= 0 || size > 0);
    };
    const all = this.inputs.every(({ name, shape }) => {
      const own = arrays[name].shape;
      return own.length === shape.length && shape.every((n, axis) => fits(own[axis], n));
    });
    return all ? found : null;
  }

  /** Prepare a run with these sizes of the axes; return whether the program holds for them. */
  bind(sizes) {
    const { graph } = this;
    if (this.number === null)
      this.number = withMemory((m) => {
        const { data } = graph.tensor(this.words, BigInt64Array);
        return checked(graphCore.graph_add_program(graph.pointer, m.put(data), data.length), FileError, `${graph.file}: `);
      }, graphCore);
    if (this.sizes && same(this.sizes, sizes)) return true;
    this.sizes = null;
    const holds = withMemory((m) => graphCore.program_bind(graph.pointer, this.number, m.put(BigInt64Array.from(sizes, BigInt)), sizes.length), graphCore);
    if (!checked(holds, ArgumentError, `${graph.file}: the core refuses a step for inputs of these sizes: `)) return false;
    let space = 1;
    const place = (bytes) => {
      const pointer = graphCore.program_space(graph.pointer, this.number, space++, bytes);
      if (pointer < 0) throw new FileError(`${graph.file}: the spaces of a program do not match its inputs and outputs`);
      return pointer;
    };
    const constants = this.constants === null ? new Uint8Array() : graph.tensor(this.constants, Uint8Array).data;
    const pointer = place(constants.length);
    new Uint8Array(graphCore.memory.buffer).set(constants, pointer);
    const bytes = (dtype, shape) => size(shape) * TYPES[dtype].BYTES_PER_ELEMENT;
    const inputs = this.inputs.map(({ shape, ...input }) => ({ ...input, shape: shape.map((n) => (n < 0 ? sizes[-1 - n] : n)) }));
    this.sources = inputs.map(({ dtype, shape, value }) => (value === null && size(shape) ? place(bytes(dtype, shape)) : null));
    this.results = this.outputs.map((dtype, n) => {
      const shape = [];
      for (let size; (size = graphCore.program_output(graph.pointer, this.number, n, shape.length)) >= 0; ) shape.push(size);
      return { dtype, shape, pointer: place(bytes(dtype, shape)) };
    });
    this.sizes = sizes;
    return true;
  }

  /** Run the steps on arrays of the sizes to which the program is bound. */
  run(arrays) {
    this.sources.forEach((pointer, n) => pointer && new TYPES[this.inputs[n].dtype](graphCore.memory.buffer, pointer, arrays[n].data.length).set(arrays[n].data));
    checked(graphCore.program_run(this.graph.pointer, this.number), ArgumentError);
    return this.results.map(({ dtype, shape, pointer }) => new Tensor(new TYPES[dtype](graphCore.memory.buffer, pointer, size(shape)).slice(), [...shape]));
  }
}

/** A copy of a value that is in the file. */
const constant = (graph, { dtype, shape, tensor }) => new Tensor(graph.tensor(tensor, TYPES[dtype]).data.slice(), [...shape]);

/** An array of a dtype from typed arrays, nested arrays or a number, as far as NumPy casts them within a kind. */
function converted(name, value, dtype) {
  const Type = TYPES[dtype];
  let { data, shape } = value instanceof Tensor ? value : nested(value, Array);
  if (data instanceof Type) return { data, shape };
  const isFloat = data instanceof Float32Array || data instanceof Float64Array || (Array.isArray(data) && !data.every((x) => typeof x !== "number" || Number.isInteger(x)));
  if (isFloat && isInteger(dtype)) throw new DtypeError(`${name} has floats, but the model takes ${dtype}: convert it first`);
  return { data: Type === BigInt64Array ? Type.from(data, BigInt) : Type.from(data, Number), shape };
}

const same = (a, b) => a.length === b.length && a.every((n, axis) => n === b[axis]);

/** The shape of a flat array: that of an example, or one with a single open axis, or its length alone. */
function shapeOf(length, examples, shapes) {
  const example = examples.find((shape) => size(shape) === length);
  if (example) return example;
  for (const shape of shapes) {
    const open = shape.filter((n) => n < 0), n = length / size(shape.filter((n) => n >= 0));
    if (open.length === 1 && Number.isInteger(n) && n > 0) return shape.map((each) => (each < 0 ? n : each));
  }
  return [length];
}

/** A program for these inputs by name, bound to their sizes, and the inputs as it takes them. */
function find(programs, examples, named) {
  const names = Object.keys(named);
  const possible = programs.filter(({ inputs }) => inputs.length === names.length && inputs.every(({ name }) => name in named));
  if (!possible.length) {
    const known = list(programs.map(({ inputs }) => `(${inputs.map(({ name }) => name).join(", ")})`));
    throw new SignatureError(`got (${names.join(", ")}), but the file has programs for ${known}`);
  }
  const arrays = {};
  for (const { name, dtype } of possible[0].inputs) {
    arrays[name] = converted(name, named[name], dtype);
    if (!ArrayBuffer.isView(named[name])) continue;
    const shapes = possible.map(({ inputs }) => inputs.find((input) => input.name === name).shape);
    arrays[name].shape = shapeOf(arrays[name].data.length, examples.map((shapes) => shapes[name]).filter(Boolean), shapes);
  }
  const fitting = possible.map((program) => ({ program, sizes: program.axesOf(arrays) })).filter(({ sizes }) => sizes);
  const takes = ({ inputs }) => inputs.every(({ name, value }) => value === null || value === String(Number(arrays[name].data[0])));
  const chosen = fitting.filter(({ program }) => takes(program));
  let refusal = null;
  const found = chosen.find(({ program, sizes }) => {
    try {
      return program.bind(sizes);
    } catch (error) {
      refusal ??= error;
      return false; // another program may hold
    }
  });
  if (found) return { program: found.program, arrays: found.program.inputs.map(({ name }) => arrays[name]) };
  if (refusal) throw refusal;
  const otherValue = fitting.length && !chosen.length, type = otherValue ? ArgumentError : ShapeError;
  const passed = possible[0].inputs.map(({ name }) => `${name} ${otherValue && !arrays[name].shape.length ? arrays[name].data[0] : shown(arrays[name].shape)}`);
  const described = ({ inputs, axes }) => inputs.map(({ name, shape, value }) => `${name} ${value ?? shown(shape.map((n) => (n < 0 ? axes[-1 - n] : n)))}`).join(", ");
  const known = list((otherValue ? fitting.map(({ program }) => program) : possible).map(described));
  throw new type(`got ${passed.join(", ")}, but the file has programs for ${known}${chosen.length ? " of other sizes" : ""}: export the model with these inputs too`);
}

/** Arguments in order, or one object of arguments by name, as the latter. */
function byName(names, args) {
  const [first] = args, plain = args.length === 1 && typeof first === "object" && first !== null;
  if (plain && !(first instanceof Tensor || ArrayBuffer.isView(first) || Array.isArray(first))) return first;
  if (args.length > names.length) throw new SignatureError(`got ${args.length} inputs, but the model takes (${names.join(", ")})`);
  return Object.fromEntries(args.map((value, n) => [names[n], value]));
}

const alone = (outputs) => (outputs.length === 1 ? outputs[0] : outputs);

export class WholeModel {
  constructor({ inputs, outputs, run, examples, stream, trace, weights }, tensors, file) {
    const graph = new Graph(weights, tensors, file), programs = (described) => described.map((each) => new Program(graph, each));
    Object.assign(this, { inputs, outputs, examples, graph, programs: programs(run), traced: trace, tracers: programs(trace.map(({ program }) => program)) });
    this.streams = stream && { ...stream, programs: programs(stream.programs), last: programs(stream.last) };
  }

  run(...args) {
    if (!this.programs.length) throw new ArgumentError("the file has programs for streams only: export the model with the inputs of a call");
    const { program, arrays } = find(this.programs, this.examples, byName(this.inputs, args));
    return alone(program.run(arrays));
  }

  stream() {
    if (!this.streams) throw new ArgumentError("the file has no programs for streams: export the model with blocks=");
    const { carries, initial, inputs, programs, examples, last, latency, x: axes } = this.streams, { graph } = this;
    let carried, ended, layout = null;
    const step = (programs, named) => {
      if (ended) throw new ArgumentError("the sequence has ended: set state to null to start another one");
      const { program, arrays } = find(programs, examples, { ...carried, ...named });
      return program.run(arrays);
    };
    const stream = (...args) => {
      let named = byName(inputs, args);
      if (axes) {
        if (!same(Object.keys(named), inputs)) throw new SignatureError(`got (${Object.keys(named).join(", ")}), but the stream takes (${inputs.join(", ")})`);
        const block = blockOf(this.streams, named[inputs[0]]);
        layout = block.layout, named = { [inputs[0]]: block.x };
      }
      const results = step(programs, named);
      carried = Object.fromEntries(carries.map((name, n) => [name, results[n]]));
      return returned(this.streams, results.slice(carries.length), layout);
    };
    const start = () => {
      carried = Object.fromEntries(carries.map((name, n) => [name, constant(graph, initial[n])]));
      ended = false;
    };
    start();
    Object.defineProperty(stream, "state", {
      get: () => Object.fromEntries(carries.map((name) => [name, new Tensor(carried[name].data.slice(), [...carried[name].shape])])),
      set: (state) => {
        start();
        for (const [name, value] of Object.entries(state ?? {})) {
          if (!carries.includes(name)) throw new ArgumentError(`state has ${name}, but the carries of the stream are ${carries.join(", ")}`);
          carried[name] = value;
        }
      },
    });
    stream.latency = latency;
    stream.finish = () => {
      if (!last.length) throw new ArgumentError("only a stream over blocks of one sequence can finish: this one has no steps left");
      const { name, dtype } = last[0].inputs[carries.length], shape = examples[0][name].map((n, axis) => (axis === axes[0] ? 0 : n));
      const results = step(last, { [name]: new Tensor(new TYPES[dtype](0), shape) });
      ended = true;
      return returned(this.streams, results, layout && { ...layout, hasTime: true });
    };
    return stream;
  }

  trace(...args) {
    if (!this.tracers.length) throw new ArgumentError("the file has no programs for traces: export the model with trace=True");
    const { program, arrays } = find(this.tracers, this.examples, byName(this.inputs, args)), described = this.traced[this.tracers.indexOf(program)];
    const values = program.run(arrays), layers = {};
    described.sites = described.sites.map((site) => (site instanceof Site ? site : new Site(this.graph, site)));
    let first = null;
    for (const site of described.sites)
      for (const inputs of site.runs(values)) {
        const { x, recorded } = site.record(inputs);
        first ??= x;
        for (const [name, record] of Object.entries(recorded)) layers[unique(site.name, name, layers)] = record;
      }
    return new Trace(described.x ? timeFirst(arrays[0], described.x) : first, timeFirst(values[0], described.y), layers, []);
  }
}

/** A recurrent node of a whole model, which runs once more on its inputs and records its gates. */
class Site {
  constructor(graph, { name, kind, reverse, loops, layer, weights, inputs }) {
    const tensor = (name, type) => graph.tensor(weights[name], type).data;
    Object.assign(this, { name, kind, reverse, loops, inputs });
    this.layers = Array.from({ length: layer.num_layers }, (_, number) => new Recurrent(layer.type, layer, number, tensor, graphCore));
  }

  /** The inputs of each run of the node, which has an axis in front for each loop around it; null is absent. */
  runs(values) {
    const own = this.inputs.map((n) => (n === null ? null : values[n])), present = own.filter(Boolean);
    const counts = present.map(({ shape }) => size(shape.slice(0, this.loops)));
    return Array.from({ length: Math.min(...counts) }, (_, run) => own.map((value) => {
      const shape = value?.shape.slice(this.loops), n = value && size(shape);
      return value && new Tensor(value.data.slice(run * n, (run + 1) * n), shape);
    }));
  }

  /** x, and the gates and states of each layer and direction by name, for the inputs of a run. */
  record(inputs) {
    const mask = this.kind === "MaskedRecurrent" ? maskOf(inputs[1]) : null;
    const [x, given, h, c] = this.kind === "Step" ? oneStep(inputs) : mask ? [inputs[0], null, ...inputs.slice(3)] : inputs;
    const lengths = mask ? mask.lengths : given && Array.from(given.data, Number), recorded = {};
    const reversed = (array) => gathered(array, (t) => array.shape[0] - 1 - t); // the core has no reverse nodes with lengths
    const steps = mask ? gathered(x, (t, b) => mask.order[b][t]) : x;
    let y = this.reverse ? reversed(steps) : steps;
    for (const [n, layer] of this.layers.entries()) {
      const part = (state, units) => state?.data.slice(n * layer.D * x.shape[1] * units, (n + 1) * layer.D * x.shape[1] * units);
      const result = layer.run(y, { h: part(h, layer.P), c: part(c, layer.H) }, lengths, true);
      for (const [suffix, arrays] of Object.entries(layer.arrays(result))) {
        const inOrder = (array) => {
          const forward = this.reverse ? reversed(array) : array;
          return mask ? gathered(forward, suffix.endsWith("_reverse") ? mask.following : mask.preceding) : forward;
        };
        recorded[suffix + (this.reverse ? "_reverse" : "")] = Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, inOrder(array)]));
      }
      y = result.y;
    }
    return { x, recorded };
  }
}

/** The steps of a mask (T, B) in each row: their number and order, and the place of the one at or before, and at or after, a step. */
function maskOf({ data, shape: [T, B] }) {
  const counts = new Int32Array(T * B), order = Array.from({ length: B }, () => []), rest = order.map(() => []);
  for (let t = 0; t < T; t++)
    for (let b = 0; b < B; b++) {
      (data[t * B + b] ? order : rest)[b].push(t);
      counts[t * B + b] = order[b].length;
    }
  const lengths = order.map(({ length }) => length), following = (t, b) => counts[t * B + b] - data[t * B + b];
  return {
    lengths, order: order.map((steps, b) => [...steps, ...rest[b]]), preceding: (t, b) => counts[t * B + b] - 1,
    following: (t, b) => (following(t, b) < lengths[b] ? following(t, b) : -1),
  };
}

/** An array (T, B, ...) with the values of step place(t, b) at each step, and 0 where it is negative. */
function gathered({ data, shape: [T, B, ...rest] }, place) {
  const n = size(rest), to = new data.constructor(data.length);
  for (let t = 0; t < T; t++)
    for (let b = 0; b < B; b++) {
      const from = place(t, b);
      if (from >= 0) to.set(data.subarray((from * B + b) * n, (from * B + b + 1) * n), (t * B + b) * n);
    }
  return new Tensor(to, [T, B, ...rest]);
}

/** The inputs of a single step, (..., I) and (..., H), as those of a sequence of one step. */
function oneStep(inputs) {
  const [x, ...states] = inputs.map(({ data, shape }) => new Tensor(data, [1, data.length / last(shape), last(shape)]));
  return [x, null, ...states];
}

/** A name of a layer of a node, with a number if another node has the same one. */
function unique(node, layer, names) {
  let name = `${node}.${layer}`;
  for (let number = 2; name in names; number++) name = `${node}_${number}.${layer}`;
  return name;
}

/** An array with time first and then the batch, given these two axes, if they are known; the batch may be missing. */
function timeFirst({ data, shape }, axes) {
  if (!axes) return new Tensor(data, shape);
  const [time, batch] = axes, front = batch === null ? [time] : [time, batch], order = [...front, ...shape.keys()].filter((axis, n, all) => all.indexOf(axis) === n);
  const strides = shape.map((_, axis) => size(shape.slice(axis + 1))), moved = order.map((axis) => shape[axis]), to = new data.constructor(data.length);
  for (let n = 0; n < data.length; n++) {
    let from = 0;
    for (let k = order.length - 1, rest = n; k >= 0; rest = Math.floor(rest / moved[k--])) from += (rest % moved[k]) * strides[order[k]];
    to[n] = data[from];
  }
  return new Tensor(to, batch === null ? [moved[0], 1, ...moved.slice(1)] : moved);
}

/** A block with all axes of the model's input, and which of them x has. */
function blockOf({ x: [time, rows], batch, programs, examples, carries, inputs: [name] }, x) {
  const full = examples[0][name], rank = full.length, lacksRows = batch === null && rows !== null;
  const is = (axis) => axis === time || (axis === rows && lacksRows);
  const features = full.filter((_, axis) => !is(axis)), step = size(features);
  let { data, shape } = converted(name, x, programs[0].inputs[carries.length].dtype);
  if (ArrayBuffer.isView(x)) shape = data.length === step ? features : [data.length / step, ...features];
  const missing = rank - shape.length, hasRows = rows === null || missing === 0 || !lacksRows, hasTime = missing === (hasRows ? 0 : 1);
  const added = [...(hasRows ? [] : [rows]), ...(hasTime ? [] : [time])];
  if (added.length !== missing || !shape.every(Number.isInteger)) {
    const sizes = full.map((n, axis) => (axis === time ? "T" : n)).filter((_, axis) => !(lacksRows && axis === rows));
    throw new ShapeError(`${name} has shape ${shown(shape)}, but must be one step ${shown(features)} or a block ${shown(sizes)}`);
  }
  const own = [...shape];
  return { x: new Tensor(data, full.map((_, axis) => (added.includes(axis) ? 1 : own.shift()))), layout: { hasRows, hasTime } };
}

/** The outputs of a block without the axes that it lacks. */
function returned({ outputs, every_step: everyStep }, results, layout) {
  return alone(results.map(({ data, shape }, n) => {
    const [time, rows] = outputs[n];
    const dropped = layout ? [layout.hasRows ? null : rows, layout.hasTime || !everyStep ? null : time] : [];
    return new Tensor(data, shape.filter((_, axis) => !dropped.includes(axis)));
  }));
}

// ---- Files ---------------------------------------------------------------------------------------------------------

const ARRAYS = {
  F32: Float32Array, F64: Float64Array, F16: Uint16Array, I8: Int8Array, I32: Int32Array, I64: BigInt64Array, U8: Uint8Array, BOOL: Uint8Array,
};

/** The tensors of a safetensors file, and the description that Onward wrote into it. */
function readSafetensors(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + (bytes.byteLength >= 8 ? Number(view.getBigUint64(0, true)) : Infinity);
  if (start > bytes.byteLength) throw new FileError(`${name} is not a complete safetensors file; expected one that Onward saved`);
  const parsed = (text) => {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new FileError(`${name} is not a valid safetensors file: ${error.message}`);
    }
  };
  const header = parsed(new TextDecoder().decode(bytes.subarray(8, start))) ?? {};
  const description = parsed(header.__metadata__?.onward ?? "null");
  if (!description) throw new FileError(`${name} has tensors but no model; expected a file that Onward saved with model.save or onward.export_web`);
  if (description.format !== 1) throw new FileError(`${name} has format ${description.format}, but this Onward reads format 1: upgrade Onward`);
  delete header.__metadata__;
  const tensors = {};
  for (const [key, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    const Type = ARRAYS[dtype], sizes = [shape, offsets].every((numbers) => Array.isArray(numbers) && numbers.every((n) => Number.isInteger(n) && n >= 0));
    if (!Type) throw new DtypeError(`${name}: ${key} has dtype ${dtype}; Onward for JavaScript reads ${Object.keys(ARRAYS).join(", ")}`);
    const [from, to] = offsets;
    if (!sizes || to - from !== size(shape) * Type.BYTES_PER_ELEMENT || start + to > bytes.byteLength)
      throw new FileError(`${name}: the tensor ${key} does not have the size of its shape, or exceeds the file`);
    tensors[key] = new Tensor(new Type(bytes.slice(start + from, start + to).buffer), shape);
  }
  return { tensors, description };
}

/** The model of a description. What is missing or has the wrong type in it raises FileError. */
function modelOf(description, tensors, file) {
  try {
    if (description.type === "Programs") return new WholeModel(description, tensors, file);
    if (description.type === "Model")
      throw new ArgumentError("the file holds a whole model without programs: write it with onward.export_web in Python");
    return new Model(description, tensors, description.vocabulary ?? null);
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw new FileError(`${file} is damaged: ${error.message}`);
    throw error;
  }
}

export const Onward = {
  /** A model of layers from its description, as in `model.description`, and its weights by name. */
  async create(description, weights, { wasm } = {}) {
    core = await start("onward.wasm", wasm);
    return modelOf(description, Object.fromEntries(Object.entries(weights).map(([name, { data, shape }]) => [name, new Tensor(data.slice(), shape)])), "the description");
  },

  /** Open a model that Onward saved, from its URL or its bytes. */
  async load(source, { wasm } = {}) {
    const isUrl = typeof source === "string" || source instanceof URL;
    const url = isUrl ? new URL(source, globalThis.location?.href ?? import.meta.url) : null;
    const bytes = isUrl ? await read(url) : new Uint8Array(source.buffer ?? source, source.byteOffset ?? 0, source.byteLength);
    const name = isUrl ? url.href : "the file", { tensors, description } = readSafetensors(bytes, name);
    if (description.type === "Programs") graphCore = await startGraph(wasm);
    else core = await start("onward.wasm", wasm);
    return modelOf(description, tensors, name);
  },
};
