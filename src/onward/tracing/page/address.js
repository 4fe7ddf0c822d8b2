// The address of the page: it keeps the model, the input, the layer, the unit and the step.
import { state } from "./state.js";

const MOST_NUMBERS = 1200; // the longest signal that fits into an address
const SCALE = 10_000;      // signals are kept to four decimal places

let waiting = null;

export function show() {
  if (location.protocol === "about:") return; // a frame in a notebook
  clearTimeout(waiting);
  waiting = setTimeout(() => history.replaceState(null, "", `#${address()}`), 150);
}

function address() {
  const { entry, model, text, signal, layer, unit, step } = state;
  const parts = new URLSearchParams({ model: entry.id, layer, unit, step: step + 1 });
  if (entry.kind === "text") parts.set("text", text);
  else if (model && signal.length <= MOST_NUMBERS) parts.set("signal", Array.from(signal, (value) => Math.round(value * SCALE)).join("_"));
  return parts;
}

/** What an address chooses; what it leaves out is undefined. */
export function chosen() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const part = (name, read = (value) => value) => (parts.has(name) ? read(parts.get(name)) : undefined);
  const whole = (value) => Math.trunc(Number(value)) || 0;
  return {
    model: part("model"), text: part("text"), layer: part("layer"), unit: part("unit", whole),
    step: part("step", (value) => whole(value) - 1),
    signal: part("signal", (value) => Float32Array.from(value.split("_"), (each) => Number(each) / SCALE)),
  };
}
