"""Arrays in files: their layout, errors that say where a file is wrong, and hostile files."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.skips import counted_cases

from onward.errors import ArgumentError, FileError
from onward.tables import data
from onward.tables.data import AnyArray, Selection

X = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
LENGTHS = np.array([4, 0, 5])


def saved(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **{key: np.asarray(value) for key, value in arrays.items()})
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def message(path: Path, **options: Any) -> str:
    """The message of the error that reading a file raises."""
    with pytest.raises(FileError) as caught:
        data.read(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_consecutive_sequences_are_cut_at_their_lengths(tmp_path: Path) -> None:
    sequences = data.read(saved(tmp_path / "x.npz", x=X, lengths=LENGTHS, y=[2, 0, 1]))
    for item, expected in zip(sequences.items, (X[:4], X[:0], X[4:]), strict=True):
        np.testing.assert_array_equal(item, expected)
    assert sequences.labels is not None and sequences.labels.tolist() == [2, 0, 1]


def test_padded_rows_are_cut_at_their_lengths(tmp_path: Path) -> None:
    x = np.full((2, 5, 3), np.nan, np.float32)
    x[0, :4], x[1] = X[:4], X[4:]
    sequences = data.read(saved(tmp_path / "x.npz", x=x, lengths=[4, 5]))
    np.testing.assert_array_equal(np.concatenate(sequences.items), X)


def test_arrays_are_n_t_f_or_t_f(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    np.save(tmp_path / "batch.npy", np.stack([X, 2 * X, 3 * X]))
    one = data.read(tmp_path / "one.npy")
    assert one.lengths.tolist() == [9] and one.single
    batch = data.read(tmp_path / "batch.npy")
    np.testing.assert_array_equal(np.stack(batch.items), [X, 2 * X, 3 * X])
    assert batch.labels is None and not batch.single
    assert batch.describe() == "3 sequences of 9 steps, 3 features"


def test_arrays_of_token_ids_are_n_t_or_t(tmp_path: Path) -> None:
    ids = np.arange(12).reshape(3, 4)
    for x, items in ((ids, list(ids)), (ids[0], [ids[0]])):
        np.save(tmp_path / "x.npy", x)
        sequences = data.read(tmp_path / "x.npy", step_shape=())
        np.testing.assert_array_equal(sequences.items, items)
        assert sequences.describe().endswith("of 4 steps, token ids")
    ragged = data.read(saved(tmp_path / "x.npz", x=np.arange(9), lengths=LENGTHS), step_shape=())
    assert [item.tolist() for item in ragged.items] == [[0, 1, 2, 3], [], [4, 5, 6, 7, 8]]


N_T_F = np.random.default_rng(1).standard_normal((4, 6, 3)).astype(np.float32)


def test_y_of_as_many_numbers_as_steps_belongs_to_sequences(tmp_path: Path) -> None:
    y = np.random.default_rng(2).standard_normal((4, 6))  # O == T
    targets = data.read(saved(tmp_path / "x.npz", x=N_T_F, y=y)).targets
    assert isinstance(targets, np.ndarray)
    np.testing.assert_array_equal(targets, y.astype(np.float32))


def test_y_with_a_time_axis_belongs_to_steps(tmp_path: Path) -> None:
    y = np.random.default_rng(2).standard_normal((4, 6, 2)).astype(np.float32)
    sequences = data.read(saved(tmp_path / "x.npz", x=N_T_F, y=y, lengths=[6, 2, 0, 5]))
    assert isinstance(sequences.targets, list)
    for target, row, length in zip(sequences.targets, y, (6, 2, 0, 5), strict=True):
        np.testing.assert_array_equal(target, row[:length])


STEPS = np.random.default_rng(3).integers(0, 2, (4, 6))


@pytest.mark.parametrize("y", [STEPS, STEPS.astype(float), STEPS > 0, np.array(["no", "yes"])[STEPS]])
def test_the_task_applies_to_arrays(tmp_path: Path, y: AnyArray) -> None:
    path = saved(tmp_path / "x.npz", x=N_T_F, y=y, lengths=[6, 2, 1, 5])
    sequences = data.read(path, Selection(task="label-steps")).with_class_names()
    assert sequences.step_labels is not None and sequences.targets is None
    for labels, row, length in zip(sequences.step_labels, STEPS, (6, 2, 1, 5), strict=True):
        np.testing.assert_array_equal(labels, row[:length])
    assert sequences.classes == (("no", "yes") if y.dtype.kind == "U" else ("0", "1"))
    one = data.read(saved(tmp_path / "one.npz", x=N_T_F[0], y=y[0]), Selection(task="label-steps"))
    assert one.step_labels is not None and one.step_labels[0].tolist() == STEPS[0].tolist()
    assert "y has shape (4, 6)" in message(path, selection=Selection(task="classify"))


def test_whole_numbers_are_classes_or_values_as_the_task_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x=N_T_F, y=[30, 54, 30, 31])
    ages = data.read(path, Selection(task="regress"))
    assert ages.labels is None and np.array_equal(ages.targets, [[30], [54], [30], [31]])
    path = saved(tmp_path / "x.npz", x=N_T_F, y=[3.0, 5.0, 3.0, 4.0])
    kinds = data.read(path, Selection(task="classify"))
    assert kinds.labels is not None and kinds.labels.tolist() == [3, 5, 3, 4]
    path = saved(tmp_path / "x.npz", x=N_T_F, y=[0.5, np.inf, 1, 2])
    assert "expected classes (4,)" in message(path, selection=Selection(task="classify"))


def test_options_of_columns_are_refused_for_arrays(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x=N_T_F)
    for name, value in {
        "inputs": ("a",),
        "group": "a",
        "missing": "fill",
        "every": "1h",
        "delimiter": ";",
        "day_first": True,
    }.items():
        option = {"inputs": "--input"}.get(name, f"--{name.replace('_', '-')}")
        assert f"omit {option}," in message(path, selection=Selection(**{name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("horizon", 2), ("season", 3), ("interval", 0.5)])
def test_options_of_windows_need_a_window(tmp_path: Path, name: str, value: float) -> None:
    path = saved(tmp_path / "x.npz", x=N_T_F)
    with pytest.raises(ArgumentError, match=f"--{name} needs --window"):
        data.read(path, Selection(**{name: value}))  # type: ignore[arg-type]


def test_a_time_between_steps_needs_times(tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", "a\n1\n2\n")
    assert "--every needs --time" in message(path, selection=Selection(every="1h"))


def test_the_axis_of_steps_may_come_after_the_features(tmp_path: Path) -> None:
    lengths = [6, 2, 1, 5]
    expected = data.read(saved(tmp_path / "x.npz", x=N_T_F, lengths=lengths)).items
    path = saved(tmp_path / "y.npz", x=N_T_F.swapaxes(1, 2), lengths=lengths)
    joined = saved(tmp_path / "z.npz", x=np.concatenate(expected).T, lengths=lengths)
    for each in (path, joined):
        for item, other in zip(data.read(each, time=1).items, expected, strict=True):
            np.testing.assert_array_equal(item, other)


def test_classes_may_be_strings(tmp_path: Path) -> None:
    sequences = data.read(saved(tmp_path / "x.npz", x=N_T_F, y=["dog", "cat", "dog", "eel"]))
    assert sequences.labels is not None and sequences.labels.tolist() == [1, 0, 1, 2]
    assert sequences.classes == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    "classes", [["01", "1", "02"], ["7", "007"], ["2", "9223372036854775813"], ["0", "-1"]]
)
def test_classes_with_leading_zeros_or_many_digits_keep_their_names(
    tmp_path: Path, classes: list[str]
) -> None:
    labels = [classes[n % len(classes)] for n in range(4)]
    table = "sequence,a,label\n" + "\n".join(f"{n},1,{label}" for n, label in enumerate(labels))
    (tmp_path / "x.csv").write_text(table)
    for path in (tmp_path / "x.csv", saved(tmp_path / "x.npz", x=N_T_F, y=labels)):
        found = data.read(path).with_class_names()
        assert found.labels is not None and found.classes == tuple(sorted(classes))
        assert [found.classes[number] for number in found.labels] == labels


def test_integers_beyond_int64_are_classes(tmp_path: Path) -> None:
    found = data.read(saved(tmp_path / "x.npz", x=N_T_F, y=np.uint64([5, 2**63 + 5, 5, 7])))
    assert found.classes == ("5", "7", "9223372036854775813")


@pytest.mark.parametrize(
    ("step_shape", "words"),
    [(None, "(N, T, F)"), ((3,), "(N, T, F)"), ((), "(N, T) for N sequences of token ids")],
)
def test_a_wrong_number_of_axes_quotes_the_shape(tmp_path: Path, step_shape: Any, words: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 5), np.float32))
    reported = message(tmp_path / "x.npy", step_shape=step_shape)
    assert "x has shape (2, 3, 4, 5)" in reported and words in reported


@pytest.mark.parametrize(
    "arrays",
    [
        {"features": X},
        {"x": X[0]},
        {"x": X[:0]},
        {"x": X, "lengths": [4, 4]},
        {"x": X, "lengths": [10, -1]},
        {"x": X, "lengths": [4.0, 5.0]},
        {"x": X, "lengths": [2**62] * 4 + [9]},  # whose sum in int64 is 9
        {"x": X[None], "lengths": [3, 3]},
        {"x": X[None], "lengths": [0]},
        {"x": X, "y": [1, 2]},
        {"x": X, "y": [[[0.5]]]},
        {"x": X, "y": [1], "targets": [[1.0]]},
        {"x": X + 1j},
        {"x": X.astype("M8[s]")},
        {"x": X.astype(str)},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_rejected(tmp_path: Path, arrays: dict[str, object]) -> None:
    message(saved(tmp_path / "x.npz", **arrays))


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[print]]), allow_pickle=True)
    assert "objects" in message(tmp_path / "x.npy")


def test_a_header_that_claims_more_than_the_file_holds_allocates_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 12)})
    (tmp_path / "x.npy").write_bytes(file.getvalue() + bytes(480))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", file.getvalue() + bytes(480))
    for name in ("x.npy", "x.npz"):
        assert "damaged" in message(tmp_path / name)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_rejected(tmp_path: Path) -> None:
    assert "unpacks to" in message(saved(tmp_path / "x.npz", x=np.zeros((30_000_000, 1), np.float32)))


def test_a_file_that_cannot_be_opened_raises_file_error(tmp_path: Path) -> None:
    message(tmp_path / "missing.npy")
    (tmp_path / "folder.csv").mkdir()
    message(tmp_path / "folder.csv")
    (tmp_path / "latin.csv").write_bytes("größe\n1\n".encode("latin-1"))
    message(tmp_path / "latin.csv")


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("whole")
    np.save(folder / "x.npy", X)
    saved(folder / "x.npz", x=X, lengths=LENGTHS, y=[0, 1, 2])
    csv(folder / "x.csv", "sequence,a,label\ns,1,0\ns,2,0\nt,3,1\n")
    return sorted(folder.iterdir())


def test_a_damaged_file_gives_sequences_or_a_file_error(whole_files: list[Path], tmp_path: Path) -> None:
    for case in counted_cases(200, most=0.95):  # nearly every damage is found
        rng = np.random.default_rng(case.seed)
        path = whole_files[rng.integers(len(whole_files))]
        content = bytearray(path.read_bytes())
        for position in rng.integers(len(content), size=rng.integers(5)).tolist():
            content[position] = rng.integers(256)
        damaged = tmp_path / path.name
        damaged.write_bytes(content[: rng.integers(len(content) + 1) if rng.integers(2) else None])
        with case, case.skipping(FileError, match=path.name):
            assert len(data.read(damaged).lengths) > 0
