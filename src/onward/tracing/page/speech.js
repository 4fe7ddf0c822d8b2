// LPC cepstra of speech, with the analysis that the Japanese Vowels data documents: 10 kHz, frames of 25.6 ms every
// 6.4 ms, 12th order. The documentation names neither a window nor pre-emphasis. This file uses the customary Hamming
// window, and the customary pre-emphasis because the spectra of the data are flat from 0.5 to 3.5 kHz, which those
// of unemphasized vowels are not.

const RATE = 10_000, FRAME = 256, SHIFT = 64, ORDER = 12, EMPHASIS = 0.97;
const REACH = 16;     // zero crossings of the resampling filter on each side
const DROP = 0.1;     // the amplitude, relative to the loudest frame, at which an utterance ends
const SILENCE = 3e-3; // the amplitude below which nothing was said

/** Samples at 10 kHz from samples at another rate, band-limited by a sinc with a Hann window. */
export function resampled(samples, rate) {
  const step = rate / RATE, scale = Math.min(1, 1 / step), reach = REACH / scale;
  return Float64Array.from({ length: Math.floor(samples.length / step) }, (_, n) => {
    const center = n * step, last = Math.min(samples.length - 1, Math.floor(center + reach));
    let sum = 0;
    for (let k = Math.max(0, Math.ceil(center - reach)); k <= last; k++) {
      const u = Math.PI * (k - center) * scale;
      sum += samples[k] * scale * (u ? Math.sin(u) / u : 1) * (0.5 + 0.5 * Math.cos(u / REACH));
    }
    return sum;
  });
}

/** The 12 cepstral coefficients of the all-pole model of a frame of 256 samples. */
function cepstrum(frame) {
  const windowed = frame.map((value, n) => value * (0.54 - 0.46 * Math.cos((2 * Math.PI * n) / (FRAME - 1))));
  const r = Array.from({ length: ORDER + 1 }, (_, lag) => windowed.reduce((sum, value, n) => sum + value * (windowed[n - lag] ?? 0), 0));
  const a = new Float64Array(ORDER + 1); // x[n] is predicted as the sum of a[k] x[n - k], by Levinson's recursion
  let error = r[0] * (1 + 1e-9) || 1;
  for (let n = 1; n <= ORDER; n++) {
    let reflection = r[n];
    for (let k = 1; k < n; k++) reflection -= a[k] * r[n - k];
    reflection /= error;
    const old = a.slice();
    for (let k = 1; k < n; k++) a[k] -= reflection * old[n - k];
    a[n] = reflection;
    error *= 1 - reflection ** 2;
  }
  const c = new Float64Array(ORDER + 1);
  for (let n = 1; n <= ORDER; n++) {
    c[n] = a[n];
    for (let k = 1; k < n; k++) c[n] += (k / n) * c[k] * a[n - k];
  }
  return c.subarray(1);
}

/** The cepstra (T, 12) of all frames of samples at 10 kHz, in row-major order. */
export function cepstra(samples) {
  const emphasized = samples.map((value, n) => value - EMPHASIS * (samples[n - 1] ?? 0));
  const T = Math.max(0, Math.floor((samples.length - FRAME) / SHIFT) + 1), rows = new Float32Array(T * ORDER);
  for (let t = 0; t < T; t++) rows.set(cepstrum(emphasized.slice(t * SHIFT, t * SHIFT + FRAME)), t * ORDER);
  return rows;
}

/** The part of samples at 10 kHz that has the most energy, without the quiet around it; null if nothing is said. */
export function utterance(samples) {
  const T = Math.max(0, Math.floor((samples.length - FRAME) / SHIFT) + 1);
  const amplitudes = Array.from({ length: T }, (_, t) => Math.hypot(...samples.subarray(t * SHIFT, t * SHIFT + FRAME)) / Math.sqrt(FRAME));
  const most = Math.max(...amplitudes, 0);
  if (most < SILENCE) return null;
  let part = null, best = { energy: 0 };
  amplitudes.forEach((amplitude, t) => {
    if (amplitude <= DROP * most) return (part = null);
    part ??= { first: t, energy: 0 };
    part.last = t;
    part.energy += amplitude ** 2;
    if (part.energy > best.energy) best = part;
  });
  // The first frame holds the beginning in its last samples, and the last frame the end in its first ones.
  const spoken = samples.subarray(best.first * SHIFT + FRAME - SHIFT, best.last * SHIFT + SHIFT);
  return spoken.length < FRAME ? null : spoken;
}
