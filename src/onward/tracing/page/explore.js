// The page: reads the list of models, connects the views, and opens the model that the address names.
import * as address from "./address.js";
import * as ask from "./ask.js";
import * as backward from "./backward.js";
import * as clock from "./clock.js";
import { forgetColors } from "./colors.js";
import { $, make, scrollTo } from "./dom.js";
import * as editor from "./editor.js";
import * as equation from "./equation.js";
import * as layer from "./layer.js";
import * as live from "./live.js";
import { rank } from "./needed.js";
import * as overview from "./overview.js";
import { bytes } from "./record.js";
import { attach, open, redraw, state, titleOf } from "./state.js";
import * as tour from "./tour.js";
import * as unit from "./unit.js";

const embedded = JSON.parse($("embedded")?.textContent ?? "null"); // the models in a single HTML file

/** What surrounds the views: the words about the model, and the path from it to a unit. */
const frame = {
  open() {
    const { entry, model, record } = state, { type, source } = record.layers[0], precision = source?.precision;
    const why = entry.reason ? ` because ${entry.reason}` : "";
    document.title = $("title").textContent = `${/^(s?L|RN|RG)/.test(type) ? "An" : "A"} ${type}, thinking`;
    $("model").value = entry.id;
    $("lead").textContent = entry.lead ?? "The input flows from left to right, one step at a time. Choose a layer to look inside.";
    $("provenance").textContent = entry.about ?? "";
    $("subtitle").textContent = model
      ? `A ${entry.trained ? "trained " : ""}network that runs here, in your browser. Every number is real.`
      : "Recorded values of one run. There is no live computation on this page.";
    $("numbers").textContent = model
      ? "The numbers come from Onward's C++ core, compiled to WebAssembly; they have the same bits as those of this model " +
        `in Python${precision ? `, with its matrices in ${precision}` : ""}. Gradients are those of the core's backward pass.`
      : `This page shows recorded values: the model cannot run here${why}, so the input cannot be changed.`;
  },
  show() {
    $("crumb-layer").textContent = titleOf(state.record.layer(state.layer));
    $("crumb-unit").textContent = `Unit ${state.unit}, step ${state.step + 1}`;
  },
};

function status(text) {
  $("status").textContent = text;
  $("status").hidden = !text;
}

async function show(entry, chosen) {
  clock.stop();
  status(`Loading ${entry.title}…`);
  $("main").hidden = $("transport").hidden = $("crumbs").hidden = false;
  await open(entry, chosen, embedded?.wasm ? bytes(embedded.wasm) : undefined);
  status("");
}

/** Open what the address chooses. */
function follow() {
  const { model, ...chosen } = address.chosen();
  return show(state.models.find(({ id }) => id === model) ?? state.models[0], chosen);
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  forgetColors();
}

async function start() {
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  state.models = embedded?.models ?? (await (await fetch("models.json")).json());
  attach([frame, editor, layer, overview, unit, equation, ask, { open: rank }, backward, clock, tour, address]);
  $("model").replaceChildren(...state.models.map(({ id, title }) => make("option", { value: id }, title)));
  $("model-field").hidden = state.models.length < 2;
  $("model").addEventListener("change", () => attempt(show(state.models.find(({ id }) => id === $("model").value))));
  $("theme").addEventListener("click", () => {
    theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    redraw();
    live.draw();
  });
  for (const crumb of document.querySelectorAll("[data-go]")) crumb.addEventListener("click", () => scrollTo(crumb.dataset.go));
  addEventListener("hashchange", () => location.hash.includes("=") && attempt(follow()));
  for (const part of [clock, unit]) part.start();
  tour.start((entry, chosen) => show(entry, chosen).catch(report));
  live.start(embedded, attempt);
  backward.start((entry) => attempt(show(entry).then(() => scrollTo("backward"))));
  await follow();
  document.body.dataset.ready = "true";
}

/** Tell the reader what goes wrong. */
function attempt(promise) {
  promise.catch(report);
}

function report(error) {
  status(`This page cannot go on: ${error.message}`);
  console.error(error);
}

attempt(start());
