// Small helpers for elements, and the form in which numbers and characters are shown.

/** The element with an id. */
export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element with attributes and children; `on` holds its listeners. */
export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A drop-down list; the options are [value, text] pairs. */
export const choice = (attributes, options) =>
  make("select", attributes, ...options.map(([value, text]) => make("option", { value }, text)));

export const button = (text, click, attributes = {}) => make("button", { type: "button", ...attributes, on: { click } }, text);

export const note = (...content) => make("p", { class: "note" }, ...content);

export const visible = (character) => ({ "\n": "↵", "\t": "→", " ": "␣" })[character] ?? character;

export const number = (value, digits = 3) =>
  value === undefined ? "…" : value.toFixed(digits).replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");

/** A number with two digits, and a power of ten if it is small. */
export function scientific(value) {
  if (Math.abs(value) >= 1e-3) return value.toPrecision(2);
  const [digits, exponent] = value.toExponential(1).split("e"), raised = [...exponent].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit] ?? "⁻");
  return `${digits}\u00a0×\u00a010${raised.join("")}`;
}

export const percent = (value, digits = 0) => `${(value * 100).toFixed(digits)}%`;

export const scrollTo = (id) => $(id).scrollIntoView({ block: "start" });
