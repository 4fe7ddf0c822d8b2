// Runs each case of a JSON file in Node and prints the outputs: node answers.mjs CASES.json
import { readFile } from "node:fs/promises";
import { Onward, Tensor } from "../../src/onward/tracing/page/onward.js";

const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const plain = ({ data, shape }) => ({ data: base64(data), shape });

const cases = JSON.parse(await readFile(process.argv[2], "utf8"));
const answers = [];
for (const { model: path, x, shape, integers, lengths, streams } of cases) {
  const model = await Onward.load(await readFile(path));
  const bytes = Uint8Array.from(Buffer.from(x, "base64"));
  const input = new Tensor(integers ? new Int32Array(bytes.buffer) : new Float32Array(bytes.buffer), shape);
  const answer = { y: plain(model.run(input, { lengths })) };
  const trace = model.trace(input, { lengths });
  answer.trace = {};
  for (const [layer, arrays] of Object.entries(trace.layers))
    for (const [name, array] of Object.entries(arrays)) answer.trace[`${layer}.${name}`] = plain(array);
  if (streams) {
    const stream = model.stream(), features = shape.slice(1);
    const step = features.reduce((a, b) => a * b, 1);
    answer.stream = [];
    for (let t = 0; t < shape[0]; t++)
      answer.stream.push(plain(stream(new Tensor(input.data.slice(t * step, (t + 1) * step), features))));
  }
  answers.push(answer);
}
console.log(JSON.stringify(answers));
