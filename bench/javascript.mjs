// Print the shortest time of a call in microseconds: node javascript.mjs MODULE MODEL INPUTS [CORE]
// INPUTS is a JSON file of [shape, numbers], CORE the WebAssembly to use instead of the one that the module chooses.
import { readFile } from "node:fs/promises";

const [module, file, inputs, core] = process.argv.slice(2);
const { Onward, Tensor } = await import(module);
const model = await Onward.load(new Uint8Array(await readFile(file)), core ? { wasm: await readFile(core) } : {});
const x = JSON.parse(await readFile(inputs, "utf8")).map(([shape, numbers]) => new Tensor(Float32Array.from(numbers), shape));
let best = Infinity;
for (let call = 0; call < 10_000; call++) {  // the first ones compile
  const start = process.hrtime.bigint();
  model.run(...x);
  best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e3);
}
console.log(best);
