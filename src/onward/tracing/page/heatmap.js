// Heat maps of units over time, on which the reader chooses a unit and a step.
import { pixelOf } from "./colors.js";
import { make } from "./dom.js";

/** Paint rows (T, H) with units from top to bottom in the given order. */
export function paint(canvas, rows, order, gate, limit = gate ? 1 : limitOf(rows)) {
  const T = rows.length, H = order.length;
  Object.assign(canvas, { width: T, height: H });
  const context = canvas.getContext("2d"), image = context.createImageData(T, H);
  const pixels = new Uint32Array(image.data.buffer), pixel = pixelOf(gate, limit);
  for (let n = 0; n < H; n++) for (let t = 0; t < T; t++) pixels[n * T + t] = pixel(rows.at(t, order[n]));
  context.putImageData(image, 0, 0);
}

/** The color scale of a state: the 98th percentile of the finite magnitudes. */
export function limitOf(rows) {
  const magnitudes = rows.data.filter(Number.isFinite).map(Math.abs).sort();
  return magnitudes[Math.floor(0.98 * (magnitudes.length - 1))] || 1;
}

/** The units 0 to H - 1. */
export const inOrder = (H) => Array.from({ length: H }, (_, unit) => unit);

/** A picture of rows (T, H) with a mark at a step, and nothing to choose. */
export function picture(rows, order, gate, limit) {
  const canvas = make("canvas", { "aria-hidden": "true" }), column = make("div", { class: "col" });
  paint(canvas, rows, order, gate, limit);
  return { element: make("div", { class: "map" }, canvas, column), mark: (t) => place(column, "left", "width", t, rows.length) };
}

/** Cover place n of `count` equal parts with an element. */
function place(element, start, size, n, count) {
  Object.assign(element.style, { [start]: `${(n / count) * 100}%`, [size]: `${100 / count}%` });
}

/** A heat map on which the pointer and the arrow keys choose a unit and a step; describe(t, unit) puts a cell in words. */
export function heatMap(label, choose, describe) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const column = make("div", { class: "col" }), row = make("div", { class: "row-mark" });
  const attributes = { class: "map", tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": "1" };
  const map = make("div", attributes, canvas, column, row);
  let rows = null, order = [], t = 0, unit = 0;
  const within = (n, count) => Math.min(Math.max(n, 0), count - 1);
  const cell = (event) => {
    const box = map.getBoundingClientRect(), n = Math.floor(((event.clientY - box.top) / box.height) * order.length);
    const step = Math.floor(((event.clientX - box.left) / box.width) * rows.length);
    return [within(step, rows.length), order[within(n, order.length)]];
  };
  const go = (step, n) => choose(step, order[within(n, order.length)]);
  map.addEventListener("pointerdown", (event) => choose(...cell(event)));
  map.addEventListener("pointermove", (event) => {
    if (event.buttons) choose(...cell(event));
    else map.title = describe(...cell(event));
  });
  map.addEventListener("keydown", (event) => {
    const at = order.indexOf(unit);
    const moves = {
      ArrowLeft: [t - 1, at], ArrowRight: [t + 1, at], ArrowUp: [t, at - 1], ArrowDown: [t, at + 1],
      Home: [0, at], End: [rows.length - 1, at], PageUp: [t, at - 10], PageDown: [t, at + 10],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    go(...moves[event.key]);
  });
  return {
    element: map,
    paint(newRows, newOrder, gate) {
      rows = newRows;
      order = newOrder;
      paint(canvas, rows, order, gate);
    },
    mark(step, chosen) {
      t = step;
      unit = chosen;
      place(column, "left", "width", t, rows.length);
      place(row, "top", "height", order.indexOf(unit), order.length);
      row.hidden = !order.includes(unit);
      map.setAttribute("aria-valuemax", rows.length);
      map.setAttribute("aria-valuenow", t + 1);
      map.setAttribute("aria-valuetext", describe(t, unit));
    },
  };
}
