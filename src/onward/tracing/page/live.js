// Training that one watches: an RNN, an LSTM and a GRU learn to remember a pulse, each in a worker.
import { gradientMap, normsOf, plot, stateGradients } from "./backward.js";
import { $, button, make, note, number, svg } from "./dom.js";
import { inOrder, paint } from "./heatmap.js";
import { example, KINDS, python, untrained } from "./latch.js";
import { Onward, Tensor } from "./onward.js";
import { Rows } from "./record.js";
import { pointsOf } from "./timeline.js";

const EPOCHS = 60;
const TOLD = 10; // epochs between two announcements of the progress
const KEEPERS = { RNN: ["h", "Hidden state h: an RNN has no gates"], LSTM: ["f", "Forget gate f: keeps the cell state"], GRU: ["z", "Update gate z: keeps the state"] };
const DASHES = { RNN: "2 4", LSTM: null, GRU: "12 4" };
const LEAD =
  "Three networks of 16 units learn a task that needs memory. They read two pulses and then zeros; the answer, once after the last step, " +
  "is the second pulse. They see the same 640 sequences in each epoch, in 20 batches, with Adam at a learning rate of 0.01 and gradients " +
  "clipped at a norm of 1. Their weights are initialized as in PyTorch, and the forget bias is added to the gates that keep the state: the forget " +
  "gate of the LSTM and the update gate of the GRU. An RNN has none. The pictures show a sequence that is not among the 640.";

let models = [], playing = false, controls = null, again = null; // again(): reset, and tell what goes wrong

// ---- Control -----------------------------------------------------------------------------------------------------

const slider = (id, text, attributes) => {
  const shown = make("output", { for: id }), input = make("input", { id, type: "range", ...attributes, on: { input: () => shown.replaceChildren(input.value), change: () => again() } });
  shown.append(attributes.value);
  return { input, element: make("label", { class: "field" }, text, input, shown) };
};

/** Build the section, once; attempt(promise) tells the reader what goes wrong. */
export function start(embedded, attempt) {
  if (embedded) return $("live").replaceChildren(note("A page in a single file has no workers: to train, run onward explore."));
  const delay = slider("delay", "Delay in steps", { min: 5, max: 50, step: 5, value: "20" });
  const bias = slider("forget-bias", "Forget bias", { min: -1, max: 4, step: 0.5, value: "1" });
  controls = { delay: delay.input, bias: bias.input, play: button("Train", toggle, { id: "train", class: "primary" }), progress: make("p", { class: "note", role: "status", id: "progress" }) };
  $("live").replaceChildren(
    make("p", { class: "lead" }, LEAD),
    make("div", { class: "pickers" }, controls.play, button("Reset", () => again(), { id: "train-reset" }), delay.element, bias.element),
    controls.progress, make("div", { id: "curves" }), make("div", { class: "trio", id: "trained" }),
    make("details", {}, make("summary", {}, "The same numbers in Python"), make("pre", { tabindex: "0", id: "python", "aria-label": "Program in Python" })));
  again = () => attempt(reset());
  again();
}

function play(on) {
  playing = on;
  controls.play.textContent = on ? "Pause" : "Train";
  controls.play.disabled = !models.length || epochs() === EPOCHS;
}

function toggle() {
  play(!playing);
  if (!playing) tell();
  else if (models.every(({ waiting }) => !waiting)) train();
}

/** Start again from the initial weights. */
async function reset() {
  for (const { worker } of models) worker?.terminate();
  const delay = Number(controls.delay.value), forgetBias = Number(controls.bias.value), mine = (models = []);
  play(false);
  const ready = await Promise.all(KINDS.map(async (kind) => {
    const { description, weights } = untrained(kind, forgetBias, false), model = await Onward.create(description, weights);
    return { kind, delay, forgetBias, model, worker: null, losses: [], waiting: false };
  }));
  if (mine !== models) return;
  models = ready;
  play(false);
  $("python").textContent = python(delay, forgetBias, EPOCHS);
  draw();
  tell();
}

/** The number of epochs that all models have seen. */
const epochs = () => Math.min(...models.map(({ losses }) => losses.length));

/** Ask each worker for the next epoch. */
function train() {
  for (const model of models) {
    model.waiting = true;
    model.worker ??= trainerOf(model);
    model.worker.postMessage({});
  }
}

function trainerOf(model) {
  const { kind, delay, forgetBias } = model, worker = new Worker(new URL("trainer.js", document.baseURI), { type: "module" });
  worker.addEventListener("message", ({ data }) => models.includes(model) && received(model, data));
  worker.postMessage({ kind, delay, forgetBias });
  return worker;
}

/** Once all workers have answered, show the epoch and go on. */
function received(model, { loss, weights, error }) {
  if (error) return controls.progress.replaceChildren(`The ${model.kind} cannot go on: ${error}`);
  Object.assign(model, { waiting: false, loss, weights });
  if (models.some(({ waiting }) => waiting)) return;
  for (const each of models) {
    each.losses.push(each.loss);
    each.model.update(Object.fromEntries(Object.entries(each.weights).map(([name, array]) => [name.replace(/^2/, "1"), array])));
  }
  draw();
  if (epochs() === EPOCHS) play(false);
  if (playing) train();
  if (epochs() % TOLD === 0) tell();
}

// ---- Pictures ----------------------------------------------------------------------------------------------------

/** Say how far the training is; a screen reader hears it. */
function tell() {
  const done = models.map(({ kind, losses }) => `${kind} ${losses.at(-1)?.toPrecision(2)}`);
  controls.progress.textContent = epochs() > 0 ? `After ${epochs()} of ${EPOCHS} epochs, the mean squared error is: ${done.join(", ")}.` : "Not trained yet. Press Train.";
}

/** Draw the section, also again in the colors of another theme. */
export function draw() {
  if (!models.length) return;
  const x = example(models[0].delay), T = x.length;
  const runs = models.map((each) => {
    const trace = each.model.trace(new Tensor(x, [T, 1]));
    return { ...each, trace, rows: stateGradients(each.model, x) };
  });
  const line = (kind, values) => ({ name: kind, values, dash: DASHES[kind] });
  $("curves").replaceChildren(
    ...(epochs() ? plot(runs.map(({ kind, losses }) => line(kind, losses)), EPOCHS, "the mean squared error of each epoch, on a logarithmic scale") : []),
    ...plot(runs.map(({ kind, rows }) => line(kind, normsOf(rows))), T, "the length of the gradient of the last answer with respect to the state that each step hands on, on a logarithmic scale"));
  $("trained").replaceChildren(...runs.map((run) => column(run, x)));
}

function column({ kind, losses, trace, rows }, x) {
  const answers = trace.y.data, T = x.length, [gate, meaning] = KEEPERS[kind], { data, shape } = Object.values(trace.layers)[0][gate], H = shape.at(-1);
  const canvas = make("canvas", { role: "img", "aria-label": `${meaning}. Each row is a unit, each column a step` });
  paint(canvas, new Rows(H, data), inOrder(H), gate !== "h", 1);
  return make("div", { "data-kind": kind, "data-losses": JSON.stringify(losses) },
    make("h3", {}, kind),
    note(`Answer after the last step: ${number(answers[T - 1], 2)}. It should be ${number(x[5], 2)}.`),
    answerCurve(kind, x, answers),
    note(meaning), make("div", { class: "map" }, canvas),
    note("Gradient of the last answer, from right to left"), gradientMap(kind, rows));
}

/** The pulses as bars, the right answer as a line, and the answer that the network would give after each step. */
function answerCurve(kind, x, answers) {
  const T = x.length, at = (t) => ((t + 0.5) / T) * 1000, y = (value) => 40 - 32 * Math.max(-1.1, Math.min(1.1, value)), thin = { "vector-effect": "non-scaling-stroke" };
  return svg("svg", { class: "timeline", viewBox: "0 0 1000 80", preserveAspectRatio: "none", role: "img",
    "aria-label": `Two pulses, 0.9 and −0.6, and the answers of the ${kind}; the last one is ${number(answers[T - 1], 2)}` },
    svg("line", { x1: 0, x2: 1000, y1: y(0), y2: y(0), stroke: "var(--line)", ...thin }),
    ...[0, 5].map((t) => svg("line", { x1: at(t), x2: at(t), y1: y(0), y2: y(x[t]), stroke: "var(--muted)", "stroke-width": 4, ...thin })),
    svg("line", { x1: 940, x2: 1000, y1: y(x[5]), y2: y(x[5]), stroke: "var(--mark)", "stroke-width": 3, ...thin }),
    svg("polyline", { points: pointsOf([...answers], at, y), fill: "none", stroke: "var(--accent)", "stroke-width": 2, ...thin }));
}
