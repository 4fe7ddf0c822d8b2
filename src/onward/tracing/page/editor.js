// The reader's input: a text to type, a curve to draw, a recording to pick or to make.
import { stop } from "./clock.js";
import { colorOf, css, inkOn } from "./colors.js";
import { $, button, choice, make, note, percent } from "./dom.js";
import { inOrder, limitOf, picture } from "./heatmap.js";
import * as microphone from "./microphone.js";
import { Rows } from "./record.js";
import { choose, inputOf, known, MOST_STEPS, outputsAt, refresh, state, width } from "./state.js";
import { cepstra, resampled, utterance } from "./speech.js";
import { largest } from "./timeline.js";

let editor = {}, frame = 0;

export function open() {
  const { model, entry } = state;
  cancelAnimationFrame(frame);
  editor = !model ? recorded() : entry.kind === "text" ? textEditor() : curveEditor();
  $("editor").replaceChildren(make("h3", {}, "You write"), ...editor.elements);
  if (!model) $("editor").firstChild.textContent = "The input";
  else if (entry.kind !== "text") $("editor").firstChild.textContent = entry.microphone ? "You choose, draw or speak" : "You draw";
}
export const run = () => editor.run?.();
export const show = () => editor.show?.();

/** Keep the steps that the model wrote among the first `length` ones: the rest is the reader's. */
const wrote = (length) => (state.written = new Set([...state.written].filter((t) => t < length)));

/** How many characters two texts have in common at their start. */
function commonLength(a, b) {
  const [first, second] = [[...a], [...b]], end = first.findIndex((character, n) => character !== second[n]);
  return end < 0 ? first.length : end;
}

/** Run the model before the next frame, once for the last of several changes; change() returns the step to choose. */
function soon(change) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => refresh(change()));
}

// ---- A text ----------------------------------------------------------------------------------------------------------

const HINT = "Type: everything on this page follows.";
const NOTHING = "Type at least one character that the model knows.";
const UNKNOWN = "The model does not know some of these characters; they are left out.";
const COLORS = "Its reading. The stronger the color, the more probable it found the character. What it wrote itself is underlined.";

function textEditor() {
  const box = make("textarea", { id: "text", "aria-label": "Text to read", spellcheck: "false", maxlength: MOST_STEPS, rows: "6" });
  const hint = make("p", { class: "note", role: "status", id: "text-note" }, HINT);
  const tape = make("div", { class: "tape", id: "tape", "aria-hidden": "true" });
  box.addEventListener("input", () => {
    stop();
    const text = known(box.value);
    wrote(commonLength(text, state.text));
    hint.textContent = !text ? NOTHING : text === box.value ? HINT : UNKNOWN;
    if (!text) return;
    soon(() => {
      state.text = text;
      return Infinity;
    });
  });
  const presets = (state.entry.presets ?? []).map((preset) => button(preset.split(/[.\n]/)[0], () => {
    box.value = preset;
    box.dispatchEvent(new Event("input"));
  }));
  return {
    elements: [box, hint, make("div", { class: "presets" }, ...presets), tape, note(COLORS)],
    run() {
      if (known(box.value) !== state.text) box.value = state.text; // changed by the page, not by typing
      const characters = [...state.text];
      tape.replaceChildren(...characters.map((character, t) => {
        const read = state.inputs[t] ?? character, byModel = state.written.has(t);
        const guessed = t ? outputsAt(state.record, t - 1)[state.vocabulary.indexOf(read)].value : 0, color = colorOf(guessed, true);
        const style = `background:${css(color)};color:${inkOn(color)}`, title = `probability ${percent(guessed, 1)}${byModel ? ", written by the model" : ""}`;
        return make("span", { style, title, class: byModel ? "written" : null, on: { click: () => choose(t) } }, read === "\n" ? "↵\n" : read);
      }));
    },
    show() {
      tape.querySelector(".at")?.classList.remove("at");
      const at = tape.children[state.step];
      at.classList.add("at");
      tape.scrollTop = at.offsetTop - tape.offsetTop - 40;
    },
  };
}

// ---- A signal --------------------------------------------------------------------------------------------------------

const WAVES = {
  "Sine wave": (t) => 0.6 * Math.sin((2 * Math.PI * t) / 20),
  Triangle: (t) => 0.6 * (4 * Math.abs(((t / 24) % 1) - 0.5) - 1),
  "Two waves": (t) => 0.45 * Math.sin((2 * Math.PI * t) / 14) + 0.3 * Math.sin((2 * Math.PI * t) / 60),
  "A step": (t) => (t < 40 ? -0.4 : 0.4),
};
const WAVE_STEPS = 80;

/** A picture of all features over time, where there are several. */
function features() {
  const box = make("div");
  let map = null;
  return {
    element: box,
    run() {
      const rows = new Rows(width(), state.model ? inputOf(true).data : state.signal);
      map = picture(rows, inOrder(rows.width), false, limitOf(rows));
      box.replaceChildren(map.element);
    },
    show: () => map.mark(state.step),
  };
}

function recorded() {
  const map = features();
  return { ...map, elements: [map.element, note("The input was recorded: this page has no live computation, so it cannot be changed.")] };
}

function curveEditor() {
  const I = width(), { entry } = state, map = I > 1 ? features() : null;
  const canvas = make("canvas", {
    class: "draw", tabindex: "0", role: "slider", "aria-valuemin": "-1", "aria-valuemax": "1",
    "aria-label": "The curve: arrow keys left and right move, up and down change the value",
  });
  let channel = 0, limit = 1, previous = null;
  const valueAt = (t) => state.signal[t * I + channel], steps = () => state.signal.length / I;
  const rescale = () => (limit = 1.1 * largest(Array.from({ length: steps() }, (_, t) => valueAt(t))));

  const render = () => {
    const T = steps(), w = (canvas.width = Math.max(300, canvas.clientWidth * 2)), h = (canvas.height = 340);
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const x = (t) => ((t + 0.5) / T) * w, y = (value) => h / 2 - (value / limit) * h * 0.48;
    const stroke = (color, lineWidth, points) => {
      Object.assign(context, { strokeStyle: style.getPropertyValue(color), lineWidth });
      context.beginPath();
      points.forEach((point) => context.lineTo(...point));
      context.stroke();
    };
    stroke("--line", 2, [[0, h / 2], [w, h / 2]]);
    stroke("--mark", 3, [[x(state.step), 0], [x(state.step), h]]);
    stroke("--accent", 5, Array.from({ length: T }, (_, t) => [x(t), y(valueAt(t))]));
    const written = [...state.written].sort((a, b) => a - b);
    context.setLineDash([12, 10]);
    if (written.length) stroke("--surface", 5, written.map((t) => [x(t), y(valueAt(t))]));
    context.setLineDash([]);
    context.fillStyle = style.getPropertyValue("--mark");
    context.beginPath();
    context.arc(x(state.step), y(valueAt(state.step)), 9, 0, 7);
    context.fill();
    canvas.setAttribute("aria-valuenow", valueAt(state.step).toFixed(2));
    canvas.setAttribute("aria-valuetext", `step ${state.step + 1}: ${valueAt(state.step).toFixed(2)}`);
  };
  const set = (t, value) => {
    const signal = state.signal.slice();
    const from = previous ?? { t, value }, low = Math.min(t, from.t), high = Math.max(t, from.t);
    const share = (n) => (high === low ? 1 : (n - from.t) / (t - from.t));
    for (let n = low; n <= high; n++) {
      signal[n * I + channel] = from.value + share(n) * (value - from.value);
      state.written.delete(n);
    }
    state.signal = signal;
    soon(() => t);
  };
  const drag = (event) => {
    const box = canvas.getBoundingClientRect(), last = steps() - 1;
    const t = Math.min(Math.max(Math.floor(((event.clientX - box.left) / box.width) * (last + 1)), 0), last);
    const value = ((0.5 - (event.clientY - box.top) / box.height) / 0.48) * limit;
    set(t, value);
    previous = { t, value };
  };
  canvas.addEventListener("pointerdown", (event) => {
    stop();
    canvas.setPointerCapture(event.pointerId);
    previous = null;
    drag(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && drag(event));
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      previous = null;
      rescale();
      render();
    });
  canvas.addEventListener("keydown", (event) => {
    const { step } = state, by = limit / 20;
    const actions = {
      ArrowLeft: () => choose(step - 1), ArrowRight: () => choose(step + 1),
      ArrowUp: () => set(step, valueAt(step) + by), ArrowDown: () => set(step, valueAt(step) - by),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    stop();
    actions[event.key]();
  });

  const replace = (signal) => {
    stop();
    wrote(0);
    state.signal = signal;
    rescale();
    refresh(Infinity);
  };
  const draw = (wave) => replace(Float32Array.from({ length: WAVE_STEPS }, (_, t) => wave(t)));
  const pick = ({ target }) => replace(Float32Array.from(entry.examples[target.value].x.flat()));
  const show = ({ target }) => {
    channel = Number(target.value);
    rescale();
    render();
  };
  const field = (name, attributes, change, options) => make("label", { class: "field" }, name, choice({ ...attributes, on: { change } }, options));
  const controls = [
    ...(entry.kind === "curve" ? Object.entries(WAVES).map(([name, wave]) => button(name, () => draw(wave))) : []),
    entry.examples?.length > 1 ? field("Recording ", { id: "recording" }, pick, entry.examples.map(({ name }, n) => [n, name])) : null,
    I > 1 ? field("Draw ", {}, show, inOrder(I).map((i) => [i, `${entry.channel ?? "feature"} ${i + 1}`])) : null,
  ];
  return {
    elements: [
      canvas, note("Draw with the pointer or the arrow keys: everything on this page follows." + (entry.kind === "curve" ? " What the model wrote is dashed." : "")), ...(map ? [map.element] : []),
      make("div", { class: "presets" }, ...controls), ...(entry.microphone ? voiceRecorder(replace) : []),
    ],
    run() {
      if (!previous) rescale(); // but the scale stays while the reader draws
      map?.run();
    },
    show() {
      render();
      map?.show();
    },
  };
}

// ---- The reader's voice ----------------------------------------------------------------------------------------------

const SECONDS = 1.5;

function voiceRecorder(replace) {
  const { hint, about } = state.entry.microphone;
  const status = make("p", { class: "note", role: "status", id: "record-note" }, hint), say = (text) => (status.textContent = text);
  const listen = async ({ target }) => {
    if (!microphone.available()) return say(microphone.UNAVAILABLE);
    stop();
    target.disabled = true;
    say("Waiting for the permission to use the microphone…");
    try {
      const { samples, rate } = await microphone.record(SECONDS, () => say("Listening…"));
      const spoken = utterance(resampled(samples, rate));
      if (!spoken) return say("The page heard no voice. Press Record again, and speak close to the microphone.");
      const signal = cepstra(spoken).slice(0, MOST_STEPS * width());
      replace(signal);
      say(`Heard ${signal.length / width()} frames of sound.`);
    } catch (error) {
      say(error.message);
    } finally {
      target.disabled = false;
    }
  };
  return [
    make("div", { class: "presets" }, button("● Record your voice", listen, { id: "record" })), status,
    make("details", { class: "note" }, make("summary", {}, "How it listens"), about),
  ];
}
