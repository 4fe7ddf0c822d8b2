// Questions to the model: what it depends on, what a unit remembers, what would happen if; and gradients through time.
import { changed, classes, currentModel, draw, choose, inputOf, labelOf, outputsAt, refresh, state, width } from "./explore.js";
import { wave } from "./editor.js";
import { Tensor } from "./onward.js";
import { emptyRecord, extend, isGate, ORDER } from "./record.js";
import { colorOf, make, number, paint, visible } from "./views.js";

const WINDOW = 40; // earlier steps whose influence is computed

/** Fill the cards; the result's update() follows the chosen layer, unit and step. */
export function askCards(root) {
  if (!state.model) {
    root.replaceChildren(make("p", { class: "lead" }, "This page shows recorded values only. To ask questions, open the model with onward explore, which computes live."));
    return null;
  }
  const cards = [dependence(), memory(), whatIf()];
  root.replaceChildren(...cards.map(({ card }) => card));
  return { update: () => cards.forEach(({ update }) => update?.()) };
}

// ---- Which inputs it depends on --------------------------------------------------------------------------------------

/** The norm of the gradient of output k after step t with respect to each of the last inputs. */
export function influence(model, x, t, k, O) {
  const first = Math.max(0, t + 1 - WINDOW), features = x.shape.slice(1), size = features.reduce((a, b) => a * b, 1);
  const part = (from, to) => new Tensor(x.data.slice(from * size, to * size), [to - from, ...features]);
  const start = first ? model.trace(part(0, first)).state : null, steps = t + 1 - first;
  const perStep = !model.description.layers?.some((layer) => layer.type === "Last");
  const dy = new Float32Array(perStep ? steps * O : O);
  dy[dy.length - O + k] = 1;
  const { data } = model.gradient(part(first, t + 1), dy, { state: start });
  const I = data.length / steps;
  return { first, norms: Array.from({ length: steps }, (_, n) => Math.hypot(...data.subarray(n * I, (n + 1) * I))) };
}

function dependence() {
  const result = make("div", { "aria-live": "polite", id: "influence" });
  const ask = make("button", { type: "button", id: "ask-influence" }, "Trace it back");
  const softmaxed = state.model.description.layers?.some((layer) => ["Softmax", "Activation"].includes(layer.type));
  ask.disabled = Boolean(softmaxed);
  ask.addEventListener("click", () => {
    const outputs = outputsAt(state.record, state.step), best = classes() ? outputs.reduce((a, b) => (b.value > a.value ? b : a)) : outputs[0];
    const { first, norms } = influence(currentModel(), inputOf(true), state.step, best.k, outputs.length), most = Math.max(...norms) || 1;
    result.replaceChildren(
      make("p", {}, `What the score of ${best.name} after step ${state.step + 1} depends on:`),
      make("div", { class: "tape" }, ...norms.map((norm, n) => {
        const color = colorOf(norm / most, true), bright = color[0] + color[1] + color[2] > 380;
        return make("span", { style: `background:rgb(${color.join(" ")});color:${bright ? "#14171a" : "#fff"}`, title: `step ${first + n + 1}: ${norm.toPrecision(3)}` },
          state.entry.kind === "text" ? visible([...state.text][first + n]) : ` ${first + n + 1} `);
      })),
      make("p", { class: "note" }, `Darkest in light mode, brightest in dark mode: step ${first + norms.indexOf(most) + 1}, ${labelOf(first + norms.indexOf(most))}.`));
  });
  return {
    card: make("div", { class: "card" }, make("h3", {}, "Which earlier inputs does this prediction depend on?"),
      make("p", { class: "note" }, `The length of the gradient of the predicted score with respect to each of the last ${WINDOW} embedded inputs, computed by the core's backward pass${state.model.recurrent[0].precision ? ", with the quantized weights widened to float32" : ""}.`),
      ask, result),
  };
}

// ---- What a unit remembers -------------------------------------------------------------------------------------------

function memory() {
  const result = make("div", { "aria-live": "polite", id: "memories" });
  const names = ORDER[state.record.layers[0].type];
  const gate = make("select", { "aria-label": "Gate or state" }, ...names.map((name) => make("option", { value: name }, isGate(name) ? `${name} most open` : `${name} largest`)));
  gate.value = names.includes("c") ? "c" : names.at(-1);
  const corpus = state.entry.kind === "text" ? [state.entry.corpus ?? state.text] : (state.entry.examples ?? [{ x: null }]).map(({ x }) => x);
  let records = null;
  const find = () => {
    records ??= corpus.map((item) => {
      const x = state.entry.kind === "text" ? new Tensor(Int32Array.from([...item], (character) => state.model.vocabulary.indexOf(character)), [item.length])
        : item ? new Tensor(Float32Array.from(item.flat()), [item.length, width()]) : inputOf();
      const record = emptyRecord(state.model, state.record.outputs.width);
      extend(record, state.model, x);
      return record;
    });
    const places = records.flatMap((record, n) => {
      const rows = record.layer(state.layer).arrays[gate.value];
      return Array.from({ length: rows.length }, (_, t) => ({ n, t, value: rows.at(t, state.unit) }));
    });
    const size = (value) => (isGate(gate.value) ? value : Math.abs(value)), found = [];
    for (const place of places.sort((a, b) => size(b.value) - size(a.value))) {
      if (found.length === 6) break;
      if (!found.some((other) => other.n === place.n && Math.abs(other.t - place.t) < 12)) found.push(place);
    }
    result.replaceChildren(...found.map(({ n, t, value }) => state.entry.kind === "text"
      ? make("div", { class: "quote" }, corpus[0].slice(Math.max(0, t - 26), t).replace(/\n/g, "↵"), make("mark", {}, visible(corpus[0][t])), `${corpus[0].slice(t + 1, t + 8).replace(/\n/g, "↵")}  ${number(value)}`)
      : make("div", { class: "quote" }, `${state.entry.examples?.[n].name ?? "this signal"}, step ${t + 1}: ${number(value)}`)));
  };
  const title = make("h3", {});
  const button = make("button", { type: "button", on: { click: find } }, "Search");
  return {
    card: make("div", { class: "card" }, title, make("p", { class: "note" }, state.entry.kind === "text" ? "The places in a sample of the plays at which it is most open, or its state largest." : "The steps of the example recordings at which it is most open, or its state largest."),
      make("div", { class: "row" }, gate, button), result),
    update: () => (title.textContent = `What does unit ${state.unit} remember?`),
  };
}

// ---- What if ---------------------------------------------------------------------------------------------------------

function whatIf() {
  const layerType = state.record.layers[0].type, gates = ORDER[layerType].filter(isGate);
  const gate = make("select", { id: "clamp-gate", "aria-label": "Gate to clamp" }, ...gates.map((name) => make("option", { value: name }, name)));
  const scope = make("select", { id: "clamp-scope", "aria-label": "Which units" }, make("option", { value: "unit" }, "of this unit"), make("option", { value: "layer" }, "of the whole layer"));
  const value = make("select", { id: "clamp-value", "aria-label": "Value" }, make("option", { value: "0" }, "= 0, closed"), make("option", { value: "1" }, "= 1, open"));
  const add = make("button", { type: "button", id: "clamp", class: "primary", disabled: !gates.length || !state.model.recurrent.every((layer) => layer.plain) }, "Clamp");
  add.addEventListener("click", () => {
    const unit = scope.value === "unit" ? state.unit : null;
    state.clamps = state.clamps.filter((each) => !(each.layer === state.layer && each.gate === gate.value && each.unit === unit));
    state.clamps.push({ layer: state.layer, gate: gate.value, unit, value: Number(value.value) });
    refresh();
  });
  const scaled = make("output", {}), factor = make("input", { type: "range", id: "forget", min: "0", max: "1.2", step: "0.05", value: "1", "aria-label": "Scale the forget gates of this layer" });
  factor.addEventListener("input", () => {
    state.forget = { ...state.forget, [state.layer]: Number(factor.value) };
    refresh();
  });
  const step = state.entry.kind === "text"
    ? make("input", { type: "text", id: "swap", maxlength: "1", size: "2", "aria-label": "Replace the character at this step" })
    : make("input", { type: "number", id: "swap", step: "0.1", value: "0", "aria-label": "Add to the input at this step" });
  step.addEventListener("input", () => {
    const entered = step.value, valid = state.entry.kind === "text" ? state.model.vocabulary.includes(entered) && entered : Number.isFinite(Number(entered)) && Number(entered) !== 0;
    const { [state.step]: _, ...others } = state.inputs;
    state.inputs = valid ? { ...others, [state.step]: state.entry.kind === "text" ? entered : Number(entered) } : others;
    refresh();
  });
  const chips = make("div", { class: "chips" }), compare = make("div", { "aria-live": "polite", id: "compare" });
  const samples = make("button", { type: "button", id: "compare-samples" }, state.entry.kind === "text" ? "Compare samples" : "Compare forecasts");
  samples.addEventListener("click", () => {
    const continued = (model, forget, x) => (state.entry.kind === "text" ? sampled(model, forget, x) : forecast(model, forget, x));
    compare.replaceChildren(make("strong", {}, "Before"), make("div", { class: "quote" }, continued(state.model, {}, inputOf())),
      make("strong", {}, "After"), make("div", { class: "quote" }, continued(currentModel(), state.forget, inputOf(true))));
  });
  const clear = () => Object.assign(state, { clamps: [], forget: {}, inputs: {} }) && refresh();
  const describe = () => [
    ...state.clamps.map((each, n) => ({ text: `${each.gate} of ${each.unit === null ? "all units" : `unit ${each.unit}`} in ${each.layer} = ${each.value}`, remove: () => (state.clamps = state.clamps.filter((_, at) => at !== n)) })),
    ...Object.entries(state.forget).filter(([, by]) => by !== 1).map(([layer, by]) => ({ text: `forget gates of ${layer} × ${by}`, remove: () => (state.forget = { ...state.forget, [layer]: 1 }) })),
    ...Object.entries(state.inputs).map(([t, by]) => ({ text: state.entry.kind === "text" ? `step ${Number(t) + 1} reads ${visible(by)}` : `step ${Number(t) + 1} plus ${by}`, remove: () => { const { [t]: _, ...others } = state.inputs; state.inputs = others; } })),
  ];
  const update = () => {
    factor.value = state.forget[state.layer] ?? 1;
    scaled.textContent = `× ${Number(factor.value).toFixed(2)}`;
    if (document.activeElement !== step) step.value = state.inputs[state.step] ?? (state.entry.kind === "text" ? "" : "0");
    const all = describe();
    chips.replaceChildren(...all.map(({ text, remove }) => make("button", { type: "button", "aria-label": `Remove: ${text}`, on: { click: () => { remove(); refresh(); } } }, `${text} ✕`)));
    const banner = document.getElementById("whatif-banner");
    banner.replaceChildren(`What if: ${all.map(({ text }) => text).join("; ")}. The marks in the output show the prediction before.`, make("button", { type: "button", id: "clear", on: { click: clear } }, "Undo all"));
    if (!changed()) compare.replaceChildren();
  };
  return {
    card: make("div", { class: "card" }, make("h3", {}, "What if?"), make("p", { class: "note" }, "Hold a gate open or closed, and watch everything above change. The model itself computes the result, with the bias of the gate changed."),
      make("div", { class: "row" }, gate, scope, value, add),
      layerType === "LSTM" ? make("p", {}, make("label", { class: "field" }, "Forget gates of this layer ", factor, scaled)) : null,
      make("p", {}, make("label", { class: "field" }, state.entry.kind === "text" ? "At this step, read instead " : "At this step, add ", step)),
      chips, state.entry.kind === "signal" ? null : samples, compare),
    update,
  };
}

/** A fixed sequence of random numbers, so that samples differ only where the model does. */
function randoms() {
  let seed = 12345;
  return () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
}

function continuedFrom(model, forget, x, steps, next) {
  const record = emptyRecord(model, state.record.outputs.width);
  extend(record, model, x, forget);
  for (let n = 0; n < steps; n++) extend(record, model, next([...record.outputs.row(record.length - 1)]), forget);
  return record;
}

function sampled(model, forget, x) {
  const random = randoms(), temperature = Number(document.getElementById("temperature").value);
  let text = "";
  continuedFrom(model, forget, x, 80, (row) => {
    const k = draw(row, temperature, random);
    text += model.vocabulary[k];
    return new Tensor(Int32Array.of(k), [1]);
  });
  return text;
}

function forecast(model, forget, x) {
  const values = [];
  continuedFrom(model, forget, x, 20, (row) => {
    values.push(number(row[0], 2));
    return new Tensor(Float32Array.of(row[0]), [1, 1]);
  });
  return values.join("  ");
}

// ---- Backward --------------------------------------------------------------------------------------------------------

/**
 * The gradient of output 0 after step t with respect to the state that each step up to t hands on, as rows (t + 1, H):
 * c for an LSTM, otherwise h.
 */
export function stateGradients(model, x, t) {
  const [layer] = model.recurrent, linear = model.layers.at(-1), I = layer.I, H = layer.H;
  const step = (n) => new Tensor(x.data.slice(n * I, (n + 1) * I), [1, 1, I]), states = [{}];
  for (let n = 0; n <= t; n++) states.push(layer.run(step(n), states[n]).state);
  const dy = linear.backward(new Tensor(Float32Array.from({ length: linear.O }, (_, k) => (k === 0 ? 1 : 0)), [1, 1, linear.O]));
  const data = new Float32Array((t + 1) * H), none = new Tensor(new Float32Array(H), [1, 1, H]);
  let after = { dh: null, dc: null };
  for (let n = t; n >= 0; n--) {
    after = layer.backward(step(n), n === t ? dy : none, states[n], after);
    if (n > 0) data.set(after.dc ?? after.dh, (n - 1) * H);
  }
  const { c } = states[t + 1];
  const o = c && model.trace(x.data.slice(0, (t + 1) * I)).layers[model.names[0]].o.data.slice(-H);
  data.set(Array.from(dy.data, (value, unit) => (c ? value * o[unit] * (1 - Math.tanh(c[unit]) ** 2) : value)), t * H);
  return { data, length: t + 1, width: H, at: (n, unit) => data[n * H + unit] };
}

const norms = (rows) => Array.from({ length: rows.length }, (_, t) => Math.hypot(...rows.data.subarray(t * rows.width, (t + 1) * rows.width)));

/** An LSTM and an RNN on the same curve: the gradient of the last output with respect to the state of every step. */
export function backwardView(root) {
  if (!state.compared?.length) {
    root.replaceChildren(make("p", { class: "lead" }, state.manifest.some((entry) => entry.compare)
      ? "To compare an RNN with an LSTM, choose the latch or the forecaster as the model: the page has both kinds, trained on the same data."
      : "This comparison needs the models that come with onward explore."));
    return;
  }
  const update = () => {
    const x = state.signal.length > 120 ? state.signal.slice(-120) : state.signal, T = x.length;
    const all = state.compared.map(({ name, model }) => ({ name, rows: stateGradients(model, { data: x }, T - 1) }));
    const boxes = all.map(({ name, rows }) => {
      const canvas = make("canvas", { role: "img", "aria-label": `Gradients of the ${name} over time` }), most = Math.max(...rows.data.map(Math.abs)) || 1;
      const scaled = { ...rows, at: (t, unit) => Math.sign(rows.at(t, unit)) * Math.max(0, 1 + Math.log10(Math.abs(rows.at(t, unit)) / most + 1e-9) / 5) };
      paint(canvas, scaled, Array.from({ length: rows.width }, (_, unit) => unit), false, 1);
      const size = norms(rows), back = size[Math.max(0, T - 31)] / size[T - 1];
      return make("div", {}, make("h3", {}, name), make("div", { class: "map" }, canvas),
        make("p", { class: "note", "data-ratio": String(back), "data-name": name }, `30 steps back, the gradient is ${back.toExponential(1)} times that of the last step.`));
    });
    root.replaceChildren(
      make("p", { class: "lead" }, "How much would the last output change if the state of an earlier step changed? This is the gradient with respect to the state that carries the memory, h in the RNN and c in the LSTM, by the core's backward pass, from right to left. In the RNN it passes through a matrix and a tanh at each step, and before training it vanishes within a few steps: the RNN cannot see far enough back to learn. In the LSTM it is multiplied by the forget gate: where that is open, it passes."),
      make("div", { class: "pair" }, ...boxes), plot(all.map(({ name, rows }) => ({ name, values: norms(rows) }))));
  };
  update();
  const again = make("button", { type: "button", on: { click: () => backwardView(root) } }, "Compute for the present curve");
  root.append(make("p", {}, again));
}

/** The norms on a logarithmic scale. */
function plot(lines) {
  const T = lines[0].values.length, all = lines.flatMap(({ values }) => values).filter((value) => value > 0);
  const high = Math.log10(Math.max(...all)), low = Math.max(Math.log10(Math.min(...all)), high - 30);
  const ns = "http://www.w3.org/2000/svg", root = document.createElementNS(ns, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 1000 190", class: "plot", role: "img", "aria-label": `The length of the gradient at each step, from 10 to the ${low.toFixed(0)} to 10 to the ${high.toFixed(0)}`, preserveAspectRatio: "none" })) root.setAttribute(name, value);
  lines.forEach(({ name, values }) => {
    const y = (value) => 14 + (1 - (Math.max(Math.log10(value || 1e-30), low) - low) / (high - low || 1)) * 162;
    const line = document.createElementNS(ns, "polyline"), color = name.startsWith("RNN") ? "var(--mark)" : "var(--accent)";
    for (const [key, value] of Object.entries({ points: values.map((value, t) => `${((t + 0.5) / T) * 1000},${y(value)}`).join(" "), fill: "none", stroke: color, "stroke-width": 2.5, ...(name.endsWith("before training") ? { "stroke-dasharray": "6 5" } : {}), "vector-effect": "non-scaling-stroke" })) line.setAttribute(key, value);
    root.append(line);
  });
  return make("div", {}, root, make("p", { class: "note legend" }, make("span", { style: "color:var(--accent)" }, "━ LSTM"), make("span", { style: "color:var(--mark)" }, "━ RNN"),
    lines.some(({ name }) => name.endsWith("before training")) ? "dashed: before training" : null, `length of the gradient, logarithmic, from 1e${low.toFixed(0)} to 1e${high.toFixed(0)}`));
}
