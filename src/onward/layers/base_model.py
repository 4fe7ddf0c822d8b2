"""What layers and whole models have in common: how they run, and what they are called elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import is_not
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

from numpy.typing import ArrayLike

from ..core import arrays, facade
from ..core.arrays import Array, FloatDtype, Shape
from ..core.equivalents import ATTRIBUTES
from ..core.summary import Row, table
from ..errors import ArgumentError, LayerAttributeError

if TYPE_CHECKING:
    from ..tracing.explore import Page
    from ..tracing.trace import Trace
    from .graphs import GraphBuilder

# How a model calls a recurrent sublayer: (its name, the layer, x, state, lengths) to (y, final state).
RunRecurrent: TypeAlias = "Callable[[str, Any, Any, Any, Any], tuple[Any, Any]]"


# Class attributes that the constructors of some layers replace.
SET_BY_CONSTRUCTORS = {"batch_first", "causal", "dtype", "step_shape", "takes_vectors"}


class IncompatibleKeys(NamedTuple):
    """The missing and unexpected names that load_state_dict found; both are empty if strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


LOADING = threading.RLock()  # held while weights are replaced, so that a snapshot never mixes two sets
if hasattr(os, "register_at_fork"):  # a forked child has no thread that would release the lock
    os.register_at_fork(
        before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=LOADING.release
    )


def call(name: str, layer: Any, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    """Call a recurrent sublayer as a plain forward pass does."""
    return layer(x, state, lengths=lengths)  # type: ignore[no-any-return]


class FamiliarNames:
    """What users of PyTorch and Keras type on any model: it works, or the error names Onward's equivalent.

    `_conversion` is the call that converts what is no layer to one, for the attributes of that.
    """

    _conversion: ClassVar[tuple[str, type]] = "", object

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> None:
            hint = ""
            if name in ATTRIBUTES:
                hint = f": {ATTRIBUTES[name]}"
            elif not name.startswith("_") and hasattr(self._conversion[1], name):
                hint = f": use {self._conversion[0]}.{name}"
            message = f"{type(self).__name__} has no attribute {name!r}{hint}"
            raise LayerAttributeError(message, name=name, obj=self)

    def summary_rows(self) -> Sequence[Row]:
        raise NotImplementedError

    def eval(self) -> Self:
        """The model itself, which always runs inference, as PyTorch does after eval()."""
        return self

    def cpu(self) -> Self:
        """The model itself, which always runs on the CPU."""
        return self

    def summary(self) -> None:
        """Print the kind, output shape and number of parameters of each layer, as `onward info` does."""
        print(table(self.summary_rows()))


class BaseModel(FamiliarNames):
    """A callable on arrays: a layer, layers in sequence, or a whole model.

    Streaming, tracing, training and the file formats see every layer and model through the attributes below:
    its sublayers, its states, and how its output at a time step depends on its input.
    """

    dtype: FloatDtype = arrays.FLOAT32
    takes_vectors: bool = True  # whether a batched input may be (B, F), without a time axis
    causal: bool = False  # whether the output at a step depends only on that step and on the state before it
    state_names: ClassVar[tuple[str, ...]] = ()  # ("h",) or ("h", "c") for a recurrent layer
    unchanged_by_step: ClassVar[bool] = False  # whether one time step on its own passes through unchanged
    without_graph: ClassVar[str] = "is not a layer that a graph can hold"  # why there is no graph of a layer
    step_kernel: Any = None  # the core's Stack or Dense that computes a time step, if the core supports it
    precision = ""  # the stored dtype of the matrices once quantized: "float16" or "int8"

    def __call__(self, x: ArrayLike, /) -> Any:
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        """Set each attribute once, in the constructor; raise LayerAttributeError afterwards."""
        if not name.startswith("_") and (
            name in self.__dict__ or (name not in SET_BY_CONSTRUCTORS and hasattr(type(self), name))
        ):
            raise LayerAttributeError(
                f"{type(self).__name__}.{name} is read-only: build a new layer and copy its weights with "
                "load_state_dict"
            )
        super().__setattr__(name, value)

    @property
    def step_shape(self) -> Shape | None:
        """The shape of one row of x at one time step; None if any is accepted."""
        return None

    @property
    def batch_first(self) -> bool:
        """Whether the batch axis comes before the time axis."""
        return any(layer.batch_first for layer in self.sublayers().values() if layer is not self)

    def sublayers(self) -> Mapping[str, BaseModel]:
        """The layers of this model by the prefix of their weight names; a single layer is its own."""
        return {"": self}

    def recurrent_sublayers(self) -> list[Any]:
        """The sublayers that have a state, in order."""
        return [layer for layer in self.sublayers().values() if layer.state_names]

    def with_sublayers(self, sublayers: Mapping[str, Any]) -> BaseModel:
        """A copy of the model with some sublayers replaced."""
        replaced: BaseModel = sublayers.get("", self)
        return replaced

    @property
    def parts(self) -> Iterable[BaseModel]:
        """The sublayers without their names."""
        return self.sublayers().values()

    @property
    def derived(self) -> dict[str, Any]:
        """What was made of the present weights, such as programs, by name; new weights discard all of it."""
        weights = [layer.own_weights for layer in self.parts]  # which are replaced as a whole
        known: list[Any]
        found: dict[str, Any]
        known, found = self.__dict__.get("_derived", ([], {}))
        if len(known) != len(weights) or any(map(is_not, known, weights)):
            found = {}
            self.__dict__["_derived"] = weights, found
        return found

    def frozen(self) -> BaseModel:
        """A model that shares the present weights and their packed copies, and keeps them from then on."""
        with LOADING:
            twins = {name: object.__new__(type(layer)) for name, layer in self.sublayers().items()}
            for name, layer in self.sublayers().items():
                twins[name].__dict__.update(layer.__dict__)
                twins[name].__dict__.pop("_derived", None)  # which may hold the twin
            return self.with_sublayers(twins)

    def split_states(self, state: Any) -> Sequence[Any]:
        """One state for each recurrent sublayer, from a state passed to a call. Raises ArgumentError."""
        count = len(self.recurrent_sublayers())
        if state is None:
            return [None] * count
        if not isinstance(state, list | tuple) or len(state) != count:
            kind = type(state).__name__
            given = f"{len(state)} states" if isinstance(state, list | tuple) else f"of type {kind}"
            raise ArgumentError(
                f"state is {given}, but must be a list of {count}, one for each recurrent layer"
            )
        return state

    def join_states(self, states: list[Any]) -> Any:
        """The state that a call returns, built from the state of each recurrent sublayer."""
        return states

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, Any]:
        """Return the output and the final state; `run_recurrent` calls each recurrent sublayer."""
        return self(x), None

    def forward(self, *args: Any, **options: Any) -> Any:
        """Raise ArgumentError unless a model defines it."""
        raise ArgumentError(f"{self!r} has no gradients: it supports inference only")

    def backward(self, dy: ArrayLike, dstate: Any, cache: Any) -> tuple[Any, Any, dict[str, Array]]:
        """Raise ArgumentError unless a model defines it."""
        raise ArgumentError(f"{self!r} has no gradients: it supports inference only")

    def stream(self, batch: int | None = None) -> Any:
        """One sequence that continues from call to call, or `batch` of them: `y = stream(x)`."""
        raise NotImplementedError

    def pool(self, capacity: int, max_capacity: int | None = None) -> Any:
        """Thousands of streams, addressed by id: `ids = pool.open(n)`, `y = pool.step(ids, x)`."""
        raise NotImplementedError

    def trace(self, x: ArrayLike, /, *, preactivations: bool = False) -> Trace:
        """Run x as a call does and record every gate and state of every recurrent layer."""
        raise NotImplementedError

    def explore(self, x: ArrayLike, *, classes: Sequence[str] | None = None, text: str | None = None) -> Page:
        """The interactive page of `onward explore` for a run on x; see `Trace.explore`."""
        return self.trace(x).explore(classes=classes, text=text)

    def quantize(self, precision: str, *, check: Any = None, tolerance: float | None = None) -> Any:
        """A copy that stores its matrices and filters as "float16", or as "int8" with scales."""
        raise NotImplementedError

    def compressed(self, precision: str) -> BaseModel:
        """The model with quantized matrices, or the model itself if it has none to quantize."""
        return self

    def weights_by_name(self) -> dict[str, Array]:
        """The weights, consistent even during a concurrent load_state_dict."""
        with LOADING:
            leaves = self.sublayers().items()
            return {prefix + name: w for prefix, leaf in leaves for name, w in leaf.own_weights.items()}

    def trained_weights(self) -> Mapping[str, Array]:
        """The weights that training changes, by name, without those of other layers."""
        return self.own_weights

    def is_matrix(self, name: str, shape: Shape) -> bool:
        """Whether vectors are multiplied by a weight of some shape, so that quantization applies to it."""
        return len(shape) > 1

    @property
    def own_weights(self) -> Mapping[str, Array]:
        """The weights that can be replaced, without those of other layers; a new dict replaces them."""
        return MappingProxyType({})

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """The name and shape of each weight that can be replaced, in PyTorch's order."""
        return iter(())

    def take_weights(self, weights: Mapping[str, Array]) -> None:
        """Replace weights by name."""

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        """Add the layer to a graph under construction, a `GraphBuilder`; return the name of its output.

        Raises ArgumentError if a graph cannot hold it.
        """
        raise ArgumentError(f"layer {b.label[0]}, {self!r}, {self.without_graph}")

    def description(self) -> dict[str, Any]:
        """The type and what `onward.load` needs besides the weights to rebuild it, as JSON values."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """A copy of each weight under the name that PyTorch gives it."""
        return {name: weight.copy() for name, weight in self.weights_by_name().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy weights into the model, converted to its dtype; changes nothing if it raises.

        A quantized layer takes the arrays of its own `state_dict`: float16, or int8 and scales. Returns the
        missing and the unexpected names. Raises ArgumentError, which lists these names and every wrong shape
        and dtype; with `strict=False`, missing and unexpected names are not an error.
        """
        weights, keys = self.checked_weights(state_dict, strict)
        self.take_weights({name: weight.copy() for name, weight in weights.items()})
        return keys

    def checked_weights(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[dict[str, Array], IncompatibleKeys]:
        """The weights in a state dict, not copied, in the dtypes of the model. Raises ArgumentError."""
        raise ArgumentError(f"the weights of {self!r} are fixed")

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Copy the weights of any file that `onward.load` opens into this model.

        If the file's names differ from the model's, layers with the same weight shapes are matched in order.
        For Keras files, including weights-only files, each layer takes the weights of its Keras
        counterpart, in layer order; kernels, gates and the cuDNN layout are converted. Changes nothing if it
        raises: FileError, and ArgumentError as load_state_dict does.
        """
        try:
            self.load_state_dict(facade.call("weights_for", self, path))
        except ArgumentError as error:
            raise ArgumentError(f"{path}: {error}") from error

    def export_onnx(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the model as ONNX. The options and the errors are those of `onward.export_onnx`."""
        facade.call("export_onnx", self, path, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the architecture and the weights to a safetensors file, for `onward.load`.

        If writing fails, an existing file is left unchanged. Raises FileError.
        """
        from ..core import storage  # imports the JSON and safetensors packages

        storage.write(path, self.weights_by_name(), self.description())

    def compile(
        self,
        path: str | os.PathLike[str],
        *calls: Any,
        blocks: Sequence[Any] = (),
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> Any:
        """Compile the model to a `.onward` file, which the C library and `onward.load` run without compiling.

        The file holds programs for calls and, if the model streams, for blocks of streams. `calls` and
        `blocks` are examples of their inputs: each is an input, a tuple of inputs, or a dict of inputs by
        name. A program runs all sizes that its guards permit; without examples, the declared inputs decide
        for which sizes there are programs. `fixed` are inputs that have the same value in every call, such
        as a sampling rate; the other arguments are those of `Model.stream`. Returns a summary of the file.

        Raises ArgumentError, which names the node, if an operation runs in NumPy, or if the memory of a
        stream grows from block to block; and FileError.

        >>> import tempfile
        >>> from pathlib import Path
        >>> import onward
        >>> summary = onward.LSTM(3, 4, rng=0).compile(Path(tempfile.mkdtemp()) / "model.onward")
        >>> summary.inputs, summary.outputs
        (['x'], ['y'])
        """
        options = {"blocks": blocks, "carry": carry, "initial": initial, "time_axis": time_axis}
        return facade.call("compile_model", self, path, *calls, **options, **fixed)

    def export_c(
        self,
        path: str | os.PathLike[str],
        *,
        stream: bool = False,
        steps: int = 1,
        rows: int = 1,
        prefix: str = "",
        math: bool = True,
        int8: bool = False,
        calibrate: Mapping[str, ArrayLike] | None = None,
        data: Mapping[str, ArrayLike] | None = None,
        **options: Any,
    ) -> Any:
        """Write the model as C99 for microcontrollers: `path`, which ends in .c, a header and a test.

        The code is for calls of one size, or, if `stream`, for streams of `rows` sequences that take `steps`
        steps at a time. It allocates no memory, and needs string.h and, if `math`, math.h. The names of its
        functions start with `prefix`, by default the name of the file. `sizes` gives the sizes of open axes
        by name; the other options are those of `Model.stream`. `int8` quantizes the model as `quantize` does.
        `calibrate` quantizes activations and states, too, with fixed scales that fit these inputs by name,
        which hold blocks one after the other. `data` holds such inputs on which the test runs and the
        accuracy of int8 is measured; by default, they are those of `calibrate`, or random. Returns the files
        and the figures.

        Raises ArgumentError, which names the node or the step, if there is no C for it; and FileError.
        Nothing is written then.

        >>> import tempfile
        >>> from pathlib import Path
        >>> import onward
        >>> path = Path(tempfile.mkdtemp()) / "gru.c"
        >>> onward.GRU(3, 4, rng=0).export_c(path, stream=True).figures.multiply_adds
        84
        >>> sorted(file.name for file in path.parent.iterdir())
        ['gru.c', 'gru.h', 'gru_test.c']
        """
        options |= {"stream": stream, "steps": steps, "rows": rows, "prefix": prefix, "math": math}
        options |= {"int8": int8, "calibrate": calibrate, "data": data}
        return facade.call("export_c", self, path, **options)
