"""Remove noise from a WAV file with DTLN, block by block, as a call would.

    python examples/noise_suppressor.py model_1.onnx model_2.onnx noisy.wav clean.wav

The models are those of https://github.com/breizhn/DTLN in ONNX. The WAV file has one channel of 16-bit
samples at 16 kHz. Every 8 ms, the first model masks the spectrum of the last 32 ms, the second one refines
the sound, and the blocks are added where they overlap. Both keep the states of their LSTMs in a stream.
"""

import argparse
import time
import wave
from pathlib import Path

import numpy as np

import onward

RATE, BLOCK, SHIFT = 16_000, 512, 128


class Suppressor:
    """Takes 8 ms of sound per call and returns 8 ms of clean sound, 24 ms later."""

    def __init__(self, *models: str | Path) -> None:
        # the second input of each model is its state, which comes from the second output
        self.mask, self.refine = (
            model.stream(carry={model.inputs[1]: model.outputs[1]}) for model in map(onward.load, models)
        )
        self.heard, self.spoken = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        self.heard = np.append(self.heard[SHIFT:], samples)
        spectrum = np.fft.rfft(self.heard)
        mask = self.mask(np.abs(spectrum).astype(np.float32)[None, None])
        estimate = np.fft.irfft(spectrum * mask[0, 0]).astype(np.float32)
        clean = self.refine(estimate[None, None])
        self.spoken = np.append(self.spoken[SHIFT:], np.zeros(SHIFT, np.float32)) + clean[0, 0]
        return self.spoken[:SHIFT]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("model_1", "model_2", "noisy", "clean"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    suppressor = Suppressor(arguments.model_1, arguments.model_2)
    seconds, blocks = 0.0, 0
    with wave.open(arguments.noisy) as source, wave.open(arguments.clean, "wb") as target:
        if (source.getframerate(), source.getnchannels(), source.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{arguments.noisy} must have one channel of 16-bit samples at {RATE} Hz")
        target.setparams(source.getparams())
        while data := source.readframes(SHIFT):
            samples = np.frombuffer(data, "<i2").astype(np.float32) / 32768
            start = time.perf_counter()
            clean = suppressor(np.pad(samples, (0, SHIFT - len(samples))))
            seconds, blocks = seconds + time.perf_counter() - start, blocks + 1
            target.writeframes(
                (np.clip(clean[: len(samples)], -1, 1) * 32767).round().astype("<i2").tobytes()
            )
    length = blocks * SHIFT / RATE
    print(f"{length:.1f} s of sound in {seconds:.2f} s: real-time factor {seconds / max(length, 1e-9):.3f}")


if __name__ == "__main__":
    main()
