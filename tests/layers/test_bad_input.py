"""Invalid input: a defined result, or an error that states the actual and the expected input, and the fix."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import cases, oracle
from support.cases import Case
from support.skips import counted_cases

import onward
from onward import errors
from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError, SignatureError

X = np.zeros((6, 4, 5), np.float32)
H = np.zeros((2, 4, 7), np.float32)

LSTM, GRU = onward.LSTM(5, 7, num_layers=2, rng=0), onward.GRU(5, 7, num_layers=2, rng=0)
BATCH_FIRST = onward.RNN(5, 7, batch_first=True, rng=0)
PROJECTED = onward.LSTM(5, 7, num_layers=2, proj_size=3, rng=0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: LSTM(X[..., :4]),
            ShapeError,
            r"x has 4 features in its last axis \(shape \(6, 4, 4\)\), but this "
            "LSTM takes input_size=5",
        ),
        (
            lambda: GRU(X[0, 0]),
            ShapeError,
            r"x has shape \(5,\), but this GRU takes \(T, B, 5\), or \(T, 5\) unbat",
        ),
        (
            lambda: BATCH_FIRST(X[None]),
            ShapeError,
            r"x has shape \(1, 6, 4, 5\), but this RNN takes \(B, T, 5\)",
        ),
        (lambda: GRU(1.0), ShapeError, r"x has shape \(\)"),
        (
            lambda: GRU(X, H[:1]),
            ShapeError,
            r"h0 has shape \(1, 4, 7\), but for this GRU\(5, 7, num_layers=2\) and x "
            r"it must be \(2, 4, 7\): \(num_layers \* directions, batch, units\)",
        ),
        (lambda: GRU(X[:, :3], H), ShapeError, r"h0 has shape \(2, 4, 7\), .* must be \(2, 3, 7\)"),
        (lambda: GRU(X[:, 0], H), ShapeError, r"h0 has shape \(2, 4, 7\), .* must be \(2, 7\)"),
        (lambda: LSTM(X, (H, H[..., :3])), ShapeError, r"c0 has shape \(2, 4, 3\), .* must be \(2, 4, 7\)"),
        (lambda: PROJECTED(X, (H, H)), ShapeError, r"h0 has shape \(2, 4, 7\), .* must be \(2, 4, 3\)"),
        (lambda: GRU(X, (H, H)), ArgumentError, "state is 2 arrays, but the state of this GRU is h alone"),
        (
            lambda: LSTM(X, H),
            ArgumentError,
            r"state is of type ndarray, but the state of this LSTM is a pair \(h, c\)",
        ),
        (lambda: LSTM(X, (H,)), ArgumentError, r"state is 1 arrays, but the state of this LSTM is a pair"),
        (
            lambda: GRU(X.astype(complex)),
            DtypeError,
            "x has dtype complex128, but must hold booleans, integers or fl",
        ),
        (lambda: GRU(X.astype(object)), DtypeError, "x has dtype object"),
        (lambda: GRU(X.astype(str)), DtypeError, "x has dtype <U"),
        (lambda: GRU(X.astype("M8[s]")), DtypeError, "x has dtype datetime64"),
        (lambda: GRU([[1, 2], [3]]), DtypeError, "x cannot be read as an array"),
        (lambda: GRU(None), DtypeError, "x has dtype object"),
        (lambda: GRU(X, H * 1j), DtypeError, "h0 has dtype complex64"),
        (
            lambda: GRU(X, lengths=[6, 6, -1, 6]),
            ArgumentError,
            r"lengths\[2\] is -1, expected 0 to 6, because x has 6",
        ),
        (lambda: GRU(X, lengths=[6, 7, 6, 6]), ArgumentError, r"lengths\[1\] is 7, expected 0 to 6"),
        (
            lambda: BATCH_FIRST(X, lengths=[5] * 6),
            ArgumentError,
            r"lengths\[0\] is 5, .* 4, because x has 4 time steps",
        ),
        (
            lambda: GRU(X, lengths=[6, 6, 6]),
            ShapeError,
            r"lengths has shape \(3,\), expected \(4,\), one",
        ),
        (lambda: GRU(X, lengths=6), ShapeError, r"lengths has shape \(\)"),
        (
            lambda: GRU(X[:, 0], lengths=[6]),
            ShapeError,
            r"lengths has shape \(1,\), .* \(\), one integer, because x is unb",
        ),
        (
            lambda: GRU(X, lengths=[6.0] * 4),
            DtypeError,
            r"lengths has dtype float64, .* integers: .*astype\(int\)",
        ),
        (lambda: GRU(X, lengths=[True] * 4), DtypeError, "lengths has dtype bool"),
    ],
)
def test_a_call_error_states_the_actual_and_the_expected_input(
    call: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: onward.LSTM(5, 7, device="cuda"),
            SignatureError,
            r"LSTM: has no argument device; it takes "
            r"\(input_size, hidden_size, num_layers=1, .*\); device: omit it: Onward runs on the CPU",
        ),
        (
            lambda: onward.LSTM(5, 7, layers=2, units=3),
            SignatureError,
            "has no argument layers, units; it takes",
        ),
        (lambda: onward.GRU(5), SignatureError, "GRU: missing a required argument: 'hidden_size'; it takes"),
        (
            lambda: onward.Softmax(0, 1),
            SignatureError,
            r"Softmax: too many positional arguments; it takes \(dim=-1\)",
        ),
        (lambda: onward.LSTM(0, 7), ArgumentError, "input_size=0, but must be an integer of at least 1"),
        (lambda: onward.LSTM(5, "7"), ArgumentError, "hidden_size='7', but must be an integer of at least 1"),
        (lambda: onward.GRU(5, 7.0), ArgumentError, "hidden_size=7.0"),
        (lambda: onward.GRU(5, 7, True), ArgumentError, "num_layers=True, but must be an integer"),
        (
            lambda: onward.RNN(5, 7, 1, False),
            ArgumentError,
            "nonlinearity=False; expected the name of a function, or a name and parameters",
        ),
        (lambda: onward.GRU(5, 7, 1, 2), ArgumentError, "bias=2, but must be True or False"),
        (
            lambda: onward.LSTM(5, 7, proj_size=7),
            ArgumentError,
            "proj_size=7, but must be an integer from 0 to 6",
        ),
        (
            lambda: onward.LSTM(5, 7, dropout=1.5),
            ArgumentError,
            "dropout=1.5, but must be a number from 0 to 1",
        ),
        (lambda: onward.LSTM(5, 7, dropout=float("nan")), ArgumentError, "dropout=nan"),
        (lambda: onward.LSTM(5, 7, dropout=True), ArgumentError, "dropout=True"),
        (
            lambda: onward.GRU(5, 7, dtype="float16"),
            DtypeError,
            "dtype='float16', but layers compute in 'float32' or",
        ),
        (lambda: onward.GRU(5, 7, dtype=None), DtypeError, "dtype=None"),
        (lambda: onward.GRU(5, 7, dtype={}), DtypeError, "dtype={}"),
        (
            lambda: onward.GRU(5, 7, rng="seed"),
            ArgumentError,
            "rng='seed', but must be a numpy.random.Generator",
        ),
        (lambda: onward.GRU(5, 7, rng=-1), ArgumentError, "rng=-1"),
        (
            lambda: onward.Embedding(5, 7, padding_idx=5),
            ArgumentError,
            "padding_idx=5, .* integer from -5 to 4",
        ),
        (lambda: onward.Softmax(None), ArgumentError, "dim=None, but must be an integer"),
    ],
)
def test_a_constructor_error_states_the_argument_and_its_allowed_values(
    make: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make()


ERRORS = [e for e in vars(errors).values() if isinstance(e, type) and not issubclass(e, Warning)]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_derives_from_a_builtin_error(error: type[Exception]) -> None:
    assert issubclass(error, OnwardError)
    assert error is OnwardError or issubclass(
        error, ValueError | TypeError | OSError | AttributeError | MemoryError | RuntimeError
    )


NUMERIC = ["f8", "f4", ">f4", "f2", "g", "i1", "u8", "?"]
NOT_NUMERIC = ["c8", "O", "U3", "m8[s]"]
CELLS = ["rnn_tanh", "lstm", "gru", "gru_reset_before"]


def array(rng: np.random.Generator, shape: tuple[int, ...], dtypes: list[str]) -> NDArray[Any]:
    """Values from 0 to 2."""
    return rng.integers(0, 3, shape).astype(str(rng.choice(dtypes)))


def any_array(rng: np.random.Generator) -> NDArray[Any]:
    shape = tuple(rng.integers(0, 7, rng.integers(5)).tolist())
    return array(rng, shape, NUMERIC + NOT_NUMERIC)


def any_lengths(rng: np.random.Generator) -> Any:
    kinds = ["long", [6.0] * 4, [True] * 4, int(rng.integers(-1, 8))]
    kinds += [rng.integers(-1, 8, rng.integers(3, 6)).tolist()] * 3
    return kinds[rng.integers(len(kinds))]


def inputs_of(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """x, h0 and lengths that mostly fit."""
    batch = (4,) if rng.integers(2) else ()
    lengths = rng.integers(0, 7, batch).tolist() if rng.integers(2) else None
    h0 = array(rng, (4, *batch, 3), NUMERIC) if rng.integers(2) else None
    x = array(rng, (6, *batch, 5), NUMERIC)
    odd = rng.integers(10, size=3) == 0
    return (
        any_array(rng) if odd[0] else x,
        any_array(rng) if odd[1] else h0,
        any_lengths(rng) if odd[2] else lengths,
    )


def test_random_inputs_give_the_correct_output_or_an_onward_error() -> None:
    for case in counted_cases(500):
        with case, case.skipping(OnwardError):
            rng = np.random.default_rng(case.seed)
            assert_correct(str(rng.choice(CELLS)), *inputs_of(rng))


def assert_correct(cell: str, x: NDArray[Any], h0: NDArray[Any] | None, lengths: Any) -> None:
    """Check the output of a layer. Raises OnwardError."""
    options = {"batch_first": False, "projected": False, "state": False, "lengths": False, "dtype": "float64"}
    T, B = (*x.shape, 1, 1)[:2] if x.ndim == 3 else (len(np.atleast_1d(x)), 1)
    case = Case(cell, 2, bidirectional=True, bias=True, unbatched=x.ndim == 2, H=3, I=5, B=B, T=T, **options)
    layer = cases.layer_of(case, rng=0)
    state = None if h0 is None else (h0, h0) if cell == "lstm" else h0
    y, state = layer(x, state, lengths=lengths)
    x, h0 = (a if a is None or x.ndim == 3 else a[..., None, :] for a in (x, h0))
    assert x.dtype.kind in "biuf"
    lengths = None if lengths is None else np.atleast_1d(lengths)
    right = oracle.run(case, cases.Inputs(layer.state_dict(), x, h0, h0, lengths))
    for mine, part in zip([y, *state] if cell == "lstm" else [y, state], right, strict=False):
        np.testing.assert_allclose(mine.reshape(part.shape), part, rtol=0, atol=1e-12)
