"""The models and data that come with Onward are whole, and as their cards say."""

import numpy as np
import pytest

import onward
from onward import bundled, data

SETS = {"japanese_vowels_train": (270, 4274), "japanese_vowels_test": (370, 5687)}


def test_every_model_and_data_set_is_in_the_package() -> None:
    assert set(bundled.datasets()) == set(SETS)
    assert set(bundled.models()) == {"vowels"}
    for path in (*bundled.datasets().values(), *bundled.models().values()):
        assert path.is_file()


@pytest.mark.parametrize("name", SETS)
def test_lengths_and_labels_fit_the_frames(name: str) -> None:
    sequences, steps = SETS[name]
    with np.load(bundled.datasets()[name]) as file:
        assert set(file) == {"x", "lengths", "y"}
        x, lengths, y = file["x"], file["lengths"], file["y"]
    assert x.shape == (steps, 12) and x.dtype == np.float32
    assert np.isfinite(x).all()
    assert lengths.shape == y.shape == (sequences,)
    assert lengths.sum() == steps and lengths.min() == 7
    assert set(y) == set(range(9))


def test_training_and_test_data_share_no_utterance() -> None:
    train, test = (
        {item.tobytes() for item in data.read(bundled.datasets()[name]).items} for name in sorted(SETS)
    )
    assert not train & test


def test_bundled_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in bundled.datasets().values()) < 450_000
    assert sum(path.stat().st_size for path in bundled.models().values()) < 50_000


@pytest.mark.parametrize("name", bundled.models())
def test_each_card_has_what_the_list_of_models_shows(name: str) -> None:
    assert set(bundled.card(name)) == {"summary", "data", "accuracy", "license"}
    assert bundled.card(name)["data"] in bundled.datasets()


def test_vowels_is_as_accurate_as_its_card_says() -> None:
    net = onward.load(bundled.models()["vowels"])
    assert isinstance(net, onward.Sequential)
    sequences = data.read(bundled.datasets()["japanese_vowels_test"])
    assert sequences.labels is not None
    right = np.mean(
        [net(x).argmax() == speaker for x, speaker in zip(sequences.items, sequences.labels, strict=True)]
    )
    assert right >= 0.95
    assert right == pytest.approx(float(bundled.card("vowels")["accuracy"]), abs=5e-5)
