"""g2p_en's speller: arrays in an .npz, assigned to layers, with a decoder that reads its own output."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import onward


@pytest.fixture
def tensors(case: Any) -> dict[str, NDArray[Any]]:
    return onward.load_tensors(case.folder / "checkpoint20.npz")


def gru(tensors: Any, which: str) -> onward.GRU:
    layer = onward.GRU(256, 256)
    names = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}
    layer.load_state_dict({name: tensors[f"{which}_{theirs}"] for name, theirs in names.items()})
    return layer


def test_the_encoder_accepts_words_of_any_length_in_one_batch(case: Any, tensors: Any) -> None:
    x = tensors["enc_emb"][case.inputs["ids"]].swapaxes(0, 1)
    y, h = gru(tensors, "enc")(x, lengths=case.inputs["lengths"])
    np.testing.assert_allclose(y.swapaxes(0, 1), case.expected["enc_y"], atol=2e-5)
    np.testing.assert_allclose(h, case.expected["torch_enc_hn"], atol=2e-5)


def test_the_decoder_gives_the_phonemes_of_the_original(case: Any, tensors: Any) -> None:
    encoder, decoder = gru(tensors, "enc"), gru(tensors, "dec")
    head = onward.Linear(256, 74)
    head.load_state_dict({"weight": tensors["fc_w"], "bias": tensors["fc_b"]})
    x = tensors["enc_emb"][case.inputs["ids"]].swapaxes(0, 1)
    _, state = encoder(x, lengths=case.inputs["lengths"])
    for word, expected in enumerate(case.expected["phonemes"]):
        stream = decoder.stream()
        stream.state = state[:, word]
        phonemes, last = [], 2  # <s>
        while len(phonemes) < 20 and last != 3:  # </s>
            logits = head(stream(tensors["dec_emb"][last]))
            np.testing.assert_allclose(logits, case.expected["dec_logits"][word, len(phonemes)], atol=5e-5)
            last = int(logits.argmax())
            phonemes.append(last)
        assert " ".join(case.inputs["phoneme_names"][[k for k in phonemes if k != 3]]) == expected
