// Which earlier inputs a prediction depends on: how it changes with each of them erased.
import { colorOf, css, inkOn } from "./colors.js";
import { make, note, number, percent, svg, visible } from "./dom.js";
import { erase } from "./interventions.js";
import { largest, pointsOf } from "./timeline.js";
import { answersOf, changedVariant, choose, classes, inputOf, labelOf, outputsAt, state, width } from "./state.js";

const DELAY = 200;  // milliseconds without a change before it is computed
const ARCS = 12;    // at most
const FAINTEST = 0.05; // the least change that has an arc, relative to the largest
const HEIGHT = 190, BASE = 112, CURVE = 64; // of the picture of a signal: the arcs stand on the base, above the curve

let result = null, waiting = null, run = 0;

export function build() {
  result = make("div", { "aria-live": "polite", id: "influence" });
  return [make("h3", {}, "Which earlier inputs does this prediction depend on?"), result];
}

export function show() {
  clearTimeout(waiting);
  waiting = setTimeout(answer, DELAY);
}

/** Erase the inputs one after the other, and draw what is known whenever the page has time. */
async function answer() {
  if (!state.model) return;
  const mine = ++run, { step } = state, outputs = outputsAt(state.record, step), isShown = () => mine === run && state.step === step;
  const best = classes() ? outputs.reduce((a, b) => (b.value > a.value ? b : a)) : outputs[0];
  const changes = new Float32Array(step + 1), without = new Float32Array(step + 1);
  let known = step + 1;
  const found = (n, row) => {
    without[n] = answersOf([...row])[best.k].value;
    changes[n] = best.value - without[n];
    known = n;
  };
  result.removeAttribute("data-changes");
  await erase(changedVariant(), inputOf(true), step, found, isShown);
  if (!isShown() || known > 0) return;
  draw(best, changes, without);
  result.dataset.changes = JSON.stringify([...changes]);
}

function draw(best, changes, without) {
  const strength = changes.map(Math.abs), most = Math.max(...strength), top = strength.indexOf(most), named = classes();
  const shown = (value) => (named ? percent(value, 1) : number(value)), isText = state.entry.kind === "text";
  const subject = named ? `the probability of ${best.name}` : `the ${state.entry.predicts?.toLowerCase() ?? best.name}`;
  const arcs = [...strength.keys()].filter((n) => n < state.step && strength[n] > FAINTEST * most)
    .sort((a, b) => strength[b] - strength[a]).slice(0, ARCS);
  result.replaceChildren(
    make("p", {}, `After step ${state.step + 1}, ${subject} depends most on step ${top + 1}, ${labelOf(top)}: ` +
      `with that input erased, it is ${shown(without[top])} instead of ${shown(best.value)}.`),
    isText ? text(changes, most, arcs) : signal(changes, most, arcs),
    note(`Each input in turn is replaced by the mean of all ${isText ? "embedded characters" : "inputs"}, and the model runs again. ` +
      "Orange inputs raise the answer, blue ones lower it: the stronger the color, the more. Arcs lead from the strongest."));
  if (isText) placeArcs(arcs, changes, most);
}

const describe = (n, change) => `step ${n + 1}: ${change < 0 ? "−" : "+"}${Math.abs(change).toPrecision(3)}`;
const stroke = (change, most) => ({
  stroke: change < 0 ? "rgb(var(--neg))" : "rgb(var(--pos))", fill: "none", "vector-effect": "non-scaling-stroke",
  "stroke-width": 1 + 3 * (Math.abs(change) / most), "stroke-opacity": 0.35 + 0.65 * (Math.abs(change) / most),
});

// ---- A text ----------------------------------------------------------------------------------------------------------

function text(changes, most) {
  const characters = [...state.text];
  return make("div", { class: "tape whole arched" }, ...Array.from(changes, (change, n) => {
    const color = colorOf(most ? change / most : 0, false), style = `background:${css(color)};color:${inkOn(color)}`;
    const attributes = { style, title: describe(n, change), class: n === state.step ? "at" : null, on: { click: () => choose(n) } };
    return make("span", attributes, visible(state.inputs[n] ?? characters[n]));
  }));
}

/** Draw the arcs over the characters, whose places are known only now. */
function placeArcs(arcs, changes, most) {
  const tape = result.querySelector(".tape"), box = tape.getBoundingClientRect(), spans = [...tape.children];
  const place = (n) => {
    const { left, width, top } = spans[n].getBoundingClientRect();
    return [left - box.left + width / 2, top - box.top + 2];
  };
  const [x, y] = place(state.step);
  const paths = arcs.map((n) => {
    const [from, at] = place(n), height = Math.min(26, 8 + Math.abs(x - from) / 8);
    return svg("path", { d: `M${from} ${at}Q${(from + x) / 2} ${Math.min(at, y) - height} ${x} ${y}`, ...stroke(changes[n], most) });
  });
  tape.append(svg("svg", { class: "arcs", width: box.width, height: box.height, "aria-hidden": "true" }, ...paths));
}

// ---- A signal --------------------------------------------------------------------------------------------------------

/** The input as a curve or, with several features, as its length; above it the arcs, below it a bar for each step. */
function signal(changes, most, arcs) {
  const { data } = inputOf(true), I = width(), T = changes.length, count = data.length / I;
  const values = Array.from({ length: count }, (_, t) => (I === 1 ? data[t] : Math.hypot(...data.subarray(t * I, (t + 1) * I))));
  const limit = largest(values, 0) || 1, x = (t) => ((t + 0.5) / count) * 1000;
  const middle = BASE + CURVE / 2, points = pointsOf(values, x, (value) => middle - (value / limit) * CURVE * 0.45);
  const arc = (n) => svg("path", {
    d: `M${x(n)} ${BASE}Q${(x(n) + x(T - 1)) / 2} ${BASE - 1.8 * Math.min(BASE / 1.8 + 44, 20 + ((T - n) / count) * 180)} ${x(T - 1)} ${BASE}`, ...stroke(changes[n], most),
  }, svg("title", {}, describe(n, changes[n])));
  const bar = (change, n) => svg("rect", {
    x: x(n) - 500 / count, width: 1000 / count, y: HEIGHT - 12, height: 12, fill: css(colorOf(most ? change / most : 0, false)),
    class: "erased", on: { click: () => choose(n) },
  }, svg("title", {}, describe(n, change)));
  return svg("svg", { class: "influence", viewBox: `0 0 1000 ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": "The input over time, with arcs from the steps that the answer depends on" },
    svg("polyline", { points, fill: "none", stroke: "var(--muted)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }),
    svg("line", { x1: x(T - 1), x2: x(T - 1), y1: 0, y2: HEIGHT, stroke: "var(--mark)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }),
    ...[...arcs].reverse().map(arc), ...Array.from(changes, bar));
}
