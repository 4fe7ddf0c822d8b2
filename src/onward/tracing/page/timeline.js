// Curves of one number over time, with a mark at the chosen step.
import { svg } from "./dom.js";

const WIDTH = 1000, HEIGHT = 74, MARGIN = 8;

/** The largest magnitude of the values that are finite, and at least `least`. */
export const largest = (values, least = 1) => Math.max(least, ...values.filter(Number.isFinite).map(Math.abs));

/** The points of a curve; values that are not finite are left out. */
export const pointsOf = (values, x, y) =>
  values.map((value, t) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`).filter((_, t) => Number.isFinite(values[t])).join(" ");

/** A curve with a line at 0, of shares from 0 to 1 or of any numbers. */
export function timeline(label, values, step, isShare) {
  const limit = isShare ? 1 : largest(values), [low, high] = [isShare ? 0 : -limit, limit];
  const x = (t) => ((t + 0.5) / values.length) * WIDTH;
  const y = (value) => MARGIN + ((high - value) / (high - low)) * (HEIGHT - 2 * MARGIN);
  const thin = { fill: "none", "vector-effect": "non-scaling-stroke", "stroke-width": 1.5 };
  const points = pointsOf(values, x, y);
  const picture = { class: "timeline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  return svg("svg", picture,
    svg("line", { x1: 0, x2: WIDTH, y1: y(0), y2: y(0), stroke: "var(--line)", ...thin }),
    svg("line", { x1: x(step), x2: x(step), y1: 0, y2: HEIGHT, stroke: "var(--mark)", ...thin }),
    svg("polyline", { points, stroke: "var(--accent)", ...thin }));
}
