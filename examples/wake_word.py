"""Hear a wake word in a WAV file, or in what a microphone records.

    python examples/wake_word.py okay_nabu.tflite speech.wav
    arecord -q -f S16_LE -r 16000 -t raw | python examples/wake_word.py okay_nabu.tflite -

The models are those of https://github.com/esphome/micro-wake-word-models. The WAV file has 16-bit samples of
any rate; "-" reads 16-bit samples at 16 kHz from standard input. The package pymicro-features computes the
features: pip install 'onward[wakeword]'.
"""

import argparse
import sys
import wave
from collections.abc import Iterator

import numpy as np

import onward
import onward.recipes

RATE, BLOCK = 16_000, 160  # samples in a second, and of 10 ms


def resampled(sound: np.ndarray, rate: int) -> np.ndarray:
    """Return sound at 16 kHz, without the frequencies that this rate cannot hold."""
    size = round(len(sound) * RATE / rate)
    spectrum = np.fft.rfft(sound)[: size // 2 + 1]
    samples = np.fft.irfft(spectrum, size) * size / len(sound)
    return np.clip(np.round(samples), -32768, 32767).astype(np.int16)


def recorded(path: str) -> np.ndarray:
    """Return a WAV file at 16 kHz, after a second and before half a second of silence."""
    with wave.open(path) as source:
        if source.getsampwidth() != 2:
            raise SystemExit(f"{path} has {8 * source.getsampwidth()}-bit samples; expected 16-bit ones")
        sound = np.frombuffer(source.readframes(source.getnframes()), "<i2")
        mono = sound.reshape(-1, source.getnchannels()).mean(1)
        return np.pad(resampled(mono, source.getframerate()), (RATE, RATE // 2))


def blocks(path: str) -> Iterator[np.ndarray]:
    """Yield 10 ms at a time."""
    if path == "-":
        while data := sys.stdin.buffer.read(2 * BLOCK):
            yield np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    else:
        sound = recorded(path)
        yield from np.split(sound, range(BLOCK, len(sound), BLOCK))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("sound")
    arguments = parser.parse_args()
    word, most = onward.recipes.WakeWord(arguments.model), 0.0
    for block in blocks(arguments.sound):
        probability, detections = word(block)
        most = max(most, probability)
        for seconds in detections:
            print(f"heard after {seconds:.2f} s", flush=True)
    print(f"highest probability {most:.2f}")


if __name__ == "__main__":
    main()
