"""Small calls of a Sequential run as one plan, with the bits and the errors of its layers."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onward
from onward import errors
from onward.layers.base import call
from onward.layers.planned import CALLS

RNG = np.random.default_rng(0)


def by_layers(net: onward.Sequential, x: Any) -> Any:
    return net._run(x, None, None, call)[0]


def planned(net: onward.Sequential, x: Any) -> Any:
    """Call a model until it has a plan, and return the output of the plan."""
    for _ in range(CALLS + 1):
        y = net(x)
    assert net.__dict__["_planned"]._planners.keys() == {False}
    return y


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


NETS: dict[str, tuple[Callable[[], onward.Sequential], Any]] = {
    "classifier": (
        lambda: onward.Sequential(onward.LSTM(5, 33, 2, rng=0), onward.Last(), onward.Linear(33, 7, rng=1)),
        normal(17, 5, 5),
    ),
    "one step": (
        lambda: onward.Sequential(
            onward.GRU(5, 7, rng=0), onward.Linear(7, 1, rng=1), onward.Activation("tanh")
        ),
        normal(1, 1, 5),
    ),
    "both directions, batch first": (
        lambda: onward.Sequential(
            onward.RNN(5, 7, bidirectional=True, batch_first=True, rng=0),
            onward.LayerNorm(14),
            onward.Last(batch_first=True),
            onward.Linear(14, 4, rng=1),
            onward.Softmax(),
        ),
        normal(3, 11, 5),
    ),
    "tokens": (
        lambda: onward.Sequential(
            onward.Embedding(9, 5, rng=0), onward.GRU(5, 7, rng=1), onward.Linear(7, 9, rng=2)
        ),
        RNG.integers(0, 9, (6, 3)),
    ),
    "int8": (
        lambda: onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 3, rng=1)).quantize("int8"),
        normal(6, 2, 5),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_plans_have_the_bits_of_the_layers(name: str) -> None:
    make, x = NETS[name]
    net = make()
    expected = by_layers(net, x)
    np.testing.assert_array_equal(planned(net, x).view(np.int32), expected.view(np.int32), strict=True)
    np.testing.assert_array_equal(net(x[:, :1]), by_layers(net, x[:, :1]))  # a shape without a plan


def test_new_weights_replace_the_plan() -> None:
    make, x = NETS["classifier"]
    net, other = make(), make()
    before = planned(net, x)
    net.load_state_dict({name: weight * 0.5 for name, weight in net.state_dict().items()})
    np.testing.assert_array_equal(net(x), by_layers(net, x))
    assert (net(x) != before).any()
    other[2].load_state_dict({"weight": np.ones((7, 33)), "bias": np.zeros(7)})  # changes one layer
    np.testing.assert_array_equal(planned(other, x), by_layers(other, x))


def test_errors_are_those_of_the_layers() -> None:
    make, x = NETS["tokens"]
    net = make()
    planned(net, x)
    for wrong in (np.full((6, 3), 9), np.full((6, 3), -1)):
        with pytest.raises(errors.ArgumentError) as expected:
            by_layers(net, wrong)
        with pytest.raises(errors.ArgumentError) as actual:
            net(wrong)
        assert str(actual.value) == str(expected.value)
    with pytest.raises(errors.ShapeError):
        NETS["one step"][0]()(normal(3, 2, 4))


def flat(state: Any) -> list[Any]:
    """The arrays of a list of states."""
    return [a for part in state for a in (part if isinstance(part, tuple) else (part,))]


@pytest.mark.parametrize("name", NETS)
def test_plans_with_states_have_the_bits_of_the_layers(name: str) -> None:
    make, x = NETS[name]
    net = make()
    _, state = net._run(x, None, None, call)
    for given in (state, tuple(state), None):
        expected, after = net._run(x, given, None, call)
        for _ in range(CALLS + 1):
            y, found = net(x, given, return_state=True)
        np.testing.assert_array_equal(y, expected, strict=True)
        assert [type(part) for part in found] == [type(part) for part in after]
        for mine, other in zip(flat(found), flat(after), strict=True):
            np.testing.assert_array_equal(mine, other, strict=True)
        np.testing.assert_array_equal(net(x, given), expected)
    assert net.__dict__["_planned"]._planners.keys() == {True}
    assert not any(np.shares_memory(mine, other) for mine in flat(found) for other in flat(state))


def test_wrong_states_are_errors_of_the_layers() -> None:
    make, x = NETS["classifier"]
    net = make()
    _, state = net(x, return_state=True)
    for _ in range(CALLS):
        net(x, state, return_state=True)
    (h, c), narrow = state[0], np.zeros((2, 5, 32), np.float32)
    cases = ([(h, narrow)], [(h[:, :3], c)], [h], [], [(h, c)] * 2, (h, c), [(h, "c")])
    for wrong in cases:
        for _ in range(CALLS + 1):
            with pytest.raises(errors.OnwardError) as expected:
                net._run(x, wrong, None, call)
            with pytest.raises(type(expected.value)) as actual:
                net(x, wrong)
            assert str(actual.value) == str(expected.value)
    y, _ = net(x, [(h.astype(np.float64), c.tolist())], return_state=True)
    np.testing.assert_array_equal(y, net(x, state))
    np.testing.assert_array_equal(net(x, [(h, None)]), net._run(x, [(h, None)], None, call)[0])


def test_lengths_and_other_dtypes_run_layer_by_layer() -> None:
    make, x = NETS["classifier"]
    net = make()
    y = planned(net, x)
    np.testing.assert_array_equal(net(x.astype(np.float64)), y)
    np.testing.assert_array_equal(net(x.tolist()), y)
    assert (net(x, lengths=[3] * 5) != y).any()


def test_a_subclass_of_a_layer_is_called() -> None:
    class Doubled(onward.Linear):
        def _run(self, x: Any, *others: Any) -> Any:
            y, state = super()._run(x, *others)
            return 2 * y, state

    net = onward.Sequential(onward.GRU(5, 7, rng=0), Doubled(7, 3, rng=1))
    x = normal(4, 2, 5)
    first = net(x)
    for _ in range(CALLS):
        np.testing.assert_array_equal(net(x), first)


def test_a_planned_model_can_be_pickled_and_returns_new_arrays() -> None:
    make, x = NETS["classifier"]
    net = make()
    y = planned(net, x)
    assert net(x) is not y
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net))(x), y)
