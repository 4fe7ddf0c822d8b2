"""The sequences that every reader returns, and the selection of the columns that form them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, FileError

AnyArray: TypeAlias = NDArray[Any]
IntArray: TypeAlias = NDArray[np.int64]
CHOICES = {
    "missing": ("error", "skip", "fill", "mask", "keep"),
    "task": ("classify", "regress", "label-steps"),
    "decimal": (".", ","),
}
SEVERAL = ("inputs", "targets", "known", "static")  # fields that name several columns
FIXED = (
    "window",
    "horizon",
    "task",
    "known",
    "static",
    "interval",
)  # what the inputs and outputs of a model mean
UNKNOWN = -100  # the label of a class that the model does not know, which losses ignore


@dataclass(frozen=True)
class Selection:
    """The columns of a table that form its sequences, and the windows that a long table is cut into.

    inputs: the features of a time step. targets: the values to predict. group: identifies the sequence of a
    row. time: orders the steps of a sequence. window and horizon: each run of `window` steps becomes a
    sequence whose targets are those of the next `horizon` steps. season: the steps after which a series
    repeats. every: the time from step to step. missing: what happens to missing values. task: what the
    targets are. weight: how much a sequence counts in training. known: features whose future is known when
    the forecast is made. static: features of a series, numbers or text. interval: the share of the targets
    that the bounds of the forecast contain. delimiter, decimal, day_first: how a CSV file is written. Empty
    fields take the defaults of `read`.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    window: int | None = None
    horizon: int | None = None
    season: int | None = None
    every: str | None = None
    missing: str | None = None
    task: str | None = None
    weight: str | None = None
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    interval: float | None = None
    delimiter: str | None = None
    decimal: str | None = None
    day_first: bool = False

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles that are forecast: the median, and with an interval its bounds around it."""
        if self.interval is None:
            return (0.5,)
        half = round((1 - self.interval) / 2, 12)  # 0.1 for 0.8, without an error in its last digit
        return (half, 0.5, 1 - half)

    @property
    def other_columns(self) -> list[str]:
        return [*self.targets, *filter(None, (self.group, self.time, self.weight))]

    @property
    def named_columns(self) -> list[str]:
        return [*self.inputs, *self.known, *self.static, *self.other_columns]

    def completed(self, saved: "Selection") -> "Selection":
        """Return this selection with the entries of a saved one where it has none.

        Raises ArgumentError for other windows or another task than those that a model was trained on.
        """
        for name in FIXED if saved.window or saved.task else ():
            given, trained = getattr(self, name), getattr(saved, name)
            if given and given != (trained or {"horizon": 1}.get(name)):
                was = f"with {_option(name, trained)}" if trained else f"without --{name}"
                raise ArgumentError(
                    f"the model was trained {was}: omit {_option(name, given)}, or train another model"
                )
        return Selection(
            **{item.name: getattr(self, item.name) or getattr(saved, item.name) for item in fields(Selection)}
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {name: list(getattr(self, name)) for name in SEVERAL}

    @staticmethod
    def from_json(value: Any) -> "Selection":
        """The selection that `to_json` returned. Raises ArgumentError for any other value."""
        if not isinstance(value, dict) or not value.keys() <= {item.name for item in fields(Selection)}:
            raise ArgumentError(f"{value!r} does not describe the columns of a table")
        found: dict[str, Any] = {}
        for name, entry in value.items():
            found[name] = tuple(entry) if isinstance(entry, list) else entry
            if name in SEVERAL:
                valid = isinstance(entry, list) and all(isinstance(column, str) for column in entry)
            elif name in CHOICES:
                valid = entry is None or entry in CHOICES[name]
            elif name in ("window", "horizon", "season"):
                valid = entry is None or (type(entry) is int and entry > 0)
            elif name == "interval":
                valid = entry is None or (type(entry) is float and 0 < entry < 1)
            elif name == "day_first":
                valid = isinstance(entry, bool)
            else:
                valid = entry is None or isinstance(entry, str)
            if not valid:
                raise ArgumentError(f"{name}={entry!r} does not describe columns of a table")
        return Selection(**found)


def _option(name: str, value: Any) -> str:
    return f"--{name} {','.join(value) if isinstance(value, tuple) else value}"


@dataclass(frozen=True)
class Saved:
    """The record in a model file of its training table: columns and class names."""

    selection: Selection = field(default_factory=Selection)
    classes: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of the static columns of text


@dataclass(frozen=True)
class Sequences:
    """Sequences of shape (T, F), or (T,) for token ids, with their labels, targets and names.

    labels: the class of each sequence, an index into `classes` if the classes have names. step_labels: the
    class of each step. UNKNOWN marks a class that the model does not know. targets: numbers to predict for
    each sequence, (N, O), or for each step, a list of (T, O). weights (N,): how much each sequence counts in
    training. names: the name of each sequence in the file. times: the name of each step. origin: the file and
    the shape of its content, for error messages. suffix: the format of the file. single: whether it held one
    sequence without a batch axis. series, ends: for windows, the sequences that they were cut from, and the
    series and the end of each, (N, 2).
    """

    items: list[AnyArray]
    labels: IntArray | None = None
    targets: AnyArray | list[AnyArray] | None = None
    classes: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: list[str] | None = None
    times: Sequence[Sequence[str]] | None = None
    selection: Selection = field(default_factory=Selection)
    origin: str = ""
    suffix: str = ".csv"
    single: bool = False
    step_labels: list[IntArray] | None = None
    weights: AnyArray | None = None
    series: "Sequences | None" = None
    ends: IntArray | None = None

    @property
    def lengths(self) -> IntArray:
        return np.array([len(item) for item in self.items], np.int64)

    def with_class_names(self) -> "Sequences":
        """The same sequences with class names; integer classes get their number as name, counted from 0."""
        if self.classes or (self.labels is None and self.step_labels is None):
            return self
        found: Any = self.labels if self.step_labels is None else np.concatenate(self.step_labels)
        values, labels = np.unique(found, return_inverse=True)
        labels, classes = labels.astype(np.int64), tuple(map(str, values.tolist()))
        if self.step_labels is None:
            return replace(self, labels=labels, classes=classes)
        return replace(self, step_labels=np.split(labels, np.cumsum(self.lengths)[:-1]), classes=classes)

    def name(self, row: int) -> str:
        """The name of a sequence in the file, or its index; of a window, its series and last step."""
        if self.series is None or self.ends is None:
            return str(row) if self.names is None else self.names[row]
        number, end = self.ends[row].tolist()
        times = self.series.times
        last = str(end - 1) if times is None else times[number][end - 1]
        return last if self.series.single else f"{self.series.name(number)}:{last}"

    def describe(self) -> str:
        """Describe the content of the file: "8 sequences of 96 steps, 7 features"."""
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        steps = f"{longest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
        plural = "" if len(self.items) == 1 else "s"
        return (
            f"{len(self.items):,} sequence{plural} of {steps} step{'' if steps == '1' else 's'}, "
            f"{describe_features(self.items[0].shape[1:])}"
        )

    def check_finite(self) -> None:
        """Raise ArgumentError, which names the sequence and the step, for inputs that are not finite.

        Targets may be NaN, which stands for unknown ones, but not infinite.
        """
        targets = self.targets if isinstance(self.targets, list) else ()
        for what, arrays, is_wrong in (("", self.items, _not_finite), ("the target ", targets, np.isinf)):
            for row, array in enumerate(arrays):
                wrong = np.argwhere(is_wrong(array))
                if len(wrong):
                    step, *place = wrong[0].tolist()
                    time = f" ({self.times[row][step]})" if self.times else ""
                    feature = f", feature {', '.join(map(str, place))}" if place else ""
                    raise ArgumentError(
                        f"{self.origin}: sequence {self.name(row)} has {what}{array[(step, *place)]} at step "
                        f"{step}{time}{feature}, counted from 0: correct it, or remove the sequence"
                    )

    def check_features(self, step_shape: tuple[int | None, ...] | None, declared: str = "") -> None:
        """Raise ArgumentError unless the steps have the shape that a model takes; None accepts any size.

        declared: the input of the model, for images and other arrays that no table holds.
        """
        shape = self.items[0].shape[1:]
        fits = step_shape is None or (
            len(shape) == len(step_shape)
            and all(wanted in (None, size) for size, wanted in zip(shape, step_shape, strict=True))
        )
        if step_shape is not None and not fits:
            if declared and len(step_shape) > 1:
                raise ArgumentError(f"{self.origin}, but the model takes {declared}")
            sizes = ", ".join(map(str, step_shape))
            forms = f"are (N, T, {sizes}) or (T, {sizes}); select the columns"
            if step_shape == ():
                forms = "of token ids are (N, T); select the column"
            raise ArgumentError(
                f"{self.origin}, read as {self.describe()}, but the model takes "
                f"{describe_features(step_shape)} per step: arrays {forms} of a CSV file with --input"
            )


def targets_like(targets: Any, outputs: Sequence[AnyArray]) -> Any:
    """Return targets, numbers for each sequence or step, in the form of outputs (O,) or (T, O).

    Targets that are equal at all steps of each sequence become those of the sequences.
    """
    if not isinstance(targets, list) or outputs[0].ndim > 1:
        return targets
    unknown = np.full(targets[0].shape[1:], np.nan, np.float32)
    first = [steps[0] if len(steps) else unknown for steps in targets]
    pairs = zip(targets, first, strict=True)
    same = all(np.array_equal(steps, np.broadcast_to(one, steps.shape), True) for steps, one in pairs)
    return np.stack(first) if same else targets


def _not_finite(values: AnyArray) -> AnyArray:
    return ~np.isfinite(values)


def describe_features(shape: tuple[int | None, ...]) -> str:
    """Describe the shape of a step in words.

    >>> describe_features((7,)), describe_features(())
    ('7 features', 'token ids')
    """
    if shape == ():
        return "token ids"
    size = " x ".join("any" if each is None else str(each) for each in shape)
    return f"{size} feature{'' if shape == (1,) else 's'}"


def number_classes(
    name: str, labels: Sequence[str], known: Sequence[str]
) -> tuple[IntArray, tuple[str, ...]]:
    """Return the number of each label, and the class names.

    Labels are looked up among the known classes; others, such as blank ones, become UNKNOWN. Without known
    classes, integer labels are class numbers, and other labels, such as 007, are numbered in alphabetical
    order; a blank label is then a FileError.

    >>> number_classes("x.csv", ["cat", "ant", "cat"], known=())
    (array([1, 0, 1]), ('ant', 'cat'))
    >>> number_classes("x.csv", ["3", "0"], known=())
    (array([3, 0]), ())
    """
    found = set(labels)
    if not known and "" in found:
        raise FileError(f"{name}: a label is blank: every sequence to train on needs one")
    if known:
        classes = tuple(known)
    elif all(map(_is_class_number, found)):
        return np.array([int(label) for label in labels], np.int64), ()
    else:
        classes = tuple(sorted(found))
    numbers = {label: number for number, label in enumerate(classes)}
    return np.array([numbers.get(label, UNKNOWN) for label in labels], np.int64), classes


def _is_class_number(label: str) -> bool:
    """Whether a label is an integer as Python writes it, of at most 18 digits."""
    return label.isascii() and label.isdecimal() and len(label) < 19 and label == str(int(label))
