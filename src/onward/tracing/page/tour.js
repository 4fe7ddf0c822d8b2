// The guided tour: eight steps, each of which sets the page up and explains what it shows.
import { choose, refresh, scrollTo, state } from "./explore.js";

const $ = (id) => document.getElementById(id);

const STEPS = [
  ["A network that reads", "input", "This is a real, trained network. It reads one step at a time, from left to right, and after each step it predicts what comes next. Change the input: everything follows.", () => choose(Infinity)],
  ["The whole model", "overview", "The input passes through the layers to the output on the right. The colored pictures show each layer's hidden state over time. Blue is negative, orange is positive.", () => choose(Infinity)],
  ["Gates", "layer", "Inside an LSTM layer, three gates between 0 and 1 control a memory: the input gate lets something in, the forget gate keeps what is there, and the output gate lets it out.", () => choose(Math.floor(state.record.length / 2))],
  ["One unit", "unit", "Follow the numbers. The old cell state is multiplied by the forget gate; the candidate, times the input gate, is added. That sum is the new memory.", () => choose(Math.floor(state.record.length / 2), longest())],
  ["A memory in time", "life", "This unit keeps its state for longer than any other in the layer: its forget gate stays close to 1. Play, or step through time, and watch its cell state.", () => choose(Math.floor(state.record.length / 2))],
  ["The equation", "equation", "There is nothing else in the cell: six short lines. Each is the line of the textbook in Onward, with the numbers of this unit and this step filled in.", () => {}],
  ["What if it forgot?", "whatif-banner", "All forget gates of this layer are now held at 0: its cell states keep nothing of the step before. The marks in the output show the prediction from before. Under “Ask it” you can try your own changes.", () => {
    state.clamps = state.record.layer(state.layer).type === "LSTM" && state.model ? [{ layer: state.record.layer(state.layer).name, gate: "f", unit: null, value: 0 }] : [];
    refresh();
  }, "overview"],
  ["Now you", "ask", "Undone. Ask which inputs a prediction depends on, search what a unit remembers, or choose the latch above as the model to see where gradients vanish. The address of this page keeps your text, unit and step.", () => {
    state.clamps = [];
    refresh();
  }],
];

/** The unit of the layer whose forget gate is open most. */
function longest() {
  const { arrays, H } = state.record.layer(state.layer), keep = arrays.f ?? arrays.z;
  if (!keep) return state.unit;
  const sums = Array.from({ length: H }, (_, unit) => Array.from({ length: keep.length }, (_, t) => keep.at(t, unit)).reduce((a, b) => a + b, 0));
  return sums.indexOf(Math.max(...sums));
}

let at = 0;

function go(n) {
  at = n;
  const [title, section, text, act, target = section] = STEPS[n];
  $("tour").hidden = false;
  $("tour-count").textContent = `${n + 1} of ${STEPS.length}`;
  $("tour-title").textContent = title;
  $("tour-text").textContent = text;
  $("tour-back").disabled = n === 0;
  $("tour-next").textContent = n === STEPS.length - 1 ? "Finish" : "Next";
  act();
  scrollTo(target);
  $("tour-title").focus({ preventScroll: true });
}

function end() {
  $("tour").hidden = true;
  if (state.clamps.length) {
    state.clamps = [];
    refresh();
  }
  $("tour-start").focus({ preventScroll: true });
}

export function startTour() {
  $("tour-next").onclick = () => (at === STEPS.length - 1 ? end() : go(at + 1));
  $("tour-back").onclick = () => go(at - 1);
  $("tour-end").onclick = end;
  $("tour").onkeydown = (event) => event.key === "Escape" && end();
  go(0);
}
