// The colors of values: a sequential scale for gates, a diverging one for states, both taken from the style sheet.

let scales = null;

/** Read the scales again, after the theme has changed. */
export const forgetColors = () => (scales = null);

/** 256 colors [r, g, b] between the given ones. */
function ramp(stops) {
  return Array.from({ length: 256 }, (_, n) => {
    const place = (n / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((part, k) => Math.round(part + (place - low) * (stops[low + 1][k] - part)));
  });
}

function colors() {
  if (scales) return scales;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  const scale = (...names) => {
    const colors = ramp(names.map(color)), pixels = Uint8Array.from(colors.flatMap((each) => [...each, 255]));
    return { colors, pixels: new Uint32Array(pixels.buffer) };
  };
  return (scales = { gate: scale("--seq0", "--seq1", "--seq2"), state: scale("--neg", "--mid", "--pos") });
}

/** The place of a value in its scale of 256 colors: gates from 0 to 1, states from -limit to limit; NaN is 0. */
function placeOf(value, gate, limit) {
  const share = gate ? value : (value / limit + 1) / 2;
  const known = Number.isNaN(share) ? (gate ? 0 : 0.5) : share;
  return Math.round(Math.min(1, Math.max(0, known)) * 255);
}

/** The color [r, g, b] of a value. */
export const colorOf = (value, gate, limit = 1) => colors()[gate ? "gate" : "state"].colors[placeOf(value, gate, limit)];

/** A function from a value to its color as a pixel of a canvas, fast enough for pictures. */
export function pixelOf(gate, limit) {
  const { pixels } = colors()[gate ? "gate" : "state"];
  return (value) => pixels[placeOf(value, gate, limit)];
}

export const css = (color) => `rgb(${color.join(" ")})`;

/** The relative luminance of a color, as WCAG defines it. */
function luminance(color) {
  const [r, g, b] = color.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever is easier to read on a color. */
export const inkOn = (color) => (luminance(color) > 0.179 ? "#000000" : "#ffffff");
