// The guided tour: how the latch remembers a pulse. Each step sets the page up and explains what it shows.
import { $, number, scrollTo } from "./dom.js";
import { choose, outputsAt, refresh, state } from "./state.js";
import { clamp, undo } from "./whatif.js";

const MODEL = "latch";
const LOW = "(max-height: 420px)"; // as in explore.css
const AFTER = 5; // steps from the pulse to the closed gate

/** What the tour tells, found in the run that it shows. */
function story() {
  const { signal, record, before, entry: { unit } } = state, pulse = signal.findLastIndex((value) => value !== 0);
  const layer = before.layers[0], end = record.length - 1, answer = (of) => number(outputsAt(of, end)[0].value);
  const at = (name, t) => layer.arrays[name].at(t, unit), gate = (name, t) => number(at(name, t), 2);
  const held = Array.from({ length: end - pulse }, (_, n) => at("f", pulse + 1 + n));
  return { signal, pulse, layer, unit, end, answer: answer(before), changed: answer(record), at, gate, keeps: held.reduce((a, b) => a + b, 0) / held.length };
}

/** The unit whose forget gate is open widest on average. */
function widest({ arrays: { f }, H }) {
  const sums = new Float64Array(H);
  f.data.forEach((value, n) => (sums[n % H] += value));
  return sums.indexOf(Math.max(...sums));
}

/** Close the forget gate of a unit, or of all units, at one step after the pulse. */
function close({ layer, pulse, unit }, whole) {
  clamp(layer.name, "f", whole ? null : unit, 0, pulse + AFTER);
  choose(Infinity, unit);
}

const STEPS = [
  {
    title: "A pulse to remember", part: "editor", setUp: ({ pulse, unit }) => choose(pulse, unit),
    text: ({ pulse, signal }) => "This small network is trained for one task: to answer with the last pulse, however long ago. It reads " +
      `one number per step: zeros, and now and then a pulse. Step ${pulse + 1} is one, of ${number(signal[pulse], 2)}.`,
  },
  {
    title: "It still knows", part: "output", setUp: () => choose(Infinity),
    text: ({ pulse, end, answer }) => `${end - pulse} steps later, it answers ${answer}. All inputs since the pulse were zeros: the network ` +
      "has carried the number in its state.",
  },
  {
    title: "Where the answer comes from", part: "influence", setUp: () => choose(Infinity),
    text: () => "The page erases each input in turn and runs the network again. The color and the arcs show how much the answer changes: " +
      "it comes from the pulse, not from what was read last.",
  },
  {
    title: "Which unit holds it", part: "needed", setUp: () => choose(Infinity),
    text: ({ unit, layer }) => {
      const { intact, layers } = state.needed ?? { intact: NaN, layers: { [layer.name]: [] } }, errors = layers[layer.name], open = widest(layer);
      return `Now one unit after the other is frozen. Without unit ${unit}, the error rises from ${number(intact, 2)} to ${number(errors[unit], 2)}. ` +
        `Unit ${open} has the forget gate that is open widest, and yet nearly nothing is lost without it (${number(errors[open], 2)}): an open gate is no ` +
        "memory if nothing was written.";
    },
  },
  {
    title: "The gate that caught it", part: "unit", setUp: ({ pulse, unit }) => choose(pulse, unit),
    text: ({ pulse, unit, gate }) => `This is unit ${unit} at the pulse. Its input gate is ${gate("i", pulse)}, from ${gate("i", pulse - 1)} one step ` +
      `before and ${gate("i", pulse + 1)} one step later: at that moment the candidate, ${gate("g", pulse)}, is written into the cell state.`,
  },
  {
    title: "The gate that keeps it", part: "life", setUp: ({ pulse, end }) => choose(Math.floor((pulse + end) / 2)),
    text: ({ pulse, end, keeps, gate }) => `From then on, the forget gate is ${number(keeps, 2)} on average: each step keeps nearly all of the cell ` +
      `state. It is ${gate("c", pulse)} at the pulse, and still ${gate("c", end)} at the last step.`,
  },
  {
    title: "Close it once", part: "output", setUp: (told) => close(told, false), leave: undo,
    text: ({ pulse, unit, answer, changed }) => `The forget gate of unit ${unit} is now held at 0, at step ${pulse + AFTER + 1} only. The last answer ` +
      `goes from ${answer} to ${changed}: this unit holds a part of the memory, and others hold the rest.`,
  },
  {
    title: "Close them all", part: "output", setUp: (told) => close(told, true), leave: undo,
    text: ({ answer, changed }) => `The same for all units of the layer, at that one step: ${answer} becomes ${changed}. The memory is gone, and no ` +
      "later input can bring it back.",
  },
  {
    title: "Now you", part: "ask", setUp: () => {},
    text: () => "Undone. Ask this network which inputs and units it needs, and try your own “what if”. When you close the tour, the page returns to " +
      "what you had before it. Its address keeps your input, unit and step.",
  },
];

let at = null, own = null, openModel = null;

/** What the reader had: the model, the input, the changes, and the place. */
function kept() {
  const { entry, text, signal, layer, unit, step, clamps, forget, inputs } = state;
  return { entry, chosen: { text, signal, layer, unit, step }, changes: { clamps, forget, inputs } };
}

async function begin() {
  own = kept();
  const latch = state.models.find(({ id }) => id === MODEL);
  await openModel(latch, {});
  await ranked();
  go(0);
}

/** Wait until the units are ranked, which takes moments for this model. */
async function ranked() {
  while (!state.needed) await new Promise((resolve) => setTimeout(resolve, 20));
}

function go(n) {
  STEPS[at]?.leave?.();
  at = n;
  const { title, part, text, setUp } = STEPS[n];
  setUp(story());
  document.body.classList.add("touring");
  $("tour").hidden = false;
  $("tour-count").textContent = `${n + 1} of ${STEPS.length}`;
  $("tour-title").textContent = title;
  $("tour-text").textContent = text(story());
  $("tour-back").disabled = n === 0;
  $("tour-next").textContent = n === STEPS.length - 1 ? "Finish" : "Next";
  light(part);
  place(part);
  $("tour-title").focus({ preventScroll: true });
}

/** Show the panel beside the part that it explains; on a low page, such as one at 400 %, directly above it. */
function place(part) {
  if (!matchMedia(LOW).matches) return scrollTo(part);
  $("tour").style.order = getComputedStyle($(part)).order;
  $(part).before($("tour"));
  scrollTo("tour");
}

/** Mark the part of the page that the tour explains. */
function light(part) {
  document.querySelector(".lit")?.classList.remove("lit");
  if (part) $(part).classList.add("lit");
}

/** Close the tour, and give the page back as it was. */
async function end() {
  STEPS[at].leave?.();
  const { entry, chosen, changes } = own;
  at = null;
  $("tour").hidden = true;
  document.body.append($("tour"));
  document.body.classList.remove("touring");
  light(null);
  await openModel(entry, chosen);
  Object.assign(state, changes);
  refresh(chosen.step);
  $("tour-start").focus({ preventScroll: true });
}

/** The tour needs the latch, which runs here. */
export function open() {
  $("tour-start").hidden = !state.models.some(({ id }) => id === MODEL);
}

/** Connect the controls, once; `open` opens a model of the list. */
export function start(open) {
  openModel = open;
  $("tour-start").addEventListener("click", begin);
  $("tour-next").addEventListener("click", () => (at === STEPS.length - 1 ? end() : go(at + 1)));
  $("tour-back").addEventListener("click", () => go(at - 1));
  $("tour-end").addEventListener("click", end);
  $("tour").addEventListener("keydown", (event) => event.key === "Escape" && end());
}
