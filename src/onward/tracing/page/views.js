// Heat maps, the diagram of a cell, and the equations with their numbers.
import { GATE_NAMES, isGate, ORDER } from "./record.js";

/** An element with attributes and children; `on` holds its listeners. */
export function make(tag, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const visible = (character) => ({ "\n": "↵", "\t": "→", " ": "␣" })[character] ?? character;
export const number = (value, digits = 3) => (value === undefined ? "…" : (Object.is(value, -0) ? 0 : value).toFixed(digits).replace("-", "−"));

// ---- Colors ----------------------------------------------------------------------------------------------------------

let palette = null;
export const forgetColors = () => (palette = null);

function colors() {
  if (palette) return palette;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  const ramp = (stops) => Uint8Array.from({ length: 256 * 3 }, (_, n) => {
    const place = (Math.floor(n / 3) / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low][n % 3] + (place - low) * (stops[low + 1][n % 3] - stops[low][n % 3]);
  });
  palette = {
    sequential: ramp([color("--seq0"), color("--seq1"), color("--seq2")]),
    diverging: ramp([color("--neg"), color("--mid"), color("--pos")]),
  };
  return palette;
}

/** The color of a value: gates from 0 to 1, states from -limit to limit. */
export function colorOf(value, gate, limit = 1) {
  const share = gate ? value : (value / limit + 1) / 2;
  const at = Math.round(Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)) * 255) * 3;
  const ramp = gate ? colors().sequential : colors().diverging;
  return [ramp[at], ramp[at + 1], ramp[at + 2]];
}
const css = (color) => `rgb(${color.join(" ")})`;
const contrast = ([r, g, b]) => (0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#14171a" : "#ffffff");

// ---- Heat maps -------------------------------------------------------------------------------------------------------

/** Paint rows (T, H) with units from top to bottom in the given order. */
export function paint(canvas, rows, order, gate, limit = limitOf(rows)) {
  const T = Math.max(rows.length, 1), H = order.length;
  canvas.width = T;
  canvas.height = H;
  const context = canvas.getContext("2d"), image = context.createImageData(T, H);
  for (let t = 0; t < rows.length; t++)
    for (let n = 0; n < H; n++) {
      const color = colorOf(rows.at(t, order[n]), gate, limit), at = (n * T + t) * 4;
      image.data.set([...color, 255], at);
    }
  context.putImageData(image, 0, 0);
}

/** The color scale of a state: the 98th percentile of the magnitudes. */
export function limitOf(rows) {
  const magnitudes = Array.from(rows.data, Math.abs).sort((a, b) => a - b);
  return magnitudes[Math.floor(0.98 * (magnitudes.length - 1))] || 1;
}

/** A heat map on which the reader chooses a unit and a step with the pointer or the arrow keys. */
export function heatMap(label, choose, describe) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const column = make("div", { class: "col" }), row = make("div", { class: "row-mark" });
  const map = make("div", { class: "map", tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": "1" }, canvas, column, row);
  let rows = null, order = [], t = 0, unit = 0;
  const pick = (event) => {
    const box = map.getBoundingClientRect();
    const step = Math.floor(((event.clientX - box.left) / box.width) * rows.length);
    const n = Math.floor(((event.clientY - box.top) / box.height) * order.length);
    choose(Math.min(Math.max(step, 0), rows.length - 1), order[Math.min(Math.max(n, 0), order.length - 1)]);
  };
  map.addEventListener("pointerdown", pick);
  map.addEventListener("pointermove", (event) => event.buttons && pick(event));
  map.addEventListener("keydown", (event) => {
    const place = order.indexOf(unit), last = rows.length - 1;
    const moves = {
      ArrowLeft: [t - 1, place], ArrowRight: [t + 1, place], ArrowUp: [t, place - 1], ArrowDown: [t, place + 1],
      Home: [0, place], End: [last, place], PageUp: [t, place - 10], PageDown: [t, place + 10],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [step, n] = moves[event.key];
    choose(Math.min(Math.max(step, 0), last), order[Math.min(Math.max(n, 0), order.length - 1)]);
  });
  return {
    element: map,
    paint(newRows, newOrder, gate) {
      rows = newRows;
      order = newOrder;
      paint(canvas, rows, order, gate);
    },
    mark(step, chosen) {
      t = step;
      unit = chosen;
      const T = rows.length || 1, place = order.indexOf(unit);
      column.style.left = `${(t / T) * 100}%`;
      column.style.width = `${100 / T}%`;
      row.style.top = `${(place / order.length) * 100}%`;
      row.style.height = `${100 / order.length}%`;
      row.hidden = place < 0;
      map.setAttribute("aria-valuemax", T);
      map.setAttribute("aria-valuenow", t + 1);
      map.setAttribute("aria-valuetext", describe(t, unit));
    },
  };
}

// ---- The cell --------------------------------------------------------------------------------------------------------

const svg = (tag, attributes = {}, text = null) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
};

function drawing(title, height) {
  const root = svg("svg", { viewBox: `0 0 800 ${height}`, role: "img", "aria-label": title });
  const add = (...elements) => root.append(...elements);
  const text = (x, y, content, kind = "", anchor = "middle") => add(svg("text", { x, y, class: kind, "text-anchor": anchor }, content));
  return {
    root, text,
    wire: (d, value = 0.2, colored = false) =>
      add(svg("path", {
        d, class: "wire", "stroke-width": 1.4 + 4 * Math.min(1, Math.abs(value)),
        ...(colored ? { style: `stroke:${css(colorOf(value, false, 1))}` } : {}),
      })),
    gate: (x, y, name, value, gate, limit = 1) => {
      const color = colorOf(value, gate, limit);
      add(svg("rect", { x: x - 46, y: y - 24, width: 92, height: 48, rx: 10, fill: css(color), stroke: "var(--line)" }));
      const style = `fill:${contrast(color)}`;
      const letter = svg("text", { x, y: y - 5, "text-anchor": "middle", style: `${style};font-weight:600;font-size:12.5px` }, name);
      const shown = svg("text", { x, y: y + 14, "text-anchor": "middle", class: "num", style, "data-value": name }, number(value));
      add(letter, shown);
    },
    op: (x, y, symbol) => {
      add(svg("circle", { cx: x, cy: y, r: 15, class: "op" }));
      text(x, y + 5, symbol);
    },
  };
}

/** The diagram of one unit at one step, with its numbers. */
export function cellDiagram(type, v) {
  if (type === "LSTM") {
    const d = drawing(
      `LSTM cell: the forget gate ${number(v.f)} keeps part of the old cell state ${number(v.c_prev)}, the input gate ${number(v.i)} ` +
        `adds part of the candidate ${number(v.g)}; the new cell state is ${number(v.c)} and the hidden state ${number(v.h)}`, 330);
    d.wire("M94 64H185", v.c_prev, true), d.wire("M215 64H385", v.f * v.c_prev, true), d.wire("M415 64H702", v.c, true);
    d.wire("M200 210V79", v.f), d.wire("M340 210V160Q340 146 354 146H385", v.i), d.wire("M460 210V160Q460 146 446 146H415", v.g, true);
    d.wire("M400 131V79", v.i * v.g, true), d.wire("M650 64V95", v.c, true), d.wire("M650 125V157", Math.tanh(v.c), true);
    d.wire("M572 210V186Q572 172 586 172H635", v.o), d.wire("M650 187V250Q650 264 664 264H702", v.h, true);
    d.wire("M94 292H572", 0.1);
    for (const x of [200, 340, 460, 572]) d.wire(`M${x} 292V234`, 0.1);
    d.op(200, 64, "×"), d.op(400, 64, "+"), d.op(400, 146, "×"), d.op(650, 172, "×"), d.op(650, 110, "τ");
    d.text(673, 115, "tanh", "dim", "start");
    d.gate(200, 210, "f  forget", v.f, true), d.gate(340, 210, "i  input", v.i, true);
    d.gate(460, 210, "g  candidate", v.g, false), d.gate(572, 210, "o  output", v.o, true);
    d.gate(50, 64, "c  before", v.c_prev, false, 2), d.gate(746, 64, "c", v.c, false, 2), d.gate(746, 264, "h", v.h, false);
    d.text(300, 42, `${number(v.f, 2)} × ${number(v.c_prev, 2)} = ${number(v.f * v.c_prev)}`, "num");
    d.text(422, 112, `${number(v.i, 2)} × ${number(v.g, 2)} = ${number(v.i * v.g)}`, "num", "start");
    d.text(530, 42, `sum = ${number(v.c)}`, "num");
    d.text(668, 214, `${number(v.o, 2)} × ${number(Math.tanh(v.c), 2)}`, "num", "start");
    d.text(94, 314, "all gates read this layer's input and h of all units at the step before", "dim", "start");
    return d.root;
  }
  if (type === "GRU") {
    const d = drawing(`GRU cell: the update gate ${number(v.z)} keeps part of the old state ${number(v.h_prev)}; the new state is ${number(v.h)}`, 300);
    d.wire("M92 64H235", v.h_prev, true), d.wire("M265 64H435", v.z * v.h_prev, true), d.wire("M465 64H650", v.h, true);
    d.wire("M250 200V79", v.z), d.wire("M450 176V79", (1 - v.z) * v.n, true), d.wire("M190 200H210", v.r), d.wire("M250 150H434", 1 - v.z);
    d.wire("M150 224V270", 0.1), d.wire("M250 224V270", 0.1), d.wire("M450 224V270", 0.1), d.wire("M92 270H450", 0.1), d.wire("M150 176V120", v.r);
    d.op(250, 64, "×"), d.op(450, 64, "+"), d.op(450, 150, "×");
    d.gate(150, 200, "r reset", v.r, true), d.gate(250, 200, "z update", v.z, true), d.gate(450, 200, "n candidate", v.n, false);
    d.gate(50, 64, "h before", v.h_prev, false), d.gate(692, 64, "h", v.h, false);
    d.text(350, 50, `${number(v.z, 2)} × ${number(v.h_prev, 2)} = ${number(v.z * v.h_prev)}`, "num");
    d.text(474, 118, `(1 − ${number(v.z, 2)}) × ${number(v.n, 2)} = ${number((1 - v.z) * v.n)}`, "num", "start");
    d.text(150, 112, "r weighs the past in n", "dim");
    d.text(92, 290, "this layer's input at this step, and h of all units at the step before", "dim", "start");
    return d.root;
  }
  const d = drawing(`RNN cell: the new state ${number(v.h)} is the activation of ${number(v.a)}`, 150);
  d.wire("M92 70H330", v.h_prev, true), d.wire("M360 70H520", v.a, true), d.wire("M550 70H650", v.h, true), d.wire("M345 128V85", 0.1);
  d.op(345, 70, "Σ"), d.op(535, 70, "τ");
  d.gate(50, 70, "h before", v.h_prev, false), d.gate(692, 70, "h", v.h, false);
  d.text(440, 58, `sum = ${number(v.a)}`, "num"), d.text(345, 144, "this layer's input", "dim"), d.text(535, 106, "tanh", "dim");
  return d.root;
}

// ---- Equations -------------------------------------------------------------------------------------------------------

// The lines of onward/textbook.py, and the same lines with numbers.
export const TEXTBOOK = {
  LSTM: [
    ["f = sigmoid(Wf @ ax + bf)", "f", (v) => `σ(${number(v.f_preactivation)}) = ${number(v.f, 6)}`],
    ["i = sigmoid(Wi @ ax + bi)", "i", (v) => `σ(${number(v.i_preactivation)}) = ${number(v.i, 6)}`],
    ["o = sigmoid(Wo @ ax + bo)", "o", (v) => `σ(${number(v.o_preactivation)}) = ${number(v.o, 6)}`],
    ["g = tanh(Wc @ ax + bc)", "g", (v) => `tanh(${number(v.g_preactivation)}) = ${number(v.g, 6)}`],
    ["c_next = f * c_prev + i * g", null, (v) => `${number(v.f)} × ${number(v.c_prev)} + ${number(v.i)} × ${number(v.g)} = ${number(v.c, 6)}`],
    ["a_next = o * tanh(c_next)", null, (v) => `${number(v.o)} × tanh(${number(v.c)}) = ${number(v.h, 6)}`],
  ],
  GRU: [
    ["r = sigmoid(Wr @ ax + br)", "r", (v) => `σ(${number(v.r_preactivation)}) = ${number(v.r, 6)}`],
    ["z = sigmoid(Wz @ ax + bz)", "z", (v) => `σ(${number(v.z_preactivation)}) = ${number(v.z, 6)}`],
    ["n = tanh(Wnx @ xt + bn + r * (Wna @ a_prev + parameters[\"bnr\"]))", null, (v) => `tanh(${number(v.n_preactivation)}) = ${number(v.n, 6)}`],
    ["a_next = (1 - z) * n + z * a_prev", null, (v) => `(1 − ${number(v.z)}) × ${number(v.n)} + ${number(v.z)} × ${number(v.h_prev)} = ${number(v.h, 6)}`],
  ],
  RNN: [["a_next = tanh(Wax @ xt + Waa @ a_prev + ba)", "h", (v) => `tanh(${number(v.h_preactivation ?? v.a)}) = ${number(v.h, 6)}`]],
};

/** The equations of a unit; parts(gate) splits the argument of a gate into its sums, or returns null. */
export function equations(type, values, parts) {
  return TEXTBOOK[type].map(([line, gate, filled]) => {
    const split = gate ? parts(gate) : null;
    const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
    return make("div", { class: "eq" },
      make("code", {}, line),
      make("span", { class: "numbers mono" }, filled(values)),
      split && make("span", { class: "parts" },
        `The argument: ${signed(split.input)} from the input, ${signed(split.state)} from h of the step before, ${signed(split.bias)} from the biases. ` +
          `Largest terms: ${split.largest.map(({ name, value }) => `${name} ${signed(value)}`).join(", ")}.`));
  });
}

/** The values of one unit at one step; `_prev` are those of the step before. */
export function valuesOf(layer, t, unit) {
  const values = {};
  for (const [name, rows] of Object.entries(layer.arrays)) {
    if (unit >= rows.width) continue;
    values[name] = rows.at(t, unit);
    values[`${name}_prev`] = rows.at(t - 1, unit);
  }
  values.a = values.h_preactivation;
  return values;
}

/** Curves of one unit over time. */
export function lifeLines(layer, unit, t) {
  const T = layer.arrays.h.length;
  return ORDER[layer.type].filter((name) => layer.arrays[name] && unit < layer.arrays[name].width).map((name) => {
    const rows = layer.arrays[name], gate = isGate(name);
    const limit = gate ? 1 : Math.max(1, ...Array.from({ length: T }, (_, n) => Math.abs(rows.at(n, unit))));
    const x = (n) => ((n + 0.5) / T) * 1000, y = (value) => (gate ? 66 - value * 58 : 37 - (value / limit) * 29);
    const points = Array.from({ length: T }, (_, n) => `${x(n).toFixed(1)},${y(rows.at(n, unit)).toFixed(1)}`).join(" ");
    const root = svg("svg", { viewBox: "0 0 1000 74", preserveAspectRatio: "none", role: "img", "aria-label": `${GATE_NAMES[name][0]} of unit ${unit} over time` });
    root.append(
      svg("line", { x1: 0, x2: 1000, y1: y(0), y2: y(0), stroke: "var(--line)", "vector-effect": "non-scaling-stroke" }),
      svg("line", { x1: x(t), x2: x(t), y1: 0, y2: 74, stroke: "var(--mark)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }),
      svg("polyline", { points, fill: "none", stroke: "var(--accent)", "stroke-width": 1.8, "vector-effect": "non-scaling-stroke" }),
    );
    return { name, root };
  });
}
