// The guided tour: eight steps, each of which sets the page up and explains what it shows.
import { $, scrollTo } from "./dom.js";
import { longestMemory } from "./record.js";
import { choose, state } from "./state.js";
import { clamp, undo } from "./whatif.js";

const middle = () => Math.floor(state.record.length / 2);
const layer = () => state.record.layer(state.layer);

const STEPS = [
  {
    title: "A network that reads", part: "editor", setUp: () => choose(Infinity),
    text: "This is a real, trained network. It reads its input one step at a time, from left to right, and after each step it " +
      "gives an answer. Change the input, and everything on this page follows.",
  },
  {
    title: "The whole model", part: "layers", setUp: () => choose(Infinity),
    text: "The input passes through the layers to the output. The pictures show each layer's hidden state over time, one row " +
      "per unit: blue is negative, orange is positive. The red line is the step that you look at.",
  },
  {
    title: "Gates", part: "layer", setUp: () => choose(middle()),
    text: "Inside an LSTM layer, three gates between 0 and 1 control a memory: the input gate lets something in, the forget " +
      "gate keeps what is there, and the output gate lets it out.",
  },
  {
    title: "One unit", part: "unit", setUp: () => choose(middle(), longestMemory(layer())),
    text: "Follow the numbers. The old cell state is multiplied by the forget gate; the candidate, times the input gate, is " +
      "added. That sum is the new memory.",
  },
  {
    title: "A memory in time", part: "life", setUp: () => choose(middle()),
    text: "This unit keeps its state for longer than any other in the layer: its forget gate stays close to 1. Play, or step " +
      "through time, and watch its cell state.",
  },
  {
    title: "The equation", part: "equation", setUp: () => {},
    text: "There is nothing else in the cell: six short lines. Each is the line of the textbook in Onward, with the numbers of " +
      "this unit and this step filled in.",
  },
  {
    title: "What if it forgot?", part: "output", setUp: () => clamp(layer().name, "f", null, 0), leave: undo,
    text: "All forget gates of this layer are now held at 0: its cell states keep nothing of the step before. The marks in the " +
      "output show the prediction from before. Under “Ask it” you can try your own changes.",
  },
  {
    title: "Now you", part: "ask", setUp: () => {},
    text: "Undone. See which inputs a prediction depends on, search for what a unit remembers, and try your own “what if”. The " +
      "latch, in the list of models, shows where gradients vanish. The address of this page keeps your input, unit and step.",
  },
];

let at = null;

function go(n) {
  STEPS[at]?.leave?.();
  at = n;
  const { title, part, text, setUp } = STEPS[n];
  $("tour").hidden = false;
  $("tour-count").textContent = `${n + 1} of ${STEPS.length}`;
  $("tour-title").textContent = title;
  $("tour-text").textContent = text;
  $("tour-back").disabled = n === 0;
  $("tour-next").textContent = n === STEPS.length - 1 ? "Finish" : "Next";
  setUp();
  light(part);
  scrollTo(part);
  $("tour-title").focus({ preventScroll: true });
}

/** Mark the part of the page that the tour explains. */
function light(part) {
  document.querySelector(".lit")?.classList.remove("lit");
  if (part) $(part).classList.add("lit");
}

function end() {
  STEPS[at].leave?.();
  at = null;
  $("tour").hidden = true;
  light(null);
  $("tour-start").focus({ preventScroll: true });
}

/** The tour is the story of a live LSTM; other models do without. */
export function open() {
  if (at !== null) end();
  $("tour-start").hidden = !state.model || layer().type !== "LSTM";
}

/** Connect the controls, once. */
export function start() {
  $("tour-start").addEventListener("click", () => go(0));
  $("tour-next").addEventListener("click", () => (at === STEPS.length - 1 ? end() : go(at + 1)));
  $("tour-back").addEventListener("click", () => go(at - 1));
  $("tour-end").addEventListener("click", end);
  $("tour").addEventListener("keydown", (event) => event.key === "Escape" && end());
}
