"""Hear a word: 16 kHz sound in, probabilities and detections out, live."""

from __future__ import annotations

import os
from collections import deque
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import formats
from ..core.arrays import Array
from ..core.extras import install_hint
from ..errors import ArgumentError, DtypeError
from ..formats.tflite.read import Tensor, read

RATE, FRAME = 16_000, 160  # samples in a second, and of 10 ms
FEATURES = 40


class Heard(NamedTuple):
    """What a call of `WakeWord` heard: the probability after it, and the seconds at which the word ended."""

    probability: float
    detections: list[float]


class WakeWord:
    """Detects a word in speech, as microWakeWord does: `probability, detections = word(samples)`.

    Every 10 ms, the micro front end turns the last 30 ms of sound into 40 features. A streaming model of
    TensorFlow Lite takes the frames that its input asks for, in the quantization that the file states. The
    probability is the mean of its last outputs. It is a detection when it exceeds the cutoff, and the next
    one follows only after it has fallen below the cutoff again.

    Args:
        model: the path of a `.tflite` file with one input (1, frames, 40) and one output, the probability.
        cutoff: the probability above which the word counts as heard.
        window: the number of outputs of which the mean is taken.

    Raises FileError, DtypeError for other samples, and ArgumentError for a model of other shapes or without
    the package `pymicro-features`, which `pip install 'onward[wakeword]'` installs.

    Examples
    --------
    >>> word = WakeWord("okay_nabu.tflite")  # doctest: +SKIP
    >>> for block in microphone:  # int16, 16 kHz, such as 160 samples of 10 ms  # doctest: +SKIP
    ...     if word(block).detections:
    ...         print("heard")

    Source: https://github.com/kahrendt/microWakeWord
    """

    def __init__(self, model: str | os.PathLike[str], *, cutoff: float = 0.97, window: int = 5) -> None:
        if not 0 < cutoff < 1 or window < 1:
            raise ArgumentError(f"cutoff={cutoff}, window={window}; expected 0 < cutoff < 1 and window >= 1")
        loaded: Any = formats.load(model)
        self._x, self._y = _borders(model)
        self.frames, self.cutoff = self._x.axes[1], cutoff
        self._stream, self._frontend = loaded.stream(), _frontend()
        self._recent: deque[float] = deque(maxlen=window)
        self._pending: list[Any] = []
        self.reset()

    def reset(self) -> None:
        """Start anew: forget the sound so far."""
        self._stream.reset()
        self._frontend.reset()
        self._recent.clear()
        self._pending.clear()
        self._samples, self._was_heard, self._rest = 0, False, b""

    def __call__(self, samples: Any) -> Heard:
        """Return what the next samples, int16 at 16 kHz and of any number, contain."""
        sound = np.asarray(samples)
        if sound.dtype != np.int16 or sound.ndim != 1:
            raise DtypeError(
                f"the samples have dtype {sound.dtype} and shape {sound.shape}; expected int16 of shape (n,)"
            )
        detections = []
        data = self._rest + sound.tobytes()
        whole = len(data) - len(data) % (2 * FRAME)
        self._rest = data[whole:]
        for start in range(0, whole, 2 * FRAME):
            self._samples += FRAME
            if self._hears(data[start : start + 2 * FRAME]):
                detections.append(self._samples / RATE)
        return Heard(self.probability, detections)

    @property
    def probability(self) -> float:
        """The mean of the last outputs; 0 until there are enough."""
        is_full = len(self._recent) == self._recent.maxlen
        return sum(self._recent) / len(self._recent) if is_full else 0.0

    def _hears(self, sound: bytes) -> bool:
        """Take 10 ms of sound; return whether the word ends there."""
        features = self._frontend.process_samples(sound).features
        if not features:
            return False
        self._pending.append(features)
        if len(self._pending) < self.frames:
            return False
        x = quantized(np.array(self._pending, np.float32)[None], self._x)
        self._pending.clear()
        self._recent.append(float(real(self._stream(x), self._y).item()))
        is_heard = self.probability > self.cutoff
        starts, self._was_heard = is_heard and not self._was_heard, is_heard
        return starts


def quantized(x: Array, tensor: Tensor) -> Any:
    """Return real numbers as the integers of an input; one of floats takes them as they are."""
    if not tensor.is_quantized:
        return x.astype(tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    steps = np.round(x / np.float32(tensor.scale)) + tensor.zero_point
    return np.clip(steps, limits.min, limits.max).astype(tensor.dtype)


def real(y: Any, tensor: Tensor) -> Array:
    """Return the integers of an output as real numbers."""
    found: Array = y.astype(np.float32)
    return (found - tensor.zero_point) * np.float32(tensor.scale) if tensor.is_quantized else found


def _borders(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a file of a wake word."""
    main = read(Path(path).read_bytes()).subgraphs[0]
    inputs, outputs = ([main.tensors[n] for n in numbers] for numbers in (main.inputs, main.outputs))
    shapes = [tensor.axes for tensor in inputs]
    if len(outputs) != 1 or len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][::2] != (1, FEATURES):
        raise ArgumentError(
            f"{path} has inputs of the shapes {shapes} and {len(outputs)} outputs; expected one input "
            f"(1, frames, {FEATURES}) and one output"
        )
    return inputs[0], outputs[0]


def _frontend() -> Any:
    try:
        return import_module("pymicro_features").MicroFrontend()
    except ImportError as error:
        raise ArgumentError(f"the micro front end needs {error.name}: {install_hint('wakeword')}") from error
