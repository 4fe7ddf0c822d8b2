"""Repeated calls of random Sequentials, which run as one plan, have the bits of their layers."""

from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test
from support.random_sequentials import sequential, shape
from support.randomized import random_cases

import onward
from onward.errors import OnwardError
from onward.layers.sequential import CALLS


def layer_by_layer(model: onward.Sequential, x: Any) -> Any:
    for layer in model:
        x = layer(x)[0] if layer.state_names else layer(x)
    return x


@in_one_test("seed", range(random_cases(150)))
def test_repeated_calls_have_the_bits_of_their_layers_for_any_number_of_axes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, features = sequential(rng)
    xs = [rng.normal(size=shape(rng, features)).astype(model.dtype) for _ in range(3)]
    expected: list[Any] = []
    for x in xs:
        try:
            expected.append(layer_by_layer(model, x))
        except OnwardError as error:
            expected.append(error)
    for number in rng.integers(3, size=5 * CALLS):
        right = expected[number]
        if isinstance(right, OnwardError):
            with pytest.raises(type(right)):
                model(xs[number])
        else:
            np.testing.assert_array_equal(model(xs[number]), right, strict=True)
