// Time: play, pause and step through the input, and let the model continue it.
import { $ } from "./dom.js";
import { softmax } from "./record.js";
import { choose, labelOf, MOST_STEPS, refresh, state } from "./state.js";

const PLAY = 160, SAMPLE = 120; // milliseconds between steps

let timer = null;

/** Stop playing and sampling. */
export function stop() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "▶";
  $("play").setAttribute("aria-label", "Play");
  $("sample").textContent = state.entry?.kind === "text" ? "Let it write" : "Let it go on";
}

function play() {
  if (timer) return stop();
  const atEnd = () => state.step >= state.record.length - 1;
  if (atEnd()) choose(0);
  $("play").textContent = "⏸";
  $("play").setAttribute("aria-label", "Pause");
  timer = setInterval(() => (atEnd() ? stop() : choose(state.step + 1)), PLAY);
}

/** The class drawn from scores at a temperature; the best one at temperature 0. */
export function draw(scores, temperature, random = Math.random) {
  if (!temperature) return scores.indexOf(Math.max(...scores));
  const shares = softmax(scores.map((value) => value / temperature));
  let rest = random();
  return Math.max(0, shares.findIndex((share) => (rest -= share) < 0));
}

export const temperature = () => Number($("temperature").value);

function addStep() {
  if (state.record.length >= MOST_STEPS) return stop();
  const row = [...state.record.outputs.row(state.record.length - 1)];
  state.written.add(state.record.length);
  if (state.entry.kind === "text") state.text += state.vocabulary[draw(row, temperature())];
  else state.signal = Float32Array.of(...state.signal, row[0]);
  refresh(Infinity);
}

function sample() {
  if (timer) return stop();
  $("sample").textContent = "Stop";
  timer = setInterval(addStep, SAMPLE);
}

/** The space bar plays, and the arrows step, unless a control has the keyboard. */
function shortcut(event) {
  const { key, target, ctrlKey, metaKey, altKey } = event, keys = { " ": play, ArrowLeft: () => choose(state.step - 1), ArrowRight: () => choose(state.step + 1) };
  if (!(key in keys) || ctrlKey || metaKey || altKey || target.closest("input, textarea, select, button, summary, a, [role=slider]")) return;
  event.preventDefault();
  keys[key]();
}

/** Connect the controls, once. */
export function start() {
  document.addEventListener("keydown", shortcut);
  $("first").addEventListener("click", () => choose(0));
  $("back").addEventListener("click", () => choose(state.step - 1));
  $("forward").addEventListener("click", () => choose(state.step + 1));
  $("play").addEventListener("click", play);
  $("sample").addEventListener("click", sample);
  $("scrub").addEventListener("input", () => choose(Number($("scrub").value) - 1));
  $("temperature").addEventListener("input", () => ($("heat").textContent = $("temperature").value));
}

export function open() {
  stop();
  const { entry, model } = state;
  $("sampling").hidden = !model || entry.kind === "signal";
  $("temperature-field").hidden = entry.kind !== "text";
}

export function show() {
  const { record, step } = state;
  Object.assign($("scrub"), { max: record.length, value: step + 1 });
  $("scrub").setAttribute("aria-valuetext", `step ${step + 1} of ${record.length}, ${labelOf(step)}`);
  $("now").textContent = `${step + 1} / ${record.length}  ${labelOf(step)}`;
}
