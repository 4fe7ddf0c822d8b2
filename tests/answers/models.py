"""Compile models to a folder, for the program that prints what the C library computes for them."""

import sys
from pathlib import Path

from support.c_library import MODELS
from support.examples import detector_of_voices
from support.sequence_graphs import RandomGraph

from onward.errors import ArgumentError


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        make().compile(folder / f"{name.replace(' ', '_')}.onward")
    detector_of_voices(576).compile(folder / "detector.onward")
    for seed in range(20):
        try:
            RandomGraph(seed).build(6).compile(folder / f"graph_{seed}.onward")
        except ArgumentError as error:
            assert "runs in NumPy" in str(error), seed


if __name__ == "__main__":
    write(Path(sys.argv[1]))
