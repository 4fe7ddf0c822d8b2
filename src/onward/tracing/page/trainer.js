// A worker that trains one model: { kind, delay, forgetBias } prepares it, and each later message asks for an epoch.
import { batches, SETTINGS, untrained } from "./latch.js";
import { Onward } from "./onward.js";
import { fit } from "./train.js";

let training = null;

async function prepared({ kind, delay, forgetBias }) {
  const { description, weights } = untrained(kind, forgetBias), model = await Onward.create(description, weights);
  return { model, epochs: fit(model, batches(delay), SETTINGS) };
}

async function next() {
  const { model, epochs } = await training;
  return { loss: epochs.next().value, weights: model.weights };
}

addEventListener("message", ({ data }) => {
  if (data.kind) training = prepared(data);
  else next().then(postMessage, (error) => postMessage({ error: error.message }));
});
