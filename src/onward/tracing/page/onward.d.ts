/** Onward in JavaScript: open the models that Onward saves, and call, stream and trace them in WebAssembly. */

/** The numbers of a tensor. Booleans are the bytes 0 and 1. */
export type Numbers = Float32Array | Float64Array | Int32Array | BigInt64Array | Int8Array | Uint8Array;

/** Numbers in row-major order, and the length of each axis. */
export class Tensor<Data extends Numbers = Float32Array> {
  constructor(data: Data, shape: number[]);
  readonly data: Data;
  readonly shape: number[];
}

/**
 * The input of a model: a Tensor, nested arrays, or a flat typed array of T steps of one sequence.
 *
 * Shapes are (T, I), or (T, B, I) in batches; (T) or (T, B) for a model that starts with an Embedding.
 */
export type Input = Tensor | Tensor<Int32Array> | Float32Array | Float64Array | Int32Array | number[] | number[][] | number[][][];

/** The state of one recurrent layer: h (D, B, P) and, for an LSTM, c (D, B, H), in row-major order. */
export interface State {
  h: Float32Array;
  c: Float32Array | null;
}

export interface Options {
  /** One state per layer, as a stream or a trace returns them; zeros by default. */
  state?: State[] | null;
  /** The valid steps of each row of a batch. */
  lengths?: number[];
}

/** The gates and states of one run, with the names of the Python package: `trace.get("1.l0.f")` is (T, B, H). */
export interface Trace {
  readonly x: Tensor;
  readonly y: Tensor;
  /** Per layer and direction: its gates, h, c (LSTM) and the argument of each gate, such as `f_preactivation`. */
  readonly layers: Record<string, Record<string, Tensor>>;
  readonly state: State[];
  /** The array with this name or unique ending of a name. Throws ArgumentError. */
  get(name: string): Tensor;
}

/** A sequence that continues from call to call: `y = stream(x)` for one step or a block of steps. */
export interface Stream {
  (x: Input | number): Tensor;
  /** Assign null to start again from zeros. */
  state: State[] | null;
}

/** Sets a sigmoid gate of one unit, or of all units of a layer, to exactly 0 or 1 at every step. */
export interface Clamp {
  layer: string;
  gate: "i" | "f" | "o" | "r" | "z";
  unit?: number | null;
  value: 0 | 1;
}

export class Model {
  /** The layers, as in the model's file. */
  readonly description: { type: string; [name: string]: unknown };
  /** The characters of a text model; null for other models. */
  readonly vocabulary: string | null;
  /** The names of the recurrent layers and directions, as in a trace. */
  readonly names: string[];
  /** The output for whole sequences. Throws ShapeError, DtypeError, ArgumentError. */
  run(x: Input, options?: Options): Tensor;
  /** Throws ArgumentError for a bidirectional model. */
  stream(): Stream;
  trace(x: Input, options?: Options): Trace;
  /** A copy in which some gates are fixed. Throws ArgumentError. */
  clamp(changes: Clamp | Clamp[]): Model;
  /**
   * The gradient of sum(dy * y) with respect to x or, after an Embedding, to the embedded x, by the core's backward
   * pass. Quantized weights are widened to float32. Throws ArgumentError for a layer without gradients.
   */
  gradient(x: Input, dy: Tensor | Float32Array, options?: { state?: State[] | null }): Tensor;
  /**
   * The output y, and the gradients of sum(dy * y) with respect to x and to the weights by name; dy may be a function of y.
   * Batches are time-first. The bits of the gradients are those of `backward` in Python, unless they pass
   * through Softmax or Activation layers. Throws as `gradient`.
   */
  backward(
    x: Input,
    dy: Tensor | Float32Array | ((y: Tensor) => Float32Array),
    options?: { state?: State[] | null },
  ): { y: Tensor; dx: Tensor; weights: Record<string, Float32Array> };
  /** Copies of the weights by name, as in `state_dict`. Throws ArgumentError for weights that are not float32. */
  readonly weights: Record<string, Float32Array>;
  /** Replace some weights by name. Throws ArgumentError, ShapeError. */
  update(weights: Record<string, Float32Array>): void;
}

/**
 * An input of a whole model. A flat typed array takes the shape of an example of its size, or one that a program with a single
 * open axis takes.
 */
export type Value = Tensor<Numbers> | Numbers | Nested | number | bigint | boolean;
export type Nested = (number | bigint | boolean | Nested)[];

/** A tensor, or an array of several. */
export type Output = Tensor<Numbers> | Tensor<Numbers>[];

/** The inputs in order, or one object of inputs by name. */
export type Values = Value[] | [Record<string, Value>];

/** A sequence that runs through a whole model, one block per call. */
export interface WholeStream {
  /**
   * The outputs for one block. One step of a sequence, without a time axis, returns one step. Throws ShapeError for
   * a block that no program takes, and the errors of WholeModel.run.
   */
  (...inputs: Values): Output;
  /** Copies of the carries by name; assign an object to set them, or null to start another sequence. */
  get state(): Record<string, Tensor<Numbers>>;
  set state(state: Record<string, Value> | null);
  /** The number of steps after step k * stride of the input that step k of the output needs. */
  readonly latency: number;
  /** End the sequence and return the remaining steps. Throws ArgumentError if the carries are inputs of the model. */
  finish(): Output;
}

/** A whole model, such as an ONNX file, that onward.export_web wrote. */
export class WholeModel {
  readonly inputs: string[];
  readonly outputs: string[];
  /**
   * The outputs for inputs with the dtypes, and the values of integer scalars, of an example, and sizes that a program takes.
   * Throws SignatureError, ShapeError, DtypeError, and ArgumentError, which names the node, for an index out of range.
   */
  run(...inputs: Values): Output;
  /** Throws ArgumentError if the file has no programs for blocks. */
  stream(): WholeStream;
  /**
   * The gates and states of the recurrent nodes, as by `trace` in Python, for inputs with the shapes of the examples. Throws
   * ArgumentError for a file that was exported without trace=True, and the errors of `run`.
   */
  trace(...inputs: Values): WholeTrace;
}

/** The trace of a whole model. x and y are time-first where their axes are known. */
export interface WholeTrace extends Omit<Trace, "x" | "y" | "state"> {
  readonly x: Tensor<Numbers>;
  readonly y: Tensor<Numbers>;
}

export const Onward: {
  /** A model of layers from its description, as in `model.description`, and its weights by name. Throws as `load`. */
  create(description: Model["description"], weights: Record<string, Tensor>, options?: { wasm?: BufferSource }): Promise<Model>;
  /**
   * Open a model that Onward saved (.safetensors), from its URL or its bytes: layers that model.save wrote, or a whole
   * model that onward.export_web wrote, as in `Onward.load<WholeModel>(url)`. `wasm` holds the bytes of the core; by
   * default, it is read from onward.wasm beside onward.js, or from onward-graph.wasm or onward-graph-relaxed.wasm for a whole model. Throws FileError, ArgumentError, DtypeError.
   */
  load<Loaded extends Model | WholeModel = Model>(
    source: string | URL | ArrayBuffer | Uint8Array,
    options?: { wasm?: BufferSource },
  ): Promise<Loaded>;
};

export class OnwardError extends Error {}
export class ArgumentError extends OnwardError {}
export class SignatureError extends ArgumentError {}
export class ShapeError extends ArgumentError {}
export class DtypeError extends ArgumentError {}
export class FileError extends OnwardError {}
