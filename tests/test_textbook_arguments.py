"""Every function of the textbook, with every dtype, and with every argument wrong in every way."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support.textbook_cases import BACKWARD, KINDS, cell_forward, forward, one_hot, random_inputs

from onward import textbook

RNG = np.random.default_rng(0)
Arguments = dict[str, Any]


def elementwise() -> Iterator[tuple[str, Arguments]]:
    """The functions of arrays of any shape."""
    for name, argument in {"sigmoid": "x", "sigmoid_deriv": "s", "tanh": "x", "tanh_deriv": "t"}.items():
        yield name, {argument: RNG.uniform(0, 1, (3, 4))}


def of_shapes() -> Iterator[tuple[str, Arguments]]:
    """The functions whose arguments must have certain shapes, with right ones."""
    s, y = textbook.softmax(RNG.standard_normal((3, 4))), one_hot(3, 3, 4)
    yield from ((name, {"s": s}) for name in ("softmax_deriv", "softmax_deriv_vectorized"))
    yield "cross_entropy_loss_t", {"y_t": y[0], "ypred_t": s}
    yield "cross_entropy_loss", {"y": y, "y_pred": np.stack([s] * 3)}
    for kind in KINDS:
        inputs, parameters = random_inputs(kind, T=3, m=4)
        options = {"reset_after": True} if kind == "gru_reset_after" else {}
        cell, given = kind.removesuffix("_reset_after"), {"parameters": parameters, **options}
        yield f"{cell}_forward", inputs | given
        step = {"xt": inputs["x"][0], "a_prev": inputs["a0"]}
        step |= {"c_prev": inputs["c0"]} if kind == "lstm" else {}
        yield f"{cell}_cell_forward", step | given
        a, _, _, caches = forward(kind, inputs, parameters)
        yield f"{cell}_backward", {"da": np.ones_like(a), "caches": caches, "y": y}
        yield f"{cell}_backward", {"da": np.ones_like(a), "caches": caches}
        gradients = dict.fromkeys(("da_next", "dc_next") if kind == "lstm" else ("da_next",), np.ones((7, 4)))
        yield f"{cell}_cell_backward", gradients | {"cache": caches[0]}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every array, and to every dict and list, in arguments."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def at(arguments: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        arguments = arguments[key]
    return arguments


def wrong(value: Any) -> Iterator[Any]:
    """Values that must not take the place of an array, a dict or a list."""
    yield from (None, "a", 1j * np.ones((3, 4)), [[1.0], [1.0, 2.0]], {}, 7.5, [[None]])
    if isinstance(value, np.ndarray):
        yield value[None]
        yield value[..., None]
        yield value[0]
        for axis, size in enumerate(value.shape):
            yield np.repeat(value, 2, axis)
            if size > 1:
                yield np.take(value, [0], axis)  # NumPy would broadcast it
    elif isinstance(value, dict):
        yield list(value)
    else:
        yield [*value[:-1], None]
        yield value[:-1]


def changed(arguments: Arguments, path: tuple[Any, ...], value: Any) -> Arguments:
    """A copy of arguments with another value at a place."""
    other = copy.deepcopy(arguments)
    at(other, path[:-1])[path[-1]] = value
    return other


UNREAD = {"yt_pred", "ba", "bf", "bi", "bo", "bc", "br", "bz", "bn", "bnr", "by", "Wy", "Wya"}


@pytest.mark.parametrize(("name", "arguments"), list(of_shapes()), ids=lambda v: str(v)[:24])
def test_every_wrong_argument_is_a_value_error_with_a_message(name: str, arguments: Arguments) -> None:
    function: Callable[..., Any] = getattr(textbook, name)
    function(**copy.deepcopy(arguments))
    tried = accepted = 0
    for path in places(arguments):
        if (
            path[0] in ("reset_after",)
            or path[-1] in ("reset_after",)
            or path[:2] in (("caches", 1), ("caches", 2))
        ):
            continue
        for value in wrong(at(arguments, path)):
            if path == ("y",) and value is None:  # without labels
                continue
            shape, right = (
                np.shape(value) if isinstance(value, np.ndarray) else (),
                np.shape(at(arguments, path)),
            )
            if (path == ("x",) and shape[1:] == right[1:]) or (path == ("s",) and len(shape) == 2):
                continue  # the sizes of these axes are free
            tried += 1
            try:
                function(**changed(arguments, path, value))
            except ValueError as error:
                assert len(str(error)) > 20 and type(error) is ValueError, (path, error)
            else:
                accepted += 1
                assert "backward" in name and path[-1] in UNREAD, (path, value)
    assert tried >= 9 and accepted < tried / 2


def test_caches_of_other_cells_are_named() -> None:
    caches = {kind: forward(kind, *random_inputs(kind, T=2, m=4))[-1] for kind in KINDS}
    for kind in ("rnn", "lstm", "gru"):
        for other in KINDS:
            if other.startswith(kind):
                continue
            da = np.ones((2, 7, 4))
            with pytest.raises(ValueError, match=rf"^caches\[0\] has no .*: pass .*{kind}_cell_f"):
                BACKWARD[kind](da, caches[other])
            gradients = [da[0]] * (2 if kind == "lstm" else 1)
            with pytest.raises(ValueError, match=r"^cache has no .* not that of another cell"):
                getattr(textbook, f"{kind}_cell_backward")(*gradients, caches[other][0])


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i4", "u8", "i8", ">i4"])
def test_integers_give_the_results_of_float64(dtype: str) -> None:
    x = np.array([[255, 0, 3], [254, 7, 1], [0, 100, 2]]).astype(dtype)
    for name, arguments in elementwise():
        function = getattr(textbook, name)
        found = function(*[x for _ in arguments])
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, function(x.astype(float)))
    s = textbook.softmax(x)
    np.testing.assert_array_equal(s, textbook.softmax(x.astype(float)))
    labels = np.eye(3).astype(dtype)
    for name in ("softmax_deriv", "softmax_deriv_vectorized"):
        np.testing.assert_array_equal(getattr(textbook, name)(labels), getattr(textbook, name)(np.eye(3)))
    np.testing.assert_array_equal(
        textbook.cross_entropy_loss_t(labels, s), textbook.cross_entropy_loss_t(np.eye(3), s)
    )
    for kind in KINDS:
        inputs, parameters = random_inputs(kind, T=3, m=4)
        whole = {name: np.abs(np.round(9 * a)).astype(dtype) for name, a in (inputs | parameters).items()}
        results = []
        for arrays in (whole, {name: a.astype(float) for name, a in whole.items()}):
            a, _, y_pred, caches = forward(kind, arrays, {name: arrays[name] for name in parameters})
            results.append({"a": a, "y_pred": y_pred} | BACKWARD[kind](np.ones((3, 7, 4), int), caches))
            results[-1] |= dict(enumerate(cell_forward(kind, arrays, {n: arrays[n] for n in parameters})[:1]))
        for name, expected in results[1].items():
            np.testing.assert_array_equal(results[0][name], expected, err_msg=str(name))


def test_softmax_of_a_sequence_normalizes_the_classes_of_each_step() -> None:
    x = RNG.standard_normal((5, 3, 4))
    s = textbook.softmax(x)
    np.testing.assert_array_equal(s, np.stack([textbook.softmax(x_t) for x_t in x]))
    np.testing.assert_allclose(s.sum(axis=1), 1)
    for shape in ((), (0,), (0, 4), (2, 0, 4), (2, 2, 3, 4)):
        with pytest.raises(ValueError, match=r"^x has shape .* expected \(n,\), \(n, m\) or \(T, n, m\)"):
            textbook.softmax(np.zeros(shape))


def test_elementwise_functions_refuse_what_is_no_number() -> None:
    for name, arguments in elementwise():
        for value in ("a", None, [[1.0], [1.0, 2.0]], 1j, {}):
            with pytest.raises(ValueError, match=r"expected floats or integers|differ in length"):
                getattr(textbook, name)(*[value for _ in arguments])
