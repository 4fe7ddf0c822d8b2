"""The bundled models and data sets are intact and as good as their cards state."""

import numpy as np
import pytest
import support

import onward
from onward import bundled
from onward.errors import ArgumentError
from onward.recipes import text
from onward.tables import data

SETS = {"japanese_vowels_train": (270, 4274), "japanese_vowels_test": (370, 5687)}


def test_the_package_contains_every_model_and_data_set() -> None:
    assert set(bundled.datasets()) == set(SETS)
    assert set(bundled.models()) == {"shakespeare", "vowels"}
    for path in (*bundled.datasets().values(), *bundled.models().values()):
        assert path.is_file()


@pytest.mark.parametrize("name", SETS)
def test_lengths_and_labels_match_the_frames(name: str) -> None:
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
    assert bundled.models()["vowels"].stat().st_size < 60_000
    assert bundled.models()["shakespeare"].stat().st_size < 2_000_000


@pytest.mark.parametrize("name", bundled.models())
def test_each_card_has_the_fields_that_onward_models_shows(name: str) -> None:
    card = bundled.card(name)
    assert set(card) in (
        {"summary", "data", "accuracy", "license"},
        {"summary", "bits_per_character", "license"},
    )
    assert "data" not in card or card["data"] in bundled.datasets()


def test_the_error_for_an_unknown_model_names_the_bundled_models() -> None:
    with pytest.raises(ArgumentError, match="'nope'; expected one of shakespeare, vowels"):
        bundled.card("nope")


def test_vowels_is_as_accurate_as_its_card_states() -> None:
    net = onward.load(bundled.models()["vowels"])
    assert isinstance(net, onward.Sequential)
    sequences = data.read(bundled.datasets()["japanese_vowels_test"])
    assert sequences.labels is not None
    accuracy = np.mean(
        [net(x).argmax() == speaker for x, speaker in zip(sequences.items, sequences.labels, strict=True)]
    )
    assert accuracy >= 0.98
    assert accuracy == pytest.approx(float(bundled.card("vowels")["accuracy"]), abs=5e-5)


def test_shakespeare_predicts_a_play_that_it_was_not_trained_on() -> None:
    model, vocabulary = text.load(bundled.models()["shakespeare"])
    play = (support.DATA / "held_out_play.txt").read_text(encoding="utf-8")
    bits = text.bits_per_character(model, vocabulary, play)
    assert bits == pytest.approx(float(bundled.card("shakespeare")["bits_per_character"]), abs=0.1)
    generated = "".join(text.sample(model, vocabulary, "KING", 300, 0.5, rng=0))
    words = set(play.lower().split())
    assert np.mean([word in words for word in generated.lower().split()]) > 0.6
