"""Find speech in a WAV file with Silero's voice detector, live or all at once, with the same timestamps.

    python examples/voice_detector.py silero_vad.onnx speech.wav
    python examples/voice_detector.py silero_vad.jit speech.wav --live

MODEL is a file of https://github.com/snakers4/silero-vad (.onnx or .jit) or of faster-whisper (.onnx). The
WAV file has one channel of 16-bit samples at 16 kHz. The segments are those that
silero_vad.get_speech_timestamps returns with its default settings.
"""

import argparse
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

import onward

RATE = 16_000
WINDOW, CONTEXT = 512, 64  # samples: a frame of 32 ms, and the end of the previous one before it
SPEECH, SILENCE = 0.5, 0.35  # a segment starts at this probability, and may end below the other
MIN_SPEECH, MIN_SILENCE, PAD = (
    4000,
    1600,
    480,
)  # samples: shortest segment and pause, and what is added to both ends


class Detector:
    """Returns the probability of speech in each window of the sound so far."""

    def __init__(self, path: str | Path) -> None:
        model = onward.load(path)
        # the states of every version are found by their names; some also take the sampling rate
        self.stream = model.stream(**({"sr": RATE} if "sr" in model.inputs else {}))
        self.keeps_context = model.inputs[0] == "x"  # TorchScript
        self.takes_many = "h" in model.inputs  # frames along time in one call
        self.context = np.zeros(CONTEXT, np.float32)

    def __call__(self, samples: np.ndarray) -> Iterator[float]:
        """Yield a probability for each window of samples; their number must be a multiple of WINDOW."""
        windows = samples.reshape(-1, WINDOW)
        if not self.keeps_context:
            before = np.concatenate([self.context, samples])[: len(samples)].reshape(-1, WINDOW)
            windows = np.concatenate([before[:, :CONTEXT], windows], axis=1)
            self.context = samples[-CONTEXT:]
        blocks = [windows] if self.takes_many else windows[:, None]
        for block in blocks:
            yield from self.stream(block).ravel().tolist()


def segments(probabilities: Iterable[float], length: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the first and the last sample of each segment as soon as it ends; `length` is that of the sound.

    MIN_SILENCE is longer than two pads, so that padded segments never overlap.
    """
    start = silent_since = None
    end = 0
    for i, probability in enumerate(probabilities):
        sample, end = i * WINDOW, (i + 1) * WINDOW
        if probability >= SPEECH:
            silent_since = None
            start = sample if start is None else start
        elif probability < SILENCE and start is not None:
            silent_since = sample if silent_since is None else silent_since
            if sample - silent_since >= MIN_SILENCE:
                if silent_since - start > MIN_SPEECH:
                    yield max(0, start - PAD), silent_since + PAD
                start = silent_since = None
    end = length or end
    if start is not None and end - start > MIN_SPEECH:
        yield max(0, start - PAD), end


def read(path: str | Path, samples: int = -1) -> Iterator[np.ndarray]:
    """Yield the sound of a WAV file in blocks, between -1 and 1; the last one is filled up with silence."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path} must have one channel of 16-bit samples at {RATE} Hz")
        count = file.getnframes() if samples < 0 else samples
        while data := file.readframes(count):
            block = np.frombuffer(data, "<i2").astype(np.float32) / 32768
            yield np.pad(block, (0, -len(block) % WINDOW))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("sound", help="a WAV file")
    parser.add_argument("--live", action="store_true", help="run frame by frame, as from a microphone")
    arguments = parser.parse_args()
    with wave.open(arguments.sound) as file:
        length = file.getnframes()
    detector = Detector(arguments.model)
    blocks = read(arguments.sound, WINDOW if arguments.live else -1)
    for start, end in segments((p for block in blocks for p in detector(block)), length):
        print(f"{start / RATE:.3f} {end / RATE:.3f}", flush=True)


if __name__ == "__main__":
    main()
