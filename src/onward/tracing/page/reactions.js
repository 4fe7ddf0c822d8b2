// Where a unit reacts: the places at which a gate of it is most open, or its state largest.
import { button, choice, make, note, number, visible } from "./dom.js";
import { arraysOf } from "./layer.js";
import { isGate } from "./record.js";
import { encoded, inputOf, known, recordOf, state, width } from "./state.js";
import { Tensor } from "./onward.js";

const PLACES = 6;
const APART = 12; // steps between two places of a text
const BEFORE = 26, AFTER = 8; // characters around a place

let samples = null, title = null, list = null, result = null;

/** What is searched: a text, or recordings; each {name, x, record}. */
function searched() {
  const { entry } = state;
  if (samples) return samples;
  const all = entry.kind === "text" ? [{ x: encoded(known(entry.corpus ?? state.text)) }]
    : entry.examples ? entry.examples.map(({ name, x }) => ({ name, x: new Tensor(Float32Array.from(x.flat()), [x.length, width()]) }))
    : [{ name: "this signal", x: inputOf() }];
  return (samples = all.map((sample) => ({ ...sample, record: recordOf({ model: state.model }, sample.x) })));
}

export function build() {
  const names = arraysOf(state.record.layers[0]), text = state.entry.kind === "text";
  samples = null;
  title = make("h3");
  result = make("div", { "aria-live": "polite", id: "memories" });
  list = choice({ "aria-label": "Gate or state", on: { change: search } },
    names.map((name) => [name, isGate(name) ? `${name} most open` : `${name} largest`]));
  list.value = names.includes("c") ? "c" : "h";
  const places = text ? "The places in a sample of texts" : "The steps of the recordings";
  return [
    title, note(`${places} at which it is most open, or its state largest.`),
    make("div", { class: "row" }, list, button("Search", search, { id: "search" })), result,
  ];
}

function search() {
  const size = (value) => (isGate(list.value) ? value : Math.abs(value)), found = [];
  const places = searched().flatMap(({ record }, n) => {
    const rows = record.layer(state.layer).arrays[list.value];
    return Array.from({ length: rows.length }, (_, t) => ({ n, t, value: rows.at(t, state.unit) }));
  });
  for (const place of places.sort((a, b) => size(b.value) - size(a.value))) {
    if (found.length === PLACES) break;
    if (!found.some(({ n, t }) => n === place.n && Math.abs(t - place.t) < APART)) found.push(place);
  }
  result.replaceChildren(...found.map(({ n, t, value }) => make("div", { class: "quote" }, ...quote(samples[n], t), `  ${number(value)}`)));
}

/** A place of a sample, in context. */
function quote({ name, x }, t) {
  if (name) return [`${name}, step ${t + 1}:`];
  const characters = Array.from(x.data, (k) => visible(state.vocabulary[k]).replace("␣", " "));
  const between = (from, to) => characters.slice(Math.max(0, from), to).join("");
  return [between(t - BEFORE, t), make("mark", {}, visible(state.vocabulary[x.data[t]])), between(t + 1, t + AFTER)];
}

/** Follow the chosen unit, after the first search. */
export function show() {
  title.textContent = `Where does unit ${state.unit} react most?`;
  if (samples) search();
}
