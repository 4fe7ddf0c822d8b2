// One unit at one step: the cell as a diagram with its numbers, and the unit's gates and states over time.
import { colorOf, css, inkOn } from "./colors.js";
import { $, make, note, number, svg } from "./dom.js";
import { arraysOf } from "./layer.js";
import { isGate, meaningOf, valuesOf } from "./record.js";
import { choose, labelOf, state } from "./state.js";
import { timeline } from "./timeline.js";

/** Connect the controls, once. */
export function start() {
  $("unit-number").addEventListener("change", () => choose(state.step, Number($("unit-number").value)));
  $("step-number").addEventListener("change", () => choose(Number($("step-number").value) - 1));
}

export function show() {
  const { unit, step } = state, layer = state.record.layer(state.layer), values = valuesOf(layer, step, unit);
  $("unit-name").textContent = `Unit ${unit} at step ${step + 1}, ${labelOf(step)}`;
  Object.assign($("unit-number"), { max: layer.H - 1, value: unit });
  Object.assign($("step-number"), { max: state.record.length, value: step + 1 });
  $("cell").replaceChildren(CELLS[layer.type]?.(values) ?? note(`The page has no diagram of a ${layer.type}.`));
  $("cell").dataset.values = JSON.stringify(values); // the exact numbers, for tests and for scripts
  $("life").replaceChildren(...arraysOf(layer).filter((name) => unit < layer.arrays[name].width).map((name) => lifeLine(layer, name)));
}

// ---- The cell --------------------------------------------------------------------------------------------------------

const BOX = { width: 92, height: 48 };
const THIN = 1.4;
const thickness = (value) => THIN + 4 * Math.min(1, Math.abs(value));

/** A drawing: wires, boxes with numbers, operators and text, each drawn over what came before. */
function drawing(title, height) {
  const root = svg("svg", { viewBox: `0 0 460 ${height}`, role: "img", "aria-label": title });
  const text = (x, y, content, kind = "", anchor = "middle") => root.append(svg("text", { x, y, class: kind, "text-anchor": anchor }, content));
  const box = (x, y, name, value, gate, limit = 1) => {
    const color = colorOf(value, gate, limit), fill = inkOn(color), anchor = { x, "text-anchor": "middle" };
    root.append(
      svg("rect", { x: x - BOX.width / 2, y: y - BOX.height / 2, ...BOX, rx: 10, fill: css(color), stroke: "var(--edge)" }),
      svg("text", { ...anchor, y: y - 5, class: "letter", style: `fill:${fill}` }, name),
      svg("text", { ...anchor, y: y + 14, class: "num", style: `fill:${fill}`, "data-value": name }, number(value)),
    );
  };
  return {
    root, text,
    /** The thicker, the larger the value. */
    wire: (d, value = 0) => root.append(svg("path", { d, class: "wire", "stroke-width": thickness(value) })),
    /** A wire in the color of a state, over a thin one that shows also where the state is 0. */
    stateWire: (d, value) => {
      const style = `stroke:${css(colorOf(value, false))};stroke-opacity:${Math.min(1, 4 * Math.abs(value))}`;
      root.append(svg("path", { d, class: "wire", "stroke-width": THIN }), svg("path", { d, class: "wire", "stroke-width": thickness(value), style }));
    },
    gate: (x, y, name, value) => box(x, y, name, value, true),
    state: (x, y, name, value, limit) => box(x, y, name, value, false, limit),
    op: (x, y, symbol) => {
      root.append(svg("circle", { cx: x, cy: y, r: 15, class: "op" }));
      text(x, y + 5, symbol);
    },
  };
}

const two = (value) => number(value, 2);

const CELLS = {
  LSTM(v) {
    const d = drawing(`LSTM cell: the forget gate ${number(v.f)} keeps part of the old cell state ${number(v.c_prev)}, the input gate ` +
      `${number(v.i)} adds part of the candidate ${number(v.g)}; the new cell state is ${number(v.c)} and the hidden state ${number(v.h)}`, 396);
    d.stateWire("M98 60H125", v.c_prev), d.stateWire("M155 60H213", v.f * v.c_prev), d.stateWire("M243 60H358", v.c);
    d.wire("M60 226V150Q60 136 74 136H126Q140 136 140 122V75", v.f);
    d.wire("M172 226V164Q172 150 186 150H213", v.i), d.stateWire("M284 226V164Q284 150 270 150H243", v.g), d.stateWire("M228 135V75", v.i * v.g);
    d.stateWire("M340 60V95", v.c), d.stateWire("M340 125V145", Math.tanh(v.c)), d.wire("M396 226V174Q396 160 382 160H355", v.o);
    d.stateWire("M340 175V332Q340 346 354 346H358", v.h);
    d.wire("M14 306H396");
    for (const x of [60, 172, 284, 396]) d.wire(`M${x} 306V274`);
    d.op(140, 60, "×"), d.op(228, 60, "+"), d.op(228, 150, "×"), d.op(340, 160, "×"), d.op(340, 110, "τ");
    d.gate(60, 250, "f  forget", v.f), d.gate(172, 250, "i  input", v.i), d.state(284, 250, "g  candidate", v.g), d.gate(396, 250, "o  output", v.o);
    d.state(52, 60, "c  before", v.c_prev, 2), d.state(404, 60, "c  cell state", v.c, 2), d.state(404, 346, "h  output", v.h);
    d.text(190, 30, `${two(v.f)} × ${two(v.c_prev)} = ${number(v.f * v.c_prev)}`, "num");
    d.text(228, 184, `${two(v.i)} × ${two(v.g)}`, "num"), d.text(238, 112, `= ${number(v.i * v.g)}`, "num", "start");
    d.text(362, 115, "tanh", "dim", "start");
    d.text(404, 386, `${two(v.o)} × ${two(Math.tanh(v.c))}`, "num");
    d.text(14, 330, "All gates read this layer's input and", "dim", "start"), d.text(14, 348, "h of all units at the step before.", "dim", "start");
    return d.root;
  },
  GRU(v) {
    const d = drawing(`GRU cell: the update gate ${number(v.z)} keeps part of the old state ${number(v.h_prev)}; ` +
      `the new state is ${number(v.h)}`, 340);
    d.stateWire("M98 60H165", v.h_prev), d.stateWire("M195 60H315", v.z * v.h_prev), d.stateWire("M345 60H362", v.h);
    d.wire("M180 206V75", v.z), d.wire("M180 150H315", 1 - v.z), d.wire("M60 206V186Q60 176 70 176H244Q254 176 254 186V220Q254 230 264 230H284", v.r);
    d.stateWire("M330 206V165", v.n), d.stateWire("M330 135V75", (1 - v.z) * v.n);
    d.wire("M14 286H330");
    for (const x of [60, 180, 330]) d.wire(`M${x} 286V254`);
    d.op(180, 60, "×"), d.op(330, 60, "+"), d.op(330, 150, "×");
    d.gate(60, 230, "r  reset", v.r), d.gate(180, 230, "z  update", v.z), d.state(330, 230, "n  candidate", v.n);
    d.state(52, 60, "h  before", v.h_prev), d.state(408, 60, "h", v.h);
    d.text(256, 30, `${two(v.z)} × ${two(v.h_prev)} = ${number(v.z * v.h_prev)}`, "num");
    d.text(248, 140, `1 − ${two(v.z)}`, "num"), d.text(340, 112, `= ${number((1 - v.z) * v.n)}`, "num", "start");
    d.text(70, 168, "r weighs h of the", "dim", "start"), d.text(196, 168, "step before in n", "dim", "start");
    d.text(14, 310, "All read this layer's input and h of all units at the step before.", "dim", "start");
    return d.root;
  },
  RNN(v) {
    const a = v.h_preactivation, d = drawing(`RNN cell: the new state ${number(v.h)} is the activation of ${number(a)}, a sum over the input ` +
      "and the states of all units at the step before", 172);
    d.stateWire("M98 60H155", v.h_prev), d.stateWire("M185 60H275", a ?? 0), d.stateWire("M305 60H362", v.h);
    d.wire("M163 132V84Q163 79 165 74"), d.wire("M52 132V118Q52 108 62 108H140Q152 108 158 70");
    d.op(170, 60, "Σ"), d.op(290, 60, "τ");
    d.state(52, 60, "h  before", v.h_prev), d.state(408, 60, "h", v.h);
    d.text(230, 36, `sum = ${number(a)}`, "num"), d.text(150, 148, "this layer's input", "dim", "start"), d.text(290, 98, "activation", "dim");
    d.text(14, 148, "h of all other", "dim", "start"), d.text(14, 164, "units before", "dim", "start");
    return d.root;
  },
};

// ---- Its life --------------------------------------------------------------------------------------------------------

/** The curve of one array of the chosen unit over time. */
function lifeLine(layer, name) {
  const { unit, step } = state, rows = layer.arrays[name], T = rows.length, gate = isGate(name), [title] = meaningOf(layer, name);
  const values = Array.from({ length: T }, (_, t) => rows.at(t, unit));
  return make("div", {},
    make("span", { class: "field" }, `${name}  ${title} over time: `, make("span", { class: "mono" }, number(values[step]))),
    timeline(`${title} of unit ${unit} over time`, values, step, gate));
}
