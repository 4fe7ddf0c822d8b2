// Which earlier inputs a prediction depends on: the gradient of its score with respect to them.
import { colorOf, css, inkOn } from "./colors.js";
import { make, note, visible } from "./dom.js";
import { Tensor } from "./onward.js";
import { changed, changedModel, choose, classes, inputOf, labelOf, outputsAt, state } from "./state.js";

const WINDOW = 40;      // earlier steps whose influence is computed
const DELAY = 200;      // milliseconds without a change before it is computed
const STEP = 1e-2;      // the step of central differences
const MOST_WORK = 2e9;  // multiplications of central differences

let result = null, waiting = null;

/** A copy of a model with some of its layers. */
const part = (model, from, to) =>
  Object.assign(Object.create(Object.getPrototypeOf(model)), model, { layers: model.layers.slice(from, to), batchFirst: false });

/** Whether the core's backward pass covers a layer. */
const hasGradient = (layer) => layer.plain ?? !("call" in layer);

/**
 * The length of the gradient of score k after step t with respect to each of the last inputs, embedded if they are
 * characters: {first, norms, method}, where `first` is the first of these inputs. The score is that before a final
 * Softmax or Activation layer.
 */
export function influence(model, x, t, k) {
  const embedded = model.layers[0].table ? 1 : 0, last = model.layers.length - ("call" in model.layers.at(-1) ? 1 : 0);
  const net = part(model, embedded, last), exact = net.layers.every(hasGradient);
  const steps = exact ? WINDOW : differenceSteps(net), first = Math.max(0, t + 1 - steps), T = t + 1 - first;
  const size = x.data.length / x.shape[0], between = (from, to) => new Tensor(x.data.slice(from * size, to * size), [to - from, ...x.shape.slice(1)]);
  const start = first ? model.trace(between(0, first)).state : null;
  const inputs = embedded ? model.layers[0].run(between(first, t + 1)) : between(first, t + 1);
  const { data } = exact ? backward(net, inputs, k, start) : differences(net, inputs, k, start);
  const I = data.length / T;
  return {
    first, norms: Array.from({ length: T }, (_, n) => Math.hypot(...data.subarray(n * I, (n + 1) * I))),
    method: exact ? "the core's backward pass" : "central differences, because the core has no backward pass for a layer of this model",
  };
}

function backward(net, inputs, k, state) {
  const y = net.run(inputs, { state }), O = y.shape.at(-1), dy = new Float32Array(y.data.length);
  dy[dy.length - O + k] = 1;
  return net.gradient(inputs, dy, { state });
}

/** How many steps central differences can cover: each needs two runs per feature. */
function differenceSteps(net) {
  const weights = net.recurrent.reduce((sum, { gates, H, I, P }) => sum + gates.length * H * (I + P), 0);
  return Math.min(WINDOW, Math.max(1, Math.floor(Math.sqrt(MOST_WORK / (2 * net.recurrent[0].I * weights)))));
}

function differences(net, inputs, k, state) {
  const [T, I] = inputs.shape, B = 2 * T * I, x = new Float32Array(T * B * I), step = STEP;
  for (let t = 0; t < T; t++) for (let b = 0; b < B; b++) x.set(inputs.data.subarray(t * I, (t + 1) * I), (t * B + b) * I);
  for (let n = 0; n < T * I; n++)
    for (const [b, sign] of [[2 * n, 1], [2 * n + 1, -1]]) x[(Math.floor(n / I) * B + b) * I + (n % I)] += sign * step;
  const repeat = (array) => array && Float32Array.from({ length: array.length * B }, (_, n) => array[n % array.length]);
  const states = state?.map(({ h, c }) => ({ h: repeat(h), c: repeat(c) }));
  const y = net.run(new Tensor(x, [T, B, I]), { state: states }), O = y.shape.at(-1), rows = y.data.subarray(y.data.length - B * O);
  return { data: Float32Array.from({ length: T * I }, (_, n) => (rows[2 * n * O + k] - rows[(2 * n + 1) * O + k]) / (2 * step)) };
}

export function build() {
  result = make("div", { "aria-live": "polite", id: "influence" });
  return [make("h3", {}, "Which earlier inputs does this prediction depend on?"), result];
}

export function show() {
  clearTimeout(waiting);
  waiting = setTimeout(answer, DELAY);
}

function answer() {
  if (!state.model) return;
  const outputs = outputsAt(state.record, state.step), best = classes() ? outputs.reduce((a, b) => (b.value > a.value ? b : a)) : outputs[0];
  const { first, norms, method } = influence(changedModel(), inputOf(true), state.step, best.k), most = Math.max(...norms);
  const subject = classes() ? `the score of ${best.name}` : `the ${best.name}`, isText = state.entry.kind === "text";
  const rounded = state.model.recurrent[0].precision, top = first + norms.indexOf(most), characters = [...state.text];
  result.replaceChildren(
    make("p", {}, `After step ${state.step + 1}, ${subject} depends most on step ${top + 1}, ${labelOf(top)}:`),
    make("div", { class: "tape whole" }, ...norms.map((norm, n) => {
      const color = colorOf(most ? norm / most : 0, true), title = `step ${first + n + 1}: ${norm.toPrecision(3)}`;
      const text = isText ? visible(state.inputs[first + n] ?? characters[first + n]) : ` ${first + n + 1} `;
      const style = `background:${css(color)};color:${inkOn(color)}`;
      return make("span", { style, title, on: { click: () => choose(first + n) } }, text);
    })),
    note(`The stronger the color, the more it would change with the ${isText ? "embedded character" : "step"}. This is the length ` +
      `of the gradient of the output with respect to each of the last ${norms.length} inputs, computed by ${method}` +
      (rounded ? `, with the ${rounded} weights in float32` : "") +
      (changed() ? ", with the changes of “what if”, but unscaled forget gates" : "") + "."));
}
