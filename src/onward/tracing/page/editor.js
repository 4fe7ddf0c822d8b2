// The reader's input: a text, or a curve to draw.
import { MOST_STEPS, refresh, state, stop, width } from "./explore.js";
import { make } from "./views.js";

let typing = 0, listeners = new AbortController();

/** Call render whenever the page itself changes the input, until there is another editor. */
const whenChanged = (render) => document.addEventListener("input-changed", render, { signal: listeners.signal });

/** Fill the input section for the current model. */
export function editor(root) {
  listeners.abort();
  listeners = new AbortController();
  if (!state.model) return root.replaceChildren(make("p", { class: "lead" }, "The input was recorded and cannot be changed here: this page has no live computation."));
  root.replaceChildren(...(state.entry.kind === "text" ? text() : curve()));
}

function text() {
  const box = make("textarea", { id: "text", "aria-label": "Text for the model to read", spellcheck: "false", maxlength: String(MOST_STEPS), rows: "3" });
  const note = make("p", { class: "lead", role: "status", id: "text-note" }, "Everything below follows as you type.");
  box.value = state.text;
  box.addEventListener("input", () => {
    stop();
    const known = [...box.value].filter((character) => state.model.vocabulary.includes(character)).join("");
    note.textContent = known === box.value ? "Everything below follows as you type." : "The model does not know some of these characters; they are left out.";
    if (!known) return;
    cancelAnimationFrame(typing);
    typing = requestAnimationFrame(() => {
      state.text = known;
      refresh({ step: Infinity });
    });
  });
  whenChanged(() => (box.value = state.text));
  return [box, note, make("div", { class: "presets" }, ...(state.entry.presets ?? []).map((preset) =>
    make("button", { type: "button", on: { click: () => { box.value = preset; box.dispatchEvent(new Event("input")); } } }, `${preset.slice(0, 22).replace(/\n/g, " ")}…`)))];
}

const WAVES = {
  "Sine wave": (t) => 0.6 * Math.sin((2 * Math.PI * t) / 20),
  "Triangle": (t) => 0.6 * (4 * Math.abs(((t / 24) % 1) - 0.5) - 1),
  "Two waves": (t) => 0.45 * Math.sin((2 * Math.PI * t) / 14) + 0.3 * Math.sin((2 * Math.PI * t) / 60),
  "A step": (t) => (t < 40 ? -0.4 : 0.4),
};
export const wave = (name, T = 80) => Float32Array.from({ length: T }, (_, t) => WAVES[name](t));

function curve() {
  const I = width(), canvas = make("canvas", { class: "draw", tabindex: "0", role: "slider", "aria-label": "The curve: arrow keys left and right move, up and down change the value", "aria-valuemin": "-1", "aria-valuemax": "1" });
  let channel = 0, at = 0, limit = 1;
  const T = () => state.signal.length / I;
  const rescale = () => (limit = Math.max(1, ...Array.from({ length: T() }, (_, t) => Math.abs(state.signal[t * I + channel]))) * 1.1);
  const render = () => {
    const w = (canvas.width = Math.max(300, canvas.clientWidth * 2)), h = (canvas.height = 340), context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = 2;
    context.beginPath(), context.moveTo(0, h / 2), context.lineTo(w, h / 2), context.stroke();
    context.strokeStyle = style.getPropertyValue("--accent");
    context.lineWidth = 5;
    context.beginPath();
    for (let t = 0; t < T(); t++) context.lineTo(((t + 0.5) / T()) * w, h / 2 - (state.signal[t * I + channel] / limit) * h * 0.48);
    context.stroke();
    const value = state.signal[at * I + channel] ?? 0;
    context.fillStyle = style.getPropertyValue("--mark");
    context.beginPath(), context.arc(((at + 0.5) / T()) * w, h / 2 - (value / limit) * h * 0.48, 9, 0, 7), context.fill();
    canvas.setAttribute("aria-valuenow", value.toFixed(2));
    canvas.setAttribute("aria-valuetext", `step ${at + 1}: ${value.toFixed(2)}`);
  };
  const set = (t, value) => {
    at = Math.min(Math.max(t, 0), T() - 1);
    state.signal[at * I + channel] = value;
    render();
    cancelAnimationFrame(typing);
    typing = requestAnimationFrame(() => refresh({ step: at }));
  };
  let previous = null;
  const drag = (event) => {
    const box = canvas.getBoundingClientRect();
    const t = Math.min(Math.max(Math.floor(((event.clientX - box.left) / box.width) * T()), 0), T() - 1);
    const value = ((0.5 - (event.clientY - box.top) / box.height) / 0.48) * limit;
    if (previous) for (let n = Math.min(t, previous.t) + 1; n < Math.max(t, previous.t); n++) state.signal[n * I + channel] = previous.value + ((value - previous.value) * (n - previous.t)) / (t - previous.t);
    previous = { t, value };
    set(t, value);
  };
  canvas.addEventListener("pointerdown", (event) => { stop(); canvas.setPointerCapture(event.pointerId); previous = null; drag(event); });
  canvas.addEventListener("pointermove", (event) => event.buttons && drag(event));
  canvas.addEventListener("keydown", (event) => {
    const step = limit / 20, value = state.signal[at * I + channel];
    const moves = { ArrowLeft: [at - 1], ArrowRight: [at + 1], ArrowUp: [at, value + step], ArrowDown: [at, value - step] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [t, changed] = moves[event.key], to = Math.min(Math.max(t, 0), T() - 1);
    set(to, changed ?? state.signal[to * I + channel]);
  });
  whenChanged(render);
  const replace = (signal) => { stop(); state.signal = signal; at = 0; rescale(); render(); refresh({ step: Infinity }); };
  const presets = I === 1 && state.entry.kind === "curve"
    ? Object.keys(WAVES).map((name) => make("button", { type: "button", on: { click: () => replace(wave(name)) } }, name))
    : [];
  const pickers = [];
  if (state.entry.examples?.length > 1)
    pickers.push(make("label", { class: "field" }, "Recording ", make("select", { id: "recording", on: { change: (event) => replace(Float32Array.from(state.entry.examples[event.target.value].x.flat())) } },
      ...state.entry.examples.map(({ name }, n) => make("option", { value: String(n) }, name)))));
  if (I > 1)
    pickers.push(make("label", { class: "field" }, "Draw ", make("select", { on: { change: (event) => { channel = Number(event.target.value); rescale(); render(); } } },
      ...Array.from({ length: I }, (_, i) => make("option", { value: String(i) }, `${state.entry.channel ?? "feature"} ${i + 1}`)))));
  rescale();
  requestAnimationFrame(render);
  return [make("p", { class: "lead" }, "Draw with the pointer, or use the arrow keys. Everything below follows."), canvas, make("div", { class: "presets" }, ...presets, ...pickers)];
}
