// Gradients through time: how much earlier states matter to the last output, in an LSTM and an RNN side by side.
import { $, button, make, note, number, scientific, svg } from "./dom.js";
import { inOrder, paint } from "./heatmap.js";
import { Tensor } from "./onward.js";
import { Rows } from "./record.js";
import { state } from "./state.js";

const MOST_STEPS = 120; // the last steps of a longer input
const BACK = 30;        // steps whose share of the gradient is stated
const DECADES = 5;      // powers of ten between the strongest and the palest color
const DELAY = 200;      // milliseconds without a change before the gradients are computed
const PLOT = { low: 176, high: 14, decades: 30 };

const LEAD =
  "How much would the last output change if the state that an earlier step hands on changed? The state is h in the RNN, c in " +
  "the LSTM. The core's backward pass computes this gradient from right to left: at every step, the RNN multiplies it by a matrix " +
  "and the slope of its tanh, the LSTM mainly by the forget gate. How fast it shrinks depends on the weights, and so on the " +
  "initialization and the training of each model.";
const DASHES = [null, "2 4", "6 4", "12 4", "12 4 2 4"]; // of the lines of one kind of cell

let waiting = null;

/** The link to a model that can be compared; `open` opens it. */
let openModel = null;
export const start = (open) => (openModel = open);

export function open() {
  if (state.compared.length) return;
  const other = [...state.models].reverse().find(({ compare }) => compare);
  $("gradients").replaceChildren(other
    ? make("p", { class: "lead" }, "This comparison needs an LSTM and an RNN that learned the same task. ",
      button(`Open “${other.title}”`, () => openModel(other)))
    : make("p", { class: "lead" }, "This comparison needs the models that come with onward explore."));
}

export function run() {
  if (!state.compared.length) return;
  clearTimeout(waiting);
  waiting = setTimeout(compare, $("gradients").children.length ? DELAY : 0);
}

/**
 * The gradient of output 0 after the last step with respect to the state that each step hands on, as rows (T, H):
 * c for an LSTM, otherwise h. The model is a recurrent layer and a Linear layer.
 */
export function stateGradients(model, x) {
  const [layer, linear] = model.layers, { I, H } = layer, T = x.length / I;
  const step = (t) => new Tensor(x.slice(t * I, (t + 1) * I), [1, 1, I]), states = [{}];
  for (let t = 0; t < T; t++) states.push(layer.run(step(t), states[t]).state);
  const first = new Float32Array(linear.O).fill(1, 0, 1);
  const { dx: dy } = linear.backward(new Tensor(first, [1, 1, linear.O])), none = new Tensor(new Float32Array(H), [1, 1, H]);
  const data = new Float32Array(T * H), { c } = states[T];
  let after = { dh: null, dc: null };
  for (let t = T - 1; t > 0; t--) {
    after = layer.backward(step(t), t === T - 1 ? dy : none, states[t], after);
    data.set(after.dc ?? after.dh, (t - 1) * H);
  }
  const o = c && model.trace(new Tensor(x, [T, I])).layers[model.names[0]].o.data.slice(-H);
  data.set(dy.data.map((value, unit) => (c ? value * o[unit] * (1 - Math.tanh(c[unit]) ** 2) : value)), (T - 1) * H);
  return new Rows(H, data);
}

export const normsOf = (rows) => Array.from({ length: rows.length }, (_, t) => Math.hypot(...rows.row(t)));

function compare() {
  const x = state.signal.slice(-MOST_STEPS);
  const all = state.compared.map(({ name, about, model }) => {
    const rows = stateGradients(model, x), norms = normsOf(rows), T = norms.length, back = Math.min(BACK, T - 1);
    return { name, about, rows, norms, back, ratio: norms[T - 1 - back] / norms[T - 1] };
  });
  $("gradients").replaceChildren(
    make("p", { class: "lead" }, LEAD),
    ...plot(all.map(({ name, norms }) => ({ name, values: norms })), all[0].norms.length, "the length of the gradient over time, on a logarithmic scale"),
    make("div", { class: "pair" }, ...all.map(explained)),
    note("Each row is a unit, each column a step. Strong colors are the largest gradients of a picture, " +
      `pale ones are at least ${(10 ** DECADES).toLocaleString("en")} times smaller.`));
}

/** The gradients with respect to each unit's state over time, on a logarithmic scale. */
export function gradientMap(name, rows) {
  const canvas = make("canvas", { role: "img", "aria-label": `Gradients of the ${name} over time` });
  const most = Math.max(...rows.data.map(Math.abs)) || 1;
  const shade = (value) => Math.sign(value) * Math.max(0, 1 + Math.log10(Math.abs(value) / most + 1e-9) / DECADES);
  paint(canvas, new Rows(rows.width, rows.data.map(shade)), inOrder(rows.width), false, 1);
  return make("div", { class: "map" }, canvas);
}

function explained({ name, about, rows, back, ratio }) {
  return make("div", {}, make("h3", {}, name), gradientMap(name, rows),
    make("p", { class: "note", "data-ratio": ratio, "data-name": name },
      `${about} ${back} steps back, the gradient is ${scientific(ratio)} times that of the last step.`));
}

const COLORS = { RNN: "var(--mark)", LSTM: "var(--accent)", GRU: "var(--muted)" };
const kindOf = ({ name }) => name.split(",")[0];

/** Lines {name, values, dash} of at most `count` positive values on a logarithmic scale, with their key. */
export function plot(lines, count, title) {
  const positive = lines.flatMap(({ values }) => values).filter((value) => value > 0).map(Math.log10);
  const high = Math.max(...positive), low = Math.max(Math.min(...positive), high - PLOT.decades);
  const y = (value) => PLOT.high + ((high - Math.max(Math.log10(value || 1e-300), low)) / (high - low || 1)) * (PLOT.low - PLOT.high);
  const dash = (line) => line.dash ?? DASHES[lines.filter((other) => kindOf(other) === kindOf(line)).indexOf(line) % DASHES.length];
  const style = (line) => ({ fill: "none", stroke: COLORS[kindOf(line)], "stroke-width": 2.5, "stroke-dasharray": dash(line), "vector-effect": "non-scaling-stroke" });
  const drawn = lines.map((line) => svg("polyline", {
    points: line.values.map((value, t) => `${((t + 0.5) / count) * 1000},${y(value)}`).join(" "), ...style(line),
  }));
  const mark = (exponent) => (high - low < 4 ? make("span", {}, scientific(10 ** exponent)) : make("span", {}, "10", make("sup", {}, number(exponent, 0))));
  const key = (line) => make("span", { class: "key" },
    svg("svg", { width: 34, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 34, y1: 4, y2: 4, ...style(line) })), line.name);
  const picture = { viewBox: "0 0 1000 190", preserveAspectRatio: "none", role: "img", "aria-label": title };
  return [
    make("div", { class: "plot" }, make("div", { class: "axis", "aria-hidden": "true" }, mark(high), mark(low)), svg("svg", picture, ...drawn)),
    make("p", { class: "note legend" }, ...lines.map(key), title),
  ];
}
