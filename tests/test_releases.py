"""The files that each release saved can be read, and give the same outputs as then."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support

import onward

RELEASES = sorted((support.DATA / "releases").iterdir())
MODELS = [path for release in RELEASES for path in sorted(release.glob("*.safetensors"))]

each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)


def answers_of(release: Path) -> dict[str, Any]:
    with np.load(release / "answers.npz") as answers:
        return dict(answers)


def test_this_release_has_stored_its_files() -> None:
    assert onward.__version__ in [release.name for release in RELEASES]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_model_of_an_earlier_release_gives_the_same_outputs(path: Path) -> None:
    answers = answers_of(path.parent)
    y = onward.load(path)(answers["x"])
    np.testing.assert_array_equal(y[0] if isinstance(y, tuple) else y, answers[path.stem])


@each_release
def test_a_stream_of_an_earlier_release_continues(release: Path) -> None:
    answers = answers_of(release)
    stream = onward.load(release / "streaming.safetensors").stream(batch=3)
    stream.load(release / "stream.state")
    np.testing.assert_array_equal(stream(answers["x"][6:]), answers["streaming"][6:])


@each_release
def test_a_pool_of_an_earlier_release_continues(release: Path) -> None:
    answers = answers_of(release)
    pool = onward.load(release / "streaming.safetensors").pool(1)
    pool.load(release / "pool.state")
    assert len(pool) == 3
    y = np.stack([pool.step(pool.ids, x_t) for x_t in answers["x"][6:]])
    np.testing.assert_array_equal(y, answers["streaming"][6:])
