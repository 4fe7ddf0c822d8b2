"""Sequential: the order of calls, weights and states; plans with the bits and the errors of the layers."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onward
from onward import errors
from onward.errors import ArgumentError
from onward.layers.base_model import call
from onward.layers.sequential import CALLS

X = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float32)
LENGTHS = [3, 6, 0, 1]


def model(**options: Any) -> onward.Sequential:
    return onward.Sequential(
        onward.LSTM(5, 7, rng=0, bidirectional=True, **options),
        onward.Linear(14, 3, rng=0),
        onward.GRU(3, 4, rng=0, **options),
        onward.Last(**options),
        onward.Softmax(),
    )


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_are_called_in_order_with_their_lengths_and_states(batch_first: bool) -> None:
    net = model(batch_first=batch_first)
    lstm, linear, gru, last, softmax = net
    x = X.swapaxes(0, 1) if batch_first else X
    state = [(np.ones((2, 4, 7)), np.full((2, 4, 7), 2.0)), np.full((1, 4, 4), 0.5)]
    y, (h, c) = lstm(x, state[0], lengths=LENGTHS)
    y, g = gru(linear(y), state[1], lengths=LENGTHS)
    output, states = net(x, state, lengths=LENGTHS, return_state=True)
    np.testing.assert_array_equal(output, softmax(last(y, LENGTHS)))
    np.testing.assert_array_equal(net(x, state, lengths=LENGTHS), output)
    for mine, right in zip([*states[0], states[1]], [h, c, g], strict=True):
        np.testing.assert_array_equal(mine, right)


def test_chunks_with_carried_states_give_the_bits_of_one_call() -> None:
    net = onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 3, rng=0), onward.GRU(3, 4, rng=0))
    first, state = net(X[:2], return_state=True)
    np.testing.assert_array_equal(np.concatenate([first, net(X[2:], state)]), net(X))


def test_weights_are_named_by_position_as_in_torch() -> None:
    net, other = model(), model()
    assert list(net.state_dict())[-5:] == [
        "1.bias",
        "2.weight_ih_l0",
        "2.weight_hh_l0",
        "2.bias_ih_l0",
        "2.bias_hh_l0",
    ]
    weights = {name: weight + 1 for name, weight in net.state_dict().items()}
    other(X)  # weights are packed now, and must be packed again
    other.load_state_dict(weights)
    assert all(np.array_equal(other.state_dict()[name], weights[name]) for name in weights)
    np.testing.assert_array_equal(other[1].state_dict()["bias"], weights["1.bias"])
    net[1].load_state_dict(other[1].state_dict())
    assert not np.array_equal(other(X), net(X))
    net.load_state_dict(weights)
    np.testing.assert_array_equal(other(X), net(X))


def test_more_than_ten_layers_keep_their_own_weights() -> None:
    net = onward.Sequential(*(onward.Linear(3, 3, rng=seed) for seed in range(12)))
    other = onward.Sequential(*(onward.Linear(3, 3) for _ in range(12)))
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other(np.ones(3)), net(np.ones(3)))


def test_it_is_a_sequence_with_the_repr_of_torch() -> None:
    net = onward.Sequential(onward.LSTM(5, 7, num_layers=2), onward.Last())
    assert len(net) == 2
    assert list(net) == [net[0], net[-1]]
    with pytest.raises(IndexError):
        net[2]
    assert repr(net) == "Sequential(\n  (0): LSTM(5, 7, num_layers=2)\n  (1): Last()\n)"


def test_an_empty_model_returns_its_input() -> None:
    assert onward.Sequential()(X) is X
    assert onward.Sequential()(X, return_state=True) == (X, [])


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            [onward.Last],
            "takes layers other than itself, not <class 'onward.layers.sequential.Last'>",
        ),
        ([onward.Sequential()], "takes layers other than itself"),
        ([onward.GRU(5, 7), onward.Linear(7, 1, dtype="float64")], r"dtypes \['float32', 'float64'\]"),
        ([onward.GRU(5, 7, batch_first=True), onward.Last()], "some .* batch_first=True and others False"),
    ],
)
def test_incompatible_layers_are_rejected(layers: list[Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        onward.Sequential(*layers)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ([np.zeros((1, 4, 4))], "state is 1 states, but must be a list of 2, one for each recurrent layer"),
        (np.zeros((2, 4, 7)), "state is of type ndarray, but must be a list of 2"),
        ([], "state is 0 states"),
        ([None, (np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))], "state is 2 arrays, but .* GRU is h alone"),
    ],
)
def test_a_wrong_state_is_rejected(state: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        model()(X, state)


def test_sublayers_are_named_like_their_weights_and_can_be_replaced() -> None:
    net = model()
    leaves = net.sublayers()
    assert list(leaves.values()) == list(net)
    weights = {prefix + name for prefix, leaf in leaves.items() for name in leaf.state_dict()}
    assert weights == set(net.state_dict())
    other = onward.Linear(14, 3, rng=1)
    rebuilt = net.with_sublayers({"1.": other})
    assert list(rebuilt.sublayers().values()) == [net[0], other, *list(net)[2:]]
    assert net.sublayers() == leaves


def test_run_calls_each_recurrent_sublayer_through_the_given_function() -> None:
    net, called = model(), []

    def run_recurrent(name: str, layer: Any, x: Any, state: Any, lengths: Any) -> Any:
        called.append((name, layer, lengths))
        return layer(x, state, lengths=lengths)

    y, states = net.run(X, None, LENGTHS, run_recurrent)
    assert called == [("0.", net[0], LENGTHS), ("2.", net[2], LENGTHS)]
    np.testing.assert_array_equal(y, net(X, lengths=LENGTHS))
    assert len(states) == 2


@pytest.mark.parametrize("first", [onward.Activation("tanh"), onward.Softmax(), onward.Dropout()], ids=repr)
def test_layers_before_the_first_weights_compute_in_the_precision_of_the_model(first: Any) -> None:
    """Also for inputs of another dtype, as in streams."""
    net, x = onward.Sequential(first, onward.LSTM(3, 4, rng=0)), np.random.default_rng(0).normal(size=(9, 3))
    stream = net.stream()
    y = net(x)
    np.testing.assert_array_equal(y, net(x.astype(np.float32)))
    np.testing.assert_array_equal(y, [stream(step) for step in x])
    np.testing.assert_array_equal(y, net.forward(x)[0])


def test_a_model_is_causal_if_all_its_layers_are() -> None:
    assert onward.Sequential(onward.GRU(5, 4), onward.Last(), onward.Linear(4, 2), onward.Softmax()).causal
    assert not onward.Sequential(onward.GRU(5, 4, bidirectional=True), onward.Linear(8, 2)).causal
    assert not onward.Sequential(onward.GRU(5, 4), onward.Softmax(0)).causal


RNG = np.random.default_rng(0)


def by_layers(net: onward.Sequential, x: Any) -> Any:
    return net.run(x, None, None, call)[0]


def planned(net: onward.Sequential, x: Any) -> Any:
    """Call a model until it has a plan, and return the output of the plan."""
    for _ in range(CALLS + 1):
        y = net(x)
    planners = net.derived["calls"]._planners
    assert planners.keys() == {False} and planners[False] is not None
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
    "float64": (
        lambda: onward.Sequential(
            onward.GRU(5, 7, rng=0, dtype="float64"), onward.Linear(7, 3, rng=1, dtype="float64")
        ),
        RNG.normal(size=(6, 2, 5)),
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
    _, state = net.run(x, None, None, call)
    for given in (state, tuple(state), None):
        expected, after = net.run(x, given, None, call)
        for _ in range(CALLS + 1):
            y, found = net(x, given, return_state=True)
        np.testing.assert_array_equal(y, expected, strict=True)
        assert [type(part) for part in found] == [type(part) for part in after]
        for mine, other in zip(flat(found), flat(after), strict=True):
            np.testing.assert_array_equal(mine, other, strict=True)
        np.testing.assert_array_equal(net(x, given), expected)
    assert net.derived["calls"]._planners.keys() == {True}
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
                net.run(x, wrong, None, call)
            with pytest.raises(type(expected.value)) as actual:
                net(x, wrong)
            assert str(actual.value) == str(expected.value)
    y, _ = net(x, [(h.astype(np.float64), c.tolist())], return_state=True)
    np.testing.assert_array_equal(y, net(x, state))
    np.testing.assert_array_equal(net(x, [(h, None)]), net.run(x, [(h, None)], None, call)[0])


def test_lengths_and_other_dtypes_run_layer_by_layer() -> None:
    make, x = NETS["classifier"]
    net = make()
    y = planned(net, x)
    np.testing.assert_array_equal(net(x.astype(np.float64)), y)
    np.testing.assert_array_equal(net(x.tolist()), y)
    assert (net(x, lengths=[3] * 5) != y).any()


def test_a_subclass_of_a_layer_is_called() -> None:
    class Doubled(onward.Linear):
        def run(self, x: Any, *others: Any) -> Any:
            y, state = super().run(x, *others)
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


@pytest.mark.parametrize("name", NETS)
def test_calls_of_changing_sizes_share_one_program(name: str) -> None:
    make, x = NETS[name]
    net, rng = make(), np.random.default_rng(0)
    for _ in range(3 * CALLS):
        sizes = rng.integers(2, 6, 2)
        x = np.resize(x, (*sizes, *x.shape[2:]))
        np.testing.assert_array_equal(net(x), by_layers(net, x), strict=True)
    (planner,) = net.derived["calls"]._planners.values()
    assert len(planner.programs) == 1
