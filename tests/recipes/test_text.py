"""Text models: files include the vocabulary, scores are exact, samples follow the model's distribution."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError, FileError
from onward.recipes import text

PLAY = "Enter FOOL.\nFOOL. Nuncle, é 😀!\n"
VOCABULARY = text.Vocabulary(PLAY)


def model(vocabulary: text.Vocabulary = VOCABULARY) -> onward.Sequential:
    V = len(vocabulary)
    return onward.Sequential(
        onward.Embedding(V, 5, rng=0),
        onward.LSTM(5, 7, 2, rng=1),
        onward.Dropout(0.1),
        onward.Linear(7, V, rng=2),
    )


def test_decode_inverts_encode() -> None:
    numbers = VOCABULARY.encode(PLAY)
    assert numbers.max() == len(VOCABULARY) - 1 == len(set(PLAY)) - 1 and numbers.min() == 0
    assert VOCABULARY.decode(numbers) == PLAY
    assert text.Vocabulary(PLAY[::-1]).characters == VOCABULARY.characters
    assert len(VOCABULARY.encode("")) == 0


@pytest.mark.parametrize("number", [-1, len(VOCABULARY.characters), 1.0])
def test_a_number_that_stands_for_no_character_is_an_error(number: float) -> None:
    """Numbers below 0 counted from the last character."""
    with pytest.raises(ArgumentError, match=f"number={number}, but must be an integer from 0 to"):
        VOCABULARY.decode([0, number])


def test_encode_names_the_first_unknown_character_and_its_position() -> None:
    with pytest.raises(ArgumentError, match="character 3 of the text is 'Z', not one of the"):
        VOCABULARY.encode("FOOZ")
    with pytest.raises(ArgumentError, match="is empty"):
        text.Vocabulary("")


def test_unknown_characters_are_counted_and_removed() -> None:
    vocabulary = text.Vocabulary("ab")
    assert vocabulary.unknown("c€ab€") == {"€": 2, "c": 1} and vocabulary.unknown("abba") == {}
    assert vocabulary.without_unknown("c€ab€") == "ab"


def test_save_and_load_keep_the_vocabulary(tmp_path: Path) -> None:
    path, net = tmp_path / "net.safetensors", model()
    for saved in (net, net.quantize("float16")):
        text.save(path, saved, VOCABULARY)
        again, vocabulary = text.load(path)
        assert vocabulary.characters == VOCABULARY.characters
        x = VOCABULARY.encode(PLAY)
        np.testing.assert_array_equal(again(x), saved(x))
        assert isinstance(onward.load(path), onward.Sequential)
    for other in (net, onward.LSTM(2, 3)):
        other.save(path)
        with pytest.raises(FileError, match="is not a text model"):
            text.load(path)


def test_load_rejects_a_vocabulary_that_does_not_match_the_model(tmp_path: Path) -> None:
    path, V = tmp_path / "net.safetensors", len(VOCABULARY)
    for net, message in (
        (onward.Sequential(onward.Embedding(V, 5), onward.LSTM(5, V + 1)), rf"shape \(2, {V + 1}\)"),
        (onward.Sequential(onward.Embedding(V - 1, 5), onward.LSTM(5, V)), f"num_embeddings={V - 1}"),
        (onward.Sequential(onward.LSTM(5, V)), "this LSTM takes"),
    ):
        text.save(path, net, VOCABULARY)
        with pytest.raises(FileError, match=f"vocabulary of {V} characters, but.*{message}"):
            text.load(path)


def test_bits_per_character_are_the_same_for_every_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, numbers = model(), VOCABULARY.encode(PLAY)
    logits = net(numbers[:-1]).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log2(probabilities[np.arange(len(probabilities)), numbers[1:]]).mean()
    for block in (1, 4, 1000):
        monkeypatch.setattr(text, "BLOCK", block)
        blocks: list[int] = []
        assert text.bits_per_character(net, VOCABULARY, PLAY, blocks.append) == pytest.approx(
            expected, rel=1e-6
        )
        assert sum(blocks) == len(PLAY) - 1 and max(blocks) <= block
    blank = model()
    blank.load_state_dict({name: 0 * weight for name, weight in net.state_dict().items()})
    bits = text.bits_per_character(blank, VOCABULARY, PLAY)
    assert bits == pytest.approx(math.log2(len(VOCABULARY)))
    with pytest.raises(ArgumentError, match="has 1 characters"):
        text.bits_per_character(net, VOCABULARY, "F")


def test_a_text_model_that_ends_in_a_softmax_is_not_normalized_again() -> None:
    net = model()
    probable = onward.Sequential(*net, onward.Softmax())
    bits = [text.bits_per_character(each, VOCABULARY, PLAY) for each in (net, probable)]
    assert bits[1] == pytest.approx(bits[0], rel=1e-5)
    for temperature in (0.0, 0.5, 1.0):
        samples = [
            "".join(text.sample(each, VOCABULARY, "Ent", 40, temperature, rng=0)) for each in (net, probable)
        ]
        assert samples[0] == samples[1]


def test_samples_follow_the_probabilities_of_the_model() -> None:
    net = model()
    logits = net(VOCABULARY.encode("Ent"))[-1].astype(np.float64) / 0.5
    probabilities = np.exp(logits) / np.exp(logits).sum()
    rng = np.random.default_rng(0)
    first = Counter(next(text.sample(net, VOCABULARY, "Ent", 1, 0.5, rng)) for _ in range(2000))
    for character, p in zip(VOCABULARY.characters, probabilities, strict=True):
        assert first[character] / 2000 == pytest.approx(p, abs=4 * math.sqrt(p / 2000))


def test_temperature_0_is_greedy_and_a_seed_is_reproducible() -> None:
    net = model()
    generated = "".join(text.sample(net, VOCABULARY, "E", 20, 0))
    expected = "E"
    for _ in range(20):
        expected += VOCABULARY.characters[net(VOCABULARY.encode(expected))[-1].argmax()]
    assert "E" + generated == expected
    assert generated == "".join(text.sample(net, VOCABULARY, "E", 20, 1e-320))  # the limit, and no warning
    samples = ["".join(text.sample(net, VOCABULARY, "E", 30, rng=seed)) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]


def test_sample_raises_before_the_first_character() -> None:
    for prompt, length, temperature, message in (
        ("", 5, 1, "prompt is empty"),
        ("Z", 5, 1, "'Z'"),
        ("E", 2.5, 1, "length=2.5"),
        ("E", 5, -1, "temperature=-1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            text.sample(model(), VOCABULARY, prompt, length, temperature)  # type: ignore[arg-type]
