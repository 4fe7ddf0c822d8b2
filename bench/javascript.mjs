// Print the shortest time of a call in microseconds: node javascript.mjs MODULE MODEL INPUTS, a JSON file of [shape, numbers].
import { readFile } from "node:fs/promises";

const [module, file, inputs] = process.argv.slice(2);
const { Onward, Tensor } = await import(module);
const model = await Onward.load(new Uint8Array(await readFile(file)));
const x = JSON.parse(await readFile(inputs, "utf8")).map(([shape, numbers]) => new Tensor(Float32Array.from(numbers), shape));
const CALLS = 10;
let best = Infinity;
for (let round = 0; round < 1000; round++) {  // the first ones compile
  const start = process.hrtime.bigint();
  for (let call = 0; call < CALLS; call++) model.run(...x);
  best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e3 / CALLS);
}
console.log(best);
