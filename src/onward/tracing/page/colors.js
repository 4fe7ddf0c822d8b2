// The colors of values: a sequential scale for gates, a diverging one for states, both taken from the style sheet.

let scales = null;

/** Read the scales again, after the theme has changed. */
export const forgetColors = () => (scales = null);

function ramp(stops) {
  return Uint8Array.from({ length: 256 * 3 }, (_, n) => {
    const place = (Math.floor(n / 3) / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low][n % 3] + (place - low) * (stops[low + 1][n % 3] - stops[low][n % 3]);
  });
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  scales ??= {
    sequential: ramp(["--seq0", "--seq1", "--seq2"].map(color)),
    diverging: ramp(["--neg", "--mid", "--pos"].map(color)),
  };
  return scales;
}

/** The color [r, g, b] of a value: gates from 0 to 1, states from -limit to limit. */
export function colorOf(value, gate, limit = 1) {
  const share = gate ? value : (value / limit + 1) / 2;
  const at = Math.round(Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)) * 255) * 3;
  return colors()[gate ? "sequential" : "diverging"].subarray(at, at + 3);
}

export const css = (color) => `rgb(${color.join(" ")})`;

/** The relative luminance of a color, as WCAG defines it. */
function luminance(color) {
  const [r, g, b] = Array.from(color, (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever is easier to read on a color. */
export const inkOn = (color) => (luminance(color) > 0.179 ? "#000000" : "#ffffff");
