// One layer: its gates and states over time, with similar units next to each other.
import { $, button, choice, make, number, visible } from "./dom.js";
import { heatMap, inOrder } from "./heatmap.js";
import { mostNeeded } from "./needed.js";
import { bySimilarity, isGate, meaningOf, ORDER } from "./record.js";
import { choose, labelOf, state, titleOf } from "./state.js";

const MANY = 32, FEW = 10; // a layer of more units opens with the few that the model needs most
const MOST_NARROW = 5; // pixels of a character below which the text above the maps cannot be read

let orders = {}, maps = [], shown = null, allUnits = false;

/** The units of a layer in the order of the maps; it stays while the input changes. */
export const orderOf = (layer) => (orders[layer.name] ??= bySimilarity(layer.arrays.h, layer.arrays.h.width));

/** The units that the maps show: of a large layer the few that the model needs most, unless the reader wants all. */
function shownUnits(layer) {
  const order = orderOf(layer), few = allUnits || layer.H <= MANY ? null : mostNeeded(layer, FEW);
  return few ? order.filter((unit) => few.includes(unit)) : order;
}

/** The arrays of a layer that the page shows, in their order. */
export const arraysOf = (layer) => (ORDER[layer.type] ?? Object.keys(layer.arrays)).filter((name) => layer.arrays[name]);

export function open() {
  orders = {};
  shown = null;
  allUnits = false;
  const { layers } = state.record;
  const list = choice({ id: "layer-choice", on: { change: () => choose(state.step, state.unit, list.value) } },
    layers.map((layer) => [layer.name, `${titleOf(layer)}: ${layer.name}`]));
  $("layer-pickers").replaceChildren(...(layers.length > 1 ? [make("label", { class: "field" }, "Layer ", list)] : []));
}

function build(layer) {
  maps = arraysOf(layer).map((name) => {
    const [title, meaning] = meaningOf(layer, name), now = make("span", { class: "mono now" });
    const at = (t, unit) => number(state.record.layer(layer.name).arrays[name].at(t, unit));
    const map = heatMap(`${title} ${name} of layer ${layer.name}`, choose, (t, unit) => `unit ${unit}, step ${t + 1} ${labelOf(t)}: ${at(t, unit)}`);
    const label = make("div", { class: "label" }, make("b", {}, name, " ", title), make("span", {}, meaning), now);
    return { name, map, now, label };
  });
  const strip = [make("div", { class: "label" }, "text"), make("div", { class: "strip", id: "strip", "aria-hidden": "true" })];
  $("maps").style.setProperty("--rows", `${Math.min(Math.max(layer.H / 2, 84), 128)}px`);
  $("maps").replaceChildren(...(state.text || state.entry.labels ? strip : []), ...maps.flatMap(({ label, map }) => [label, map.element]));
  shown = layer.name;
}

export function run() {
  const layer = state.record.layer(state.layer), order = shownUnits(layer);
  if (shown !== layer.name) build(layer);
  for (const { name, map } of maps) {
    const { width } = layer.arrays[name];
    map.paint(layer.arrays[name], width === layer.H ? order : inOrder(width), isGate(name));
  }
  const few = order.length < layer.H, toggle = () => { allUnits = few; run(); show(); };
  $("layer-units").replaceChildren(...(layer.H > MANY && state.needed
    ? [few ? `These are the ${FEW} units that the model needs most. ` : `All ${layer.H} units. `,
      button(few ? `Show all ${layer.H}` : `Show the ${FEW} that it needs most`, toggle, { id: "all-units" })] : []));
  const characters = [...(state.entry.labels ?? state.text)];
  if ($("strip")) {
    const legible = characters.length < $("maps").clientWidth / MOST_NARROW;
    $("strip").hidden = $("strip").previousSibling.hidden = !legible;
    $("strip").replaceChildren(...characters.map((character) => make("span", {}, visible(character))));
    $("strip").style.fontSize = `${Math.max(6, Math.min(13, 900 / characters.length))}px`;
  }
}

/** Once the units are ranked, a large layer shows the few that matter. */
export function ranked() {
  run();
  show();
}

export function show() {
  const { step, unit } = state, layer = state.record.layer(state.layer);
  if (shown !== layer.name) run();
  $("layer-name").textContent = `Inside ${titleOf(layer).toLowerCase()}`;
  $("layer-note").textContent = `This ${layer.type} layer is called ${layer.name} in Python.`;
  if ($("layer-choice")) $("layer-choice").value = layer.name;
  for (const { name, map, now } of maps) {
    map.mark(step, unit);
    now.textContent = number(unit < layer.arrays[name].width ? layer.arrays[name].at(step, unit) : undefined);
  }
  $("strip")?.childNodes.forEach((each, t) => each.classList.toggle("at", t === step));
}
