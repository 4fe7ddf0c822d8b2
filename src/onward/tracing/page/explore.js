// The page: opens a model, runs it on the reader's input, and keeps all views, the clock and the address in step.
import { askCards, backwardView } from "./ask.js";
import { editor } from "./editor.js";
import { Onward, Tensor } from "./onward.js";
import { bySimilarity, bytes, emptyRecord, extend, floats, GATE_NAMES, isGate, ORDER, savedRecord, softmax } from "./record.js";
import { startTour } from "./tour.js";
import { cellDiagram, equations, forgetColors, heatMap, lifeLines, limitOf, make, number, paint, valuesOf, visible } from "./views.js";

const $ = (id) => document.getElementById(id);
const embedded = JSON.parse($("embedded")?.textContent ?? "null");

export const state = {
  manifest: [], entry: null, model: null, text: "", signal: null, layer: null, unit: 0, step: 0,
  record: null, before: null, clamps: [], forget: {}, inputs: {}, orders: {}, playing: null,
};

// ---- Models and inputs -----------------------------------------------------------------------------------------------

async function open(id) {
  stop();
  const entry = state.manifest.find((each) => each.id === id) ?? state.manifest[0];
  status(`Loading ${entry.title}…`);
  const wasm = embedded?.wasm ? bytes(embedded.wasm) : undefined;
  Object.assign(state, { entry, model: null, clamps: [], forget: {}, inputs: {}, orders: {}, layer: null, unit: 0, step: 0, record: null });
  if (entry.record) {
    state.record = state.before = savedRecord(entry.record);
    state.signal = floats(entry.record.x);
  } else {
    const source = entry.bytes ? bytes(entry.bytes) : entry.file;
    state.model = await Onward.load(source, { wasm });
    const compared = entry.compare ?? [];
    state.compared = await Promise.all(compared.map(async ({ name, file }) => ({ name, model: await Onward.load(file) })));
    if (entry.x) state.signal = floats(entry.x);
    else if (entry.examples) state.signal = Float32Array.from(entry.examples[0].x.flat());
    state.text = entry.example ?? "";
  }
  document.body.dataset.kind = entry.kind;
  document.body.dataset.live = String(Boolean(state.model));
}

/** The number of features per step of a signal. */
export const width = () => (state.entry.kind === "text" ? 1 : state.entry.features);

/** The input as a Tensor; `changed` applies the what-if changes of single steps. */
export function inputOf(changed = false) {
  if (state.entry.kind === "text") {
    const characters = [...state.text].map((character, t) => (changed && state.inputs[t] !== undefined ? state.inputs[t] : character));
    return new Tensor(Int32Array.from(characters, (character) => state.model.vocabulary.indexOf(character)), [characters.length]);
  }
  const data = state.signal.slice(), I = width();
  if (changed) for (const [t, offset] of Object.entries(state.inputs)) for (let i = 0; i < I; i++) data[t * I + i] += offset;
  return new Tensor(data, [data.length / I, I]);
}

export const changed = () => state.clamps.length > 0 || Object.values(state.forget).some((factor) => factor !== 1) || Object.keys(state.inputs).length > 0;
export const currentModel = () => (state.clamps.length ? state.model.clamp(state.clamps) : state.model);

function run(model, x, forget) {
  const O = model.run(new Tensor(x.data.slice(0, x.data.length / x.shape[0]), [1, ...x.shape.slice(1)])).data.length;
  const record = emptyRecord(model, O);
  extend(record, model, x, forget);
  return record;
}

/** Run the model again, on all of the input or, where only steps were added, on these. */
function compute() {
  if (!state.model) return;
  const x = inputOf();
  const key = JSON.stringify([...x.data]);
  if (state.key && !changed() && state.before?.model === state.model && key.startsWith(state.key.slice(0, -1) + ",")) {
    const old = state.before.length, size = x.data.length / x.shape[0];
    extend(state.before, state.model, new Tensor(x.data.slice(old * size), [x.shape[0] - old, ...x.shape.slice(1)]));
  } else if (state.key !== key || state.before?.model !== state.model) {
    state.before = Object.assign(run(state.model, x, {}), { model: state.model });
  }
  state.key = key;
  state.record = changed() ? run(currentModel(), inputOf(true), state.forget) : state.before;
}

/** What the model reads at a step, in words. */
export function labelOf(t) {
  if (state.entry.kind === "text") return `“${visible(state.inputs[t] ?? [...state.text][t] ?? "")}”`;
  if (state.entry.labels) return state.entry.labels[t];
  return width() === 1 && state.signal ? number(state.signal[t], 2) : `frame ${t + 1}`;
}

/** The names of the outputs; null for a model without classes. */
export const classes = () => (state.entry.kind === "text" ? [...state.model.vocabulary].map(visible) : state.entry.classes ?? null);

/** Named outputs after a step: the probabilities of classes, or the values themselves. */
export function outputsAt(record, t) {
  const row = [...record.outputs.row(t)], names = classes();
  const total = row.reduce((sum, value) => sum + value, 0);
  const isDistribution = row.every((value) => value >= 0) && Math.abs(total - 1) < 1e-3;  // as after a Softmax layer
  const values = names && !isDistribution ? softmax(row) : row;
  return values.map((value, k) => ({ name: names ? names[k] : `y${row.length > 1 ? k : ""}`, value, k }));
}

// ---- Views -----------------------------------------------------------------------------------------------------------

let maps = [];

export function choose(step, unit = state.unit, layer = state.layer) {
  const last = state.record.length - 1;
  Object.assign(state, { step: Math.min(Math.max(step, 0), Math.max(last, 0)), layer });
  const H = state.record.layer(layer).H;
  state.unit = Math.min(Math.max(unit, 0), H - 1);
  show();
}

function layerView() {
  const layer = state.record.layer(state.layer);
  $("layer-name").textContent = `${layer.type} layer ${layer.name}`;
  const rows = [];
  if (state.entry.kind === "text") {
    rows.push(make("div", { class: "label" }, "text"), make("div", { class: "strip", id: "strip", "aria-hidden": "true" }));
  }
  maps = ORDER[layer.type].filter((name) => layer.arrays[name]).map((name) => {
    const [title, meaning] = GATE_NAMES[name];
    const describe = (t, unit) => `unit ${unit}, step ${t + 1} ${labelOf(t)}: ${number(layer.arrays[name].at(t, unit))}`;
    const map = heatMap(`${title} ${name} of layer ${layer.name}`, (t, unit) => choose(t, unit), describe);
    rows.push(make("div", { class: "label" }, make("b", {}, `${name}  ${title}`), meaning), map.element);
    return { name, map };
  });
  $("maps").replaceChildren(...rows);
}

const orderOf = (layer) => (state.orders[layer.name] ??= bySimilarity(layer.arrays.h, layer.arrays.h.width));

function paintMaps() {
  const layer = state.record.layer(state.layer), order = orderOf(layer);
  for (const { name, map } of maps) {
    const own = layer.arrays[name].width === order.length ? order : Array.from({ length: layer.arrays[name].width }, (_, unit) => unit);
    map.paint(layer.arrays[name], own, isGate(name));
  }
  if ($("strip")) {
    const characters = [...state.text], shown = characters.length <= 120;
    $("strip").replaceChildren(...characters.map((character) => make("span", {}, shown ? visible(character) : "")));
    $("strip").style.fontSize = `${Math.max(6, Math.min(13, 900 / characters.length))}px`;
  }
}

function overview() {
  const { record, entry } = state, stages = [];
  const input = make("div", { class: "stage" }, make("span", { class: "kind" }, "input"), make("span", { class: "name" }, entry.kind === "text" ? "Characters" : `${width()} number${width() > 1 ? "s" : ""} per step`));
  if (entry.kind === "text") {
    input.append(make("div", { class: "tape", id: "tape" }));
  } else {
    const box = make("div", { class: "map" }, make("canvas", { "aria-hidden": "true" }), make("div", { class: "col" }));
    input.append(box);
    const x = state.model ? inputOf(true) : { data: state.signal }, rows = { data: x.data, length: record.length, at: (t, i) => x.data[t * width() + i] };
    paint(box.firstChild, rows, Array.from({ length: width() }, (_, i) => i), false, limitOf(rows));
  }
  stages.push(input);
  for (const layer of record.layers) {
    const box = make("div", { class: "map" }, make("canvas", { "aria-hidden": "true" }), make("div", { class: "col" }));
    paint(box.firstChild, layer.arrays.h, orderOf(layer), false, 1);
    stages.push(make("button", {
      type: "button", class: "stage", "data-layer": layer.name, "aria-pressed": "false", "aria-label": `Layer ${layer.name}: ${layer.type} with ${layer.H} units`,
      on: { click: () => { choose(state.step, state.unit, layer.name); layerView(); paintMaps(); show(); scrollTo("layer"); } },
    }, make("span", { class: "kind" }, `${layer.type} · ${layer.H} units`), make("span", { class: "name" }, `Layer ${layer.name}`), box));
  }
  stages.push(make("div", { class: "stage" }, make("span", { class: "kind" }, "output after this step"),
    make("span", { class: "name", id: "prediction" }), make("div", { class: "bars", id: "bars" })));
  $("flow").replaceChildren(...stages);
  $("overview-lead").textContent = entry.lead ?? "The input flows from left to right. Choose a layer to look inside.";
}

function outputs() {
  const all = outputsAt(state.record, state.step), before = outputsAt(state.before, Math.min(state.step, state.before.length - 1));
  const named = Boolean(classes()), top = [...all].sort((a, b) => (named ? b.value - a.value : a.k - b.k)).slice(0, 8);
  const most = named ? 1 : Math.max(1, ...all.map(({ value }) => Math.abs(value)));
  $("prediction").textContent = named ? `Next: ${top[0].name} (${Math.round(top[0].value * 100)}%)` : `${state.entry.predicts ?? "Output"}: ${number(top[0].value)}`;
  if (named && state.entry.kind !== "text") $("prediction").textContent = `${top[0].name} (${Math.round(top[0].value * 100)}%)`;
  $("bars").replaceChildren(...top.map(({ name, value, k }) => {
    const track = make("span", { class: "track" }, make("span", { class: "fill", style: `width:${(Math.abs(value) / most) * 100}%` }));
    if (changed()) track.append(make("span", { class: "before", style: `left:${Math.min(99, (Math.abs(before[k].value) / most) * 100)}%`, title: `before: ${number(before[k].value)}` }));
    return make("div", { class: "bar" }, make("span", { class: "mono" }, name), track, make("span", { class: "value" }, named ? `${(value * 100).toFixed(1)}%` : number(value)));
  }));
}

/** The argument of a gate, split into the input's part, the state's part and the biases; null if not live. */
function partsOf(layer, t, unit) {
  const { source } = layer;
  if (!source || !source.plain) return () => null;
  const index = state.record.layers.indexOf(layer), direction = source.widened()[0];
  const below = state.record.layers[index - 1];
  const x = source.number > 0 && below ? [...below.arrays.h.row(t)] : firstInput(t);
  const h = t > 0 ? [...layer.arrays.h.row(t - 1)] : new Array(source.P).fill(0);
  return (gate) => {
    const row = source.gates.indexOf(gate) * source.H + unit;
    const terms = [...x.map((value, i) => ({ name: source.number > 0 ? `h${i} below` : `x${i}`, value: value * direction.W.data[row * source.I + i], from: "input" })),
      ...h.map((value, i) => ({ name: `h${i}`, value: value * direction.R.data[row * source.P + i], from: "state" }))];
    const sum = (from) => terms.filter((term) => term.from === from).reduce((total, term) => total + term.value, 0);
    const largest = [...terms].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, 4);
    return { input: sum("input"), state: sum("state"), bias: (direction.b_W?.[row] ?? 0) + (direction.b_R?.[row] ?? 0), largest };
  };
}

/** What the first recurrent layer reads at a step. */
function firstInput(t) {
  const x = inputOf(true), embedding = state.model.layers[0];
  if (state.entry.kind !== "text") return [...x.data.subarray(t * width(), (t + 1) * width())];
  return [...embedding.table.subarray(x.data[t] * embedding.features, (x.data[t] + 1) * embedding.features)];
}

function unitView() {
  const layer = state.record.layer(state.layer), { unit, step } = state, values = valuesOf(layer, step, unit);
  $("unit-name").textContent = `Unit ${unit} at step ${step + 1}, ${labelOf(step)}`;
  Object.assign($("unit-number"), { max: layer.H - 1, value: unit });
  Object.assign($("step-number"), { max: state.record.length, value: step + 1 });
  $("cell").replaceChildren(cellDiagram(layer.type, values));
  $("life").replaceChildren(...lifeLines(layer, unit, step).flatMap(({ name, root }) => [make("span", { class: "field" }, `${name}  ${GATE_NAMES[name][0]} over time: ${number(layer.arrays[name].at(step, unit))}`), root]));
  const parts = state.clamps.length ? () => null : partsOf(layer, step, unit);
  $("lines").replaceChildren(...equations(layer.type, values, parts));
  // The exact numbers, for tests and for scripts.
  $("cell").dataset.values = JSON.stringify(values);
}

let questions = null;

/** Update all that depends on the chosen layer, unit and step. */
function show() {
  const { record, step, unit } = state, T = record.length;
  for (const { map } of maps) map.mark(step, unit);
  for (const column of document.querySelectorAll(".flow .col")) Object.assign(column.style, { left: `${(step / T) * 100}%`, width: `${100 / T}%` });
  for (const stage of document.querySelectorAll("[data-layer]")) stage.setAttribute("aria-pressed", String(stage.dataset.layer === record.layer(state.layer).name));
  if ($("tape")) {
    const tape = $("tape");
    if (tape.dataset.text !== state.text) {
      tape.dataset.text = state.text;
      tape.replaceChildren(...[...state.text].map((character, t) => make("span", { on: { click: () => choose(t) } }, character === "\n" ? "↵\n" : character)));
    }
    tape.querySelector(".at")?.classList.remove("at");
    const at = tape.children[step];
    at?.classList.add("at");
    if (at) tape.scrollTop = at.offsetTop - tape.offsetTop - 50;
  }
  if ($("strip")) [...$("strip").children].forEach((each, t) => each.classList.toggle("at", t === step));
  Object.assign($("scrub"), { max: T, value: step + 1 });
  $("scrub").setAttribute("aria-valuetext", `step ${step + 1} of ${T}, ${labelOf(step)}`);
  $("now").textContent = `${step + 1} / ${T}  ${labelOf(step)}`;
  outputs();
  unitView();
  questions?.update();
  $("whatif-banner").hidden = !changed();
  link();
}

/** Run the model and redraw everything; `step` moves to the end after typing. */
export function refresh({ step = null, layout = false } = {}) {
  compute();
  if (!state.record.length) return status("Type at least one character.");
  status("");
  if (layout || !maps.length) layerView();
  paintMaps();
  overview();
  choose(step ?? state.step);
}

const status = (text) => {
  $("status").textContent = text;
  $("status").hidden = !text;
};

export const scrollTo = (id) => $(id).scrollIntoView({ block: "start" });

// ---- Time ------------------------------------------------------------------------------------------------------------

export function stop() {
  clearInterval(state.playing);
  state.playing = null;
  $("play").textContent = "▶";
  $("play").setAttribute("aria-label", "Play");
  $("sample").textContent = "Continue";
}

function play() {
  if (state.playing) return stop();
  if (state.step >= state.record.length - 1) choose(0);
  $("play").textContent = "⏸";
  $("play").setAttribute("aria-label", "Pause");
  state.playing = setInterval(() => (state.step >= state.record.length - 1 ? stop() : choose(state.step + 1)), 160);
}

/** The class drawn from the outputs of the last step. */
export function draw(row, temperature, random = Math.random) {
  if (!temperature) return row.indexOf(Math.max(...row));
  const shares = softmax(row.map((value) => value / temperature));
  let rest = random();
  return Math.max(0, shares.findIndex((share) => (rest -= share) < 0));
}

export const MOST_STEPS = 400;

function sampleStep() {
  if (state.record.length >= MOST_STEPS) return stop();
  const row = [...state.record.outputs.row(state.record.length - 1)];
  if (state.entry.kind === "text") state.text += state.model.vocabulary[draw(row, Number($("temperature").value))];
  else state.signal = Float32Array.of(...state.signal, row[0]);
  refresh({ step: Infinity });
  document.dispatchEvent(new CustomEvent("input-changed"));
}

function sample() {
  if (state.playing) return stop();
  $("sample").textContent = "Stop";
  state.playing = setInterval(sampleStep, 120);
}

// ---- The address -----------------------------------------------------------------------------------------------------

let linking = null;
function link() {
  if (location.protocol === "about:") return; // a frame in a notebook
  clearTimeout(linking);
  linking = setTimeout(() => {
    const part = new URLSearchParams({ model: state.entry.id, layer: state.record.layer(state.layer).name, unit: state.unit, step: state.step + 1 });
    if (state.entry.kind === "text") part.set("text", state.text);
    else if (state.model && state.signal.length <= 500) part.set("signal", [...state.signal].map((value) => Math.round(value * 1000)).join("_"));
    history.replaceState(null, "", `#${part}`);
  }, 150);
}

async function follow() {
  const part = new URLSearchParams(location.hash.slice(1));
  await open(part.get("model"));
  if (part.has("text") && state.entry.kind === "text") state.text = [...part.get("text")].filter((each) => state.model.vocabulary.includes(each)).join("");
  if (part.has("signal") && state.model && state.entry.kind !== "text") state.signal = Float32Array.from(part.get("signal").split("_"), (value) => Number(value) / 1000);
  state.layer = part.get("layer");
  state.unit = Number(part.get("unit") ?? 0);
  await enter(part.has("step") ? Number(part.get("step")) - 1 : Infinity);
}

async function enter(step) {
  $("main").hidden = $("transport").hidden = false;
  $("model").value = state.entry.id;
  editor($("editor"));
  maps = [];
  compute();
  state.layer = state.record.layer(state.layer).name;
  questions = askCards($("cards"));
  refresh({ step, layout: true });
  backwardView($("gradients"));
  const sequence = state.entry.kind !== "signal" && state.model;
  $("sampling").hidden = !sequence;
  $("sampling").style.display = sequence ? "" : "none";
  $("provenance").textContent = state.entry.about ?? "";
  $("numbers").textContent = state.model
    ? "The numbers come from Onward's C++ core, compiled to WebAssembly; they have the same bits as in Python."
    : "This page shows recorded values: there is no live computation, and the input cannot be changed.";
  if (!state.model) $("subtitle").textContent = "Recorded values of one run. There is no live computation on this page.";
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  $("theme").setAttribute("aria-pressed", String(name === "dark"));
  forgetColors();
}

async function start() {
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  state.manifest = embedded?.models ?? (await (await fetch("models.json")).json());
  $("model").replaceChildren(...state.manifest.map(({ id, title }) => make("option", { value: id }, title)));
  $("model-field").hidden = state.manifest.length < 2;
  $("theme").addEventListener("click", () => {
    theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    refresh();
    backwardView($("gradients"));
  });
  $("model").addEventListener("change", async () => {
    await open($("model").value);
    await enter(Infinity);
  });
  $("first").addEventListener("click", () => choose(0));
  $("back").addEventListener("click", () => choose(state.step - 1));
  $("forward").addEventListener("click", () => choose(state.step + 1));
  $("play").addEventListener("click", play);
  $("sample").addEventListener("click", sample);
  $("scrub").addEventListener("input", () => choose(Number($("scrub").value) - 1));
  $("temperature").addEventListener("input", () => ($("heat").textContent = $("temperature").value));
  $("unit-number").addEventListener("change", () => choose(state.step, Number($("unit-number").value)));
  $("step-number").addEventListener("change", () => choose(Number($("step-number").value) - 1));
  $("tour-start").addEventListener("click", () => startTour(open, enter));
  await follow();
  document.body.dataset.ready = "true";
}

start().catch((error) => {
  status(`This page cannot start: ${error.message}`);
  console.error(error);
});
