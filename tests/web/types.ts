// Uses every public name of onward.d.ts; tsc checks it. An error that does not occur is an error, too.
import {
  ArgumentError, DtypeError, FileError, Model, Numbers, Onward, OnwardError, Output, ShapeError, SignatureError, State, Stream, Tensor, Trace,
  WholeModel, WholeStream, WholeTrace,
} from "../../src/onward/tracing/page/onward.js";

export async function layers(): Promise<Float32Array> {
  const model = await Onward.load("model.safetensors", { wasm: new Uint8Array(4) });
  const plain: Model = model;
  const y: Tensor = model.run([[1, 2, 3]], { lengths: [1], state: null });
  const stream: Stream = model.stream();
  stream(new Tensor(Int32Array.of(1), [1]));
  const state: State[] | null = stream.state;
  stream.state = null;
  const trace: Trace = plain.trace(new Float32Array(3), { state });
  const gate: Tensor = trace.layers["0.l0"].f;
  const clamped: Model = model.clamp({ layer: "0.l0", gate: "f", unit: 0, value: 1 }).clamp([]);
  const dx: Tensor = clamped.gradient(trace.x, y, { state: trace.state });
  const { weights }: { weights: Record<string, Float32Array> } = model.backward(trace.x, (output: Tensor) => output.data);
  const copy: Model = await Onward.create(model.description, { "0.weight": new Tensor(weights["0.weight"], [1, 3]) });
  copy.update(model.weights);
  const names: string[] = [...model.names, model.vocabulary ?? "", model.description.type];
  // @ts-expect-error: a string is not an input
  model.run("text");
  // @ts-expect-error: only 0 and 1
  model.clamp({ layer: names[0], gate: "f", value: 2 });
  // @ts-expect-error: the numbers of a tensor are fixed
  y.shape = [1];
  return [gate, dx, trace.get("f"), trace.y][0].data;
}

export async function whole(): Promise<Numbers> {
  const model = await Onward.load<WholeModel>(new URL("file:///model.safetensors"));
  const y: Output = model.run([[1, 2], [3, 4]], new Tensor(BigInt64Array.of(1n), []), 16000, true);
  model.run({ [model.inputs[0]]: new Float64Array(3), [model.outputs[0]]: 1n });
  const stream: WholeStream = model.stream();
  const end: Output[] = [stream(new Float32Array(3)), stream({ x: 1 }), stream.finish(), y];
  const state: Record<string, Tensor<Numbers>> = stream.state;
  stream.state = state;
  stream.state = null;
  const latency: number = stream.latency;
  const trace: WholeTrace = model.trace([[1, 2, 3]]);
  const gate: Tensor = trace.get("f");
  // @ts-expect-error: a trace has no state
  trace.state = gate;
  // @ts-expect-error: null is not an input
  model.run(null);
  // @ts-expect-error: the latency is fixed
  stream.latency = latency;
  const first = end[latency];
  return Array.isArray(first) ? first[0].data : first.data;
}

export const isOurs = (error: unknown): boolean =>
  error instanceof OnwardError &&
  [ArgumentError, DtypeError, FileError, ShapeError, SignatureError].some((type) => error instanceof type);
