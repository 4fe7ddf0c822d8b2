"""Random tables with a row for each step: their text, their columns, and their sequences by a plain loop."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from onward.tables.data import Saved, Selection

MISSING = ["", "NA", "nan", "None"]


class Expected(NamedTuple):
    """The steps (T, F) of a sequence, its class and its weight."""

    x: np.ndarray
    label: str
    weight: float


class RandomTable(NamedTuple):
    """The content of a CSV file, the selection of its columns, and its sequences by name."""

    text: str
    selection: Selection
    expected: dict[str, Expected]


def table(rng: np.random.Generator) -> RandomTable:
    """Return a table whose rows are in random order, some with missing values."""
    names = rng.permutation(["anna", "é", "1", "01", "x;y", 'a "b"'])[: int(rng.integers(1, 6))].tolist()
    columns = rng.permutation(["u", "v w", "ü", "p.q"])[: int(rng.integers(1, 4))].tolist()
    missing = str(rng.choice(["error", "skip", "fill", "mask"]))
    share = 0.0 if missing == "error" else float(rng.choice([0.1, 0.5, 0.8]))
    rows: list[list[str]] = []
    steps: dict[str, Any] = {}
    facts = {name: (str(rng.choice(["01", "1", "x"])), float(rng.integers(1, 9))) for name in names}
    kinds = {name: str(rng.choice(["red", "blue", "'x y'"])) for name in names}
    categories = sorted(set(kinds.values()))
    static = rng.random() < 0.5  # on the first rows, beside other or no values on the others
    for name in names:
        T = int(rng.integers(1, 6))
        steps[name] = rng.normal(size=(T, len(columns))) * 10.0 ** rng.integers(-5, 6)
        steps[name][rng.random(steps[name].shape) < share] = np.nan
        for t, values in enumerate(steps[name].tolist()):
            cells = [str(rng.choice(MISSING)) if v != v else repr(v) for v in values]
            others = str(rng.choice(["", "7"])), str(rng.choice(["", "green", "red"]))
            of_first = others if t else (str(facts[name][1]), kinds[name])
            rows.append([name, str(t * 0.5 - 1), facts[name][0], *of_first, *cells])
    order = rng.permutation(len(rows)).tolist()
    lines = [["name", "t", "class", "w", "s", *columns], *(rows[n] for n in order)]
    delimiter = str(rng.choice([",", ";", "\t"]))
    quoted = [[f'"{c.replace(chr(34), chr(34) * 2)}"' for c in line[:1]] + line[1:] for line in lines]
    text = str(rng.choice(["\n", "\r\n"])).join(delimiter.join(line) for line in quoted)
    selection = Selection(
        tuple(columns), ("class",), "name", "t",
        weight="w", missing=missing, delimiter=delimiter, task="classify", static=("s",) * static,
    )  # fmt: skip
    every = np.concatenate(list(steps.values()))
    found = {}
    for name in names:
        x = treated(steps[name], missing, every)
        kind = np.array([float(kinds[name] == each) for each in categories] if static else [])
        found[name] = Expected(np.hstack([x, np.tile(kind, (len(x), 1))]), *facts[name])
    return RandomTable(text, selection, found)


def treated(x: np.ndarray, missing: str, every: np.ndarray) -> np.ndarray:
    """Return the steps of a sequence with their missing values treated, one column and step at a time."""
    if missing == "skip":
        return x[[not np.isnan(row).any() for row in x]]
    filled = x.copy()
    for column, values in enumerate(x.T):
        known = [v for v in values if v == v] or [v for v in every[:, column] if v == v] or [0.0]
        last = float(np.mean(known))
        for t, value in enumerate(values):
            last = last if value != value else value
            filled[t, column] = last
    return np.concatenate([filled, np.isnan(x)], axis=1) if missing == "mask" else filled


class RandomSeries(NamedTuple):
    """The content of a CSV file, the selection of its columns, and its windows by series and end.

    A window is its steps (W, F) and the targets of the steps that follow it.
    """

    text: str
    selection: Selection
    expected: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]


def series(rng: np.random.Generator) -> RandomSeries:
    """Return series of days, some with gaps, and some with a feature whose future is known."""
    W, H = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    is_known, has_gaps = W >= H and rng.random() < 0.5, rng.random() < 0.5
    rows: list[str] = []
    expected: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for name in ["b", "a", "é"][: int(rng.integers(1, 4))]:
        T = int(rng.integers(1, 15))
        x, known, y = values = rng.normal(size=(3, T))
        planned = int(rng.integers(0, min(H, T - 1) + 1)) if is_known else 0
        values[::2, T - planned :] = np.nan
        if has_gaps:
            inside = np.arange(T) < T - planned - 1
            values[::2][(rng.random((2, T)) < 0.15) & inside] = np.nan
            values[:, (rng.random(T) < 0.1) & inside & (np.arange(T) > 0)] = np.nan
        first = np.datetime64("2024-02-25") + np.timedelta64(int(rng.integers(5)), "D")
        for t, cells in enumerate(values.T.tolist()):
            if not np.isnan(cells).all():
                rows.append(
                    ",".join(
                        [
                            name,
                            str(first + np.timedelta64(t, "D")),
                            *("" if v != v else repr(v) for v in cells),
                        ]
                    )
                )
        last = max((t + 1 for t in range(T) if y[t] == y[t]), default=0) if is_known else T
        for end in range(W, last + 1):
            ahead = [known[t + H] if t + H < T else np.nan for t in range(end - W, end)]
            window = np.column_stack([x[end - W : end], ahead] if is_known else [x[end - W : end]])
            targets = y[end : end + H]
            if len(targets) == H and not (np.isnan(window).any() or np.isnan(targets).any()):
                expected[name, end] = window, targets
    text = "\n".join(["name,day,x,known,y", *(rows[n] for n in rng.permutation(len(rows)))])
    selection = Selection(
        ("x",), ("y",), "name", "day",
        window=W, horizon=H, every="1d", missing="skip" if has_gaps else None, known=("known",) * is_known,
    )  # fmt: skip
    return RandomSeries(text, selection, expected)


class TypedTable(NamedTuple):
    """Columns of any type of pyarrow, the same cells as texts, the selection, and known classes."""

    columns: dict[str, Any]
    cells: dict[str, list[str]]
    selection: Selection
    saved: Saved

    @property
    def text(self) -> str:
        """The content of a CSV file."""
        return (
            "\n".join([",".join(self.cells), *map(",".join, zip(*self.cells.values(), strict=True))]) + "\n"
        )


def typed(rng: np.random.Generator) -> TypedTable:
    """Return a table whose groups, times, features and targets have random types, with missing values."""
    import pyarrow as pa

    S, T = int(rng.integers(1, 6)), rng.integers(1, 5, 5)
    place = np.concatenate([np.full(T[s], s) for s in range(S)])
    step = np.concatenate([np.arange(T[s]) for s in range(S)])
    N, order = len(place), rng.permutation(len(place))
    place, step = place[order], step[order]
    day, second = np.datetime64("2024-02-27"), np.datetime64("2024-02-28T23:59:58")
    groups = {
        "text": pa.array([f"g {n}é" for n in place]),
        "dictionary": pa.array([f"g{n}" for n in place]).dictionary_encode(),
        "int": pa.array([None if n == 3 else 2**60 + n for n in place.tolist()], "int64"),
        "unsigned": pa.array((2**63 + place.astype(np.uint64)).tolist(), "uint64"),
        "float": pa.array([None if n == 3 else n / 8 for n in place.tolist()]),
        "bool": pa.array((place > 0).tolist()),
    }
    times = {
        "int": pa.array((1_700_000_000_000_000_000 + 1_000 * step).tolist()),
        "float": pa.array((step / 8 - 1).tolist()),
        "date": pa.array((day + step.astype("timedelta64[D]")).tolist()),
        "second": pa.array((second + step.astype("timedelta64[s]")).tolist(), pa.timestamp("s")),
    }
    known = rng.random(5) < rng.choice([1.0, 0.6])
    of_sequence = {
        "text": ["u", "v", "01", "1", "True"],
        "int": [3, 1, 2, -1, 10],
        "bool": [True, False, True, True, False],
        "float": [0.5, 1.0, 2.0, 3.0, 4.0],
    }
    kind = str(rng.choice(list(of_sequence)))
    targets = pa.array([of_sequence[kind][n] if known[n] else None for n in place])
    values = rng.normal(size=N).round(3)
    values[rng.random(N) < rng.choice([0.0, 0.3])] = np.nan
    columns = {
        "g": groups[str(rng.choice(list(groups)))],
        "t": times[str(rng.choice(list(times)))],
        "a": pa.array([None if value != value else value for value in values.tolist()], "float64"),
        "b": pa.array(rng.integers(-9, 9, N).tolist()),
        "y": targets,
    }
    if columns["g"].type == "bool":
        columns["t"] = pa.array(range(N))  # two sequences of several steps each
        columns["y"] = pa.array(["u"] * N)
    cells = {
        name: ["" if cell is None else str(cell) for cell in column.to_pylist()]
        for name, column in columns.items()
    }
    missing = str(rng.choice(["skip", "fill", "mask"]))
    group = None if rng.random() < 0.1 and S == 1 else "g"
    numeric = [name for name in "gty" if str(columns[name].type) in ("int64", "uint64", "double")]
    inputs = ("a", "b", *(name for name in numeric if rng.random() < 0.2))  # read as numbers and as names
    selection = Selection(inputs, ("y",), group, "t", missing=missing)
    classes = set(cells["y"]) - {""}  # known ones, if some are missing, of which a training needs all
    known_classes = tuple(sorted(classes)) if kind != "float" and "" in cells["y"] and classes else ()
    return TypedTable(columns, cells, selection, Saved(classes=known_classes))


class RandomRows(NamedTuple):
    """A table of pyarrow with a sequence in each row, and the arguments of a scorer of steps of 3 numbers.

    expected: the sequence of each row (T, 3) by a plain loop; None for a bad row.
    """

    table: Any
    arguments: dict[str, Any]
    expected: list[np.ndarray | None]


def rows(rng: np.random.Generator) -> RandomRows:
    """Return rows of lists or of columns of numbers of any type, with nulls, in several chunks."""
    import pyarrow as pa

    N = int(rng.integers(1, 9))
    number = str(rng.choice(["int8", "uint16", "int64", "float16", "float32", "float64", "bool"]))
    share = float(rng.choice([0, 0.2]))

    def numbers(count: int, share: float = share / 4) -> list[Any]:
        values = rng.integers(0, 2 if number == "bool" else 100, count).astype(number).tolist()
        return [None if rng.random() < share else value for value in values]

    lengths = [None if rng.random() < share else int(n) for n in rng.integers(-share * 5, 5, N)]
    has_lengths = rng.random() < 0.5
    if rng.random() < 0.4:  # columns of numbers
        names = ["a", "b", "c", "d", "e", "f"][: 3 * int(rng.integers(1, 3))]
        cells = {name: numbers(N, share) for name in names}
        columns = {name: pa.array(values, number) for name, values in cells.items()}
        sequences = [
            [[cells[name][n] for name in names[i : i + 3]] for i in range(0, len(names), 3)] for n in range(N)
        ]
        arguments: dict[str, Any] = {"input": names}
    else:
        T = int(rng.integers(1, 5))
        sizes = np.full(N, T) if rng.random() < 0.5 else rng.integers(0, 5, N)
        sequences = [None if rng.random() < share else [numbers(3) for _ in range(size)] for size in sizes]
        if rng.random() < share and sequences[0]:
            sequences[0][0] = sequences[0][0][:2]  # a step with too few numbers
        is_even = all(
            row is None or (len(row) == T and all(len(step) == 3 for step in row)) for row in sequences
        )
        step = pa.list_(pa.type_for_alias(number), 3 if is_even and rng.random() < 0.5 else -1)
        kinds = [pa.list_(step), pa.large_list(step), *([pa.list_(step, T)] if is_even else [])]
        columns = {"x": pa.array(sequences, kinds[int(rng.integers(len(kinds)))])}
        arguments = {"input": "x"}
    if has_lengths:
        columns["n"] = pa.array(lengths, "int32")
        arguments["lengths"] = "n"
    expected: list[np.ndarray | None] = []
    for row, length in zip(sequences, lengths, strict=True):
        steps = [] if row is None else row
        is_good = row is not None and all(len(step) == 3 and None not in step for step in steps)
        if has_lengths:
            is_good = is_good and length is not None and 0 <= length <= len(steps)
            steps = steps[:length] if is_good else steps
        expected.append(np.array(steps, number).astype("float32") if is_good and steps else None)
    table = pa.table(columns)
    cuts = sorted({0, N, *rng.integers(0, N + 1, int(rng.integers(3))).tolist()})
    parts = [table.slice(start, end - start) for start, end in pairwise(cuts)]
    return RandomRows(pa.concat_tables(parts), arguments, expected)
