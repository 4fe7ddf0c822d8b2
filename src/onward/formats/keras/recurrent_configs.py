"""From the configurations of Keras' recurrent layers, their cells and wrappers to Onward's."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import KerasWarning
from ...layers import rnn
from ...layers.base import NO_WEIGHTS
from ...layers.recurrent import Recurrent
from . import runtime
from .source import Source, build, filled
from .stored_weights import GATES, cell_weights, joined


def _cell(source: Source) -> Recurrent[Any]:
    """The recurrent layer of a SimpleRNN, LSTM or GRU, of its cell, or of cuDNN's."""
    kind = source.kind.removeprefix("CuDNN").removesuffix("Cell")
    cudnn = source.kind.startswith("CuDNN")
    units, bias = source.take("units"), source.take("use_bias", True)
    cell = "rnn" if kind == "SimpleRNN" else kind.lower()
    apart = source.context.version == 1 and source.take("consume_less", "cpu") != "gpu"
    weights = joined(cell, source.weights.take((2 + bias) * (GATES[cell] if apart else 1)))
    options: dict[str, Any] = {"bias": bias, "batch_first": True, "dtype": source.dtype(), "rng": NO_WEIGHTS}
    activation = _function(source, "activation", "tanh")
    gate = "sigmoid"
    if kind != "SimpleRNN":
        default = "sigmoid" if cudnn else source.context.recurrent_activation
        gate = _function(source, "recurrent_activation", default)
    state = cell_weights(cell, *weights)
    I = weights[0].shape[0]  # noqa: E741 (the axis letter)
    if kind == "SimpleRNN":
        return filled(rnn.RNN(I, units, nonlinearity=activation, **options), state)
    if kind == "LSTM":
        if (gate, activation) != ("sigmoid", "tanh"):
            options["activations"] = (gate, activation, activation)
        return filled(rnn.LSTM(I, units, **options), state)
    if (gate, activation) != ("sigmoid", "tanh"):
        options["activations"] = (gate, activation)
    after = source.take("reset_after", cudnn or source.context.version == 3)
    if bias and (weights[2].shape == (3 * units,)) == after:
        raise source.error(f"has reset_after={after}, but a bias of shape {weights[2].shape}")
    return filled(rnn.GRU(I, units, reset_after=after, **options), state)


def _function(source: Source, key: str, default: str) -> Any:
    """An activation as the core's layers take it: by name, with Keras' slope where that differs."""
    name = source.named(key, source.take(key, default))
    return ("leaky_relu", 0.2) if name == "leaky_relu" else name


def _unrolled(source: Source, cells: Sequence[Recurrent[Any]]) -> runtime.RNN:
    keys = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "time_major")
    return runtime.RNN(cells, **{key: source.take(key, False) for key in keys})


def _recurrent(source: Source) -> runtime.KerasLayer:
    if not source.kind.startswith("CuDNN"):
        source.weights = source.weights.part("cell")
    return _unrolled(source, [_cell(source)])


def _rnn(source: Source) -> runtime.KerasLayer:
    entry, weights = source.take("cell"), source.weights.part("cell")
    if entry.get("class_name") == "StackedRNNCells":
        stacked = Source(entry, weights, source.context)
        stacked.dtype()
        entries = stacked.take("cells")
        if stacked.take("reverse_state_order", False):
            raise source.error("has reverse_state_order=True, which Onward does not support")
        stacked.finish()
        sources = [
            Source(each, weights.member("cells", str(each.get("class_name")), ""), source.context)
            for each in entries
        ]
    else:
        sources = [Source(entry, weights, source.context)]
    cells = []
    for each in sources:
        if each.kind not in CELLS:
            raise source.error(f"runs a {each.kind}, which Onward does not know")
        cells.append(_cell(each))
        each.finish()
    source.dtype()
    return _unrolled(source, cells)


CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell")


def _bidirectional(source: Source) -> runtime.KerasLayer:
    forward_entry = source.config["layer"]
    forward = source.layer("layer", "forward_layer")
    entry = source.take("backward_layer", None)
    if entry is None:
        config = forward_entry["config"]
        entry = forward_entry | {"config": config | {"go_backwards": not config.get("go_backwards", False)}}
    backward = build(entry, source.weights.part("backward_layer"), source.context)
    source.dtype()
    if not isinstance(forward, runtime.RNN) or not isinstance(backward, runtime.RNN):
        raise source.error("does not contain an RNN")
    if _zeros_in_both(source, forward_entry["config"], forward.return_sequences):
        forward, backward = forward.with_zeros_for_mask(), backward.with_zeros_for_mask()
    return runtime.Bidirectional(forward, backward, source.take("merge_mode", "concat"))


def _zeros_in_both(source: Source, config: Mapping[str, Any], sequences: bool) -> bool:
    """Whether both directions give zeros where masked, whatever the file says: those of tf.keras do."""
    known = source.context.zeros_in_both
    if known is not None or "time_major" in config:  # a key that only tf.keras writes
        return known is not False
    if sequences:
        warnings.warn(
            f"the file does not say whether {source.name} gives zeros where steps are masked, as in "
            "tf.keras: taken for Keras apart from TensorFlow (keras_version='2.2.4-tf' says otherwise)",
            KerasWarning,
            stacklevel=2,
        )
    return False


def _time_distributed(source: Source) -> runtime.KerasLayer:
    source.dtype()
    return runtime.TimeDistributed(source.layer("layer", "layer"), masks_inside=source.context.masks_inside)


BUILDERS: dict[str, Callable[[Source], runtime.KerasLayer]] = {
    **{kind: _recurrent for kind in ("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU")},
    "RNN": _rnn,
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
}
