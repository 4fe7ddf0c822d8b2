// The reader's input: a text to type, a curve to draw, a recording to pick or to make.
import { stop } from "./clock.js";
import { colorOf, css, inkOn } from "./colors.js";
import { $, choice, make, percent, visible } from "./dom.js";
import { inOrder, limitOf, picture } from "./heatmap.js";
import * as microphone from "./microphone.js";
import { choose, inputOf, known, MOST_STEPS, outputsAt, refresh, state, width } from "./state.js";
import { cepstra, resampled, utterance } from "./speech.js";

let editor = {};

export function open() {
  const { model, entry } = state;
  editor = !model ? recorded() : entry.kind === "text" ? textEditor() : curveEditor();
  $("editor").replaceChildren(make("h3", {}, "You write"), ...editor.elements);
  if (!model) $("editor").firstChild.textContent = "The input";
  else if (entry.kind !== "text") $("editor").firstChild.textContent = entry.microphone ? "You choose, draw or speak" : "You draw";
}
export const run = () => editor.run?.();
export const show = () => editor.show?.();

let frame = 0;

/** Run the model before the next frame, however many changes there are until then. */
function soon(step) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => refresh(step()));
}

// ---- A text ----------------------------------------------------------------------------------------------------------

const HINT = "Type: everything on this page follows.";

function textEditor() {
  const box = make("textarea", { id: "text", "aria-label": "Text for the model to read", spellcheck: "false", maxlength: MOST_STEPS, rows: "6" });
  const note = make("p", { class: "note", role: "status", id: "text-note" }, HINT), tape = make("div", { class: "tape", id: "tape", "aria-hidden": "true" });
  box.addEventListener("input", () => {
    stop();
    const text = known(box.value);
    note.textContent = !text ? "Type at least one character that the model knows." : text === box.value ? HINT : "The model does not know some of these characters; they are left out.";
    if (!text) return;
    state.text = text;
    soon(() => Infinity);
  });
  const presets = (state.entry.presets ?? []).map((preset) => make("button", {
    type: "button", on: { click: () => { box.value = preset; box.dispatchEvent(new Event("input")); } },
  }, `${preset.split(/[.\n]/)[0]}`));
  return {
    elements: [box, note, make("div", { class: "presets" }, ...presets), tape, make("p", { class: "note" }, "Its reading. The stronger the color, the more probable it found the character.")],
    run() {
      if (known(box.value) !== state.text) box.value = state.text; // changed by the page, not by typing
      const characters = [...state.text];
      tape.replaceChildren(...characters.map((character, t) => {
        const guessed = t ? outputsAt(state.before, t - 1)[state.vocabulary.indexOf(character)].value : 0, color = colorOf(guessed, true);
        return make("span", { style: `background:${css(color)};color:${inkOn(color)}`, title: `probability ${percent(guessed, 1)}`, on: { click: () => choose(t) } },
          character === "\n" ? "↵\n" : character);
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
      const { data } = state.model ? inputOf(true) : { data: state.signal }, I = width();
      const rows = { data, length: data.length / I, at: (t, i) => data[t * I + i] };
      map = picture(rows, inOrder(I), false, limitOf(rows));
      box.replaceChildren(map.element);
    },
    show: () => map.mark(state.step),
  };
}

function recorded() {
  const map = features();
  const note = make("p", { class: "note" }, "The input was recorded and cannot be changed here: this page has no live computation.");
  return { ...map, elements: [map.element, note] };
}

function curveEditor() {
  const I = width(), { entry } = state, map = I > 1 ? features() : null;
  const canvas = make("canvas", { class: "draw", tabindex: "0", role: "slider", "aria-label": "The curve: arrow keys left and right move, up and down change the value", "aria-valuemin": "-1", "aria-valuemax": "1" });
  let channel = 0, limit = 1, previous = null;
  const valueAt = (t) => state.signal[t * I + channel], steps = () => state.signal.length / I;
  const rescale = () => (limit = 1.1 * Math.max(1, ...Array.from({ length: steps() }, (_, t) => Math.abs(valueAt(t)))));

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
    for (let n = low; n <= high; n++) signal[n * I + channel] = from.value + (high === low ? 1 : (n - from.t) / (t - from.t)) * (value - from.value);
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
    state.signal = signal;
    rescale();
    refresh(Infinity);
  };
  const controls = [], field = (name, list) => controls.push(make("label", { class: "field" }, name, list));
  if (entry.kind === "curve")
    controls.push(...Object.entries(WAVES).map(([name, at]) => make("button", {
      type: "button", on: { click: () => replace(Float32Array.from({ length: WAVE_STEPS }, (_, t) => at(t))) },
    }, name)));
  if (entry.examples?.length > 1)
    field("Recording ", choice({ id: "recording", on: { change: (event) => replace(Float32Array.from(entry.examples[event.target.value].x.flat())) } },
      entry.examples.map(({ name }, n) => [n, name])));
  const recorder = entry.microphone ? voiceRecorder(replace) : [];
  if (I > 1)
    field("Draw ", choice({ on: { change: (event) => { channel = Number(event.target.value); rescale(); render(); } } },
      inOrder(I).map((i) => [i, `${entry.channel ?? "feature"} ${i + 1}`])));
  return {
    elements: [canvas, make("p", { class: "note" }, "Draw with the pointer or the arrow keys: everything on this page follows."), map?.element, make("div", { class: "presets" }, ...controls), ...recorder].filter(Boolean),
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
  const note = make("p", { class: "note", role: "status", id: "record-note" }, hint);
  const button = make("button", { type: "button", id: "record" }, "● Record your voice");
  const say = (text) => (note.textContent = text);
  button.addEventListener("click", async () => {
    if (!microphone.available())
      return say("The browser offers the microphone only to pages opened over https or from this machine, as by onward explore.");
    stop();
    button.disabled = true;
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
      button.disabled = false;
    }
  });
  return [make("div", { class: "presets" }, button), note, make("details", { class: "note" }, make("summary", {}, "How it listens"), about)];
}
