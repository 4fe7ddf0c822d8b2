// Runs whole models on the inputs of each case, in Node (node whole.mjs CASES.json) or in a browser.
const TYPES = {
  float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
};

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function textOf({ buffer, byteOffset, byteLength }) {
  let text = "";
  for (const byte of new Uint8Array(buffer, byteOffset, byteLength)) text += String.fromCharCode(byte);
  return btoa(text);
}

/** The outputs of the calls and blocks of a case, or the error of one that throws. */
export async function answer({ Onward, Tensor }, { model: text, calls, blocks, finish, traced }) {
  const tensor = ({ data, dtype, shape }) => new Tensor(new TYPES[dtype](bytesOf(data).buffer), shape);
  const array = ({ data, shape }) => ({ data: textOf(data), dtype: data.constructor.name, shape });
  const plain = (outputs) => [outputs].flat().map(array);
  const entries = (object, change) => Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));
  const plainTrace = ({ x, y, layers }) => ({ x: array(x), y: array(y), layers: entries(layers, (arrays) => entries(arrays, array)) });
  const given = (inputs) => (Array.isArray(inputs) ? inputs.map(tensor) : [Object.fromEntries(Object.entries(inputs).map(([name, each]) => [name, tensor(each)]))]);
  const tried = (call, described = plain) => {
    try {
      return described(call());
    } catch (error) {
      return { error: error.name, message: error.message };
    }
  };
  let model;
  try {
    model = await Onward.load(bytesOf(text));
  } catch (error) {
    return { error: error.name, message: error.message };
  }
  const stream = blocks.length ? model.stream() : null;
  return {
    calls: calls.map((inputs) => tried(() => model.run(...given(inputs)))),
    blocks: blocks.map((inputs) => tried(() => stream(...given(inputs)))),
    finish: finish ? tried(() => stream.finish()) : null,
    traces: traced ? calls.map((inputs) => tried(() => model.trace(...given(inputs)), plainTrace)) : [],
  };
}

if (typeof process !== "undefined" && process.argv[2]) {
  const { readFile } = await import("node:fs/promises");
  const onward = await import("../../src/onward/tracing/page/onward.js");
  const answers = [];
  for (const each of JSON.parse(await readFile(process.argv[2], "utf8"))) answers.push(await answer(onward, each));
  process.stdout.write(JSON.stringify(answers));
}
