// Questions to the model, one card each.
import { $, make } from "./dom.js";
import * as influence from "./influence.js";
import * as needed from "./needed.js";
import * as reactions from "./reactions.js";
import { state } from "./state.js";
import * as whatif from "./whatif.js";

const CARDS = [influence, needed, reactions, whatif];
const RECORDED =
  "This page shows recorded values only. To ask questions, open a model that can run here with onward explore.";
let cards = [];

export function open() {
  cards = state.model ? CARDS : [];
  const built = cards.map((card) => make("div", { class: [influence, whatif].includes(card) ? "card wide" : "card" }, ...card.build()));
  $("cards").replaceChildren(...(state.model ? built : [make("p", { class: "lead" }, RECORDED)]));
}
export const ranked = () => cards.includes(needed) && needed.show();
export const run = () => cards.forEach((card) => card.run?.());
export const show = () => cards.forEach((card) => card.show?.());
