"""Readers take what people have, say where a file is wrong, and survive hostile ones."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.errors import FileError
from onward.tables import data

X = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
LENGTHS = np.array([4, 0, 5])


def saved(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **{key: np.asarray(value) for key, value in arrays.items()})
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def message(path: Path) -> str:
    """What the error says of a file that cannot be read."""
    with pytest.raises(FileError) as caught:
        data.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_sequences_one_after_another_are_cut_at_their_lengths(tmp_path: Path) -> None:
    sequences = data.read(saved(tmp_path / "x.npz", x=X, lengths=LENGTHS, y=[2, 0, 1]))
    for item, expected in zip(sequences.items, (X[:4], X[:0], X[4:]), strict=True):
        np.testing.assert_array_equal(item, expected)
    assert sequences.labels is not None and sequences.labels.tolist() == [2, 0, 1]


def test_padding_of_a_batch_is_not_taken_for_steps(tmp_path: Path) -> None:
    x = np.full((5, 2, 3), np.nan, np.float32)
    x[:4, 0], x[:, 1] = X[:4], X[4:]
    sequences = data.read(saved(tmp_path / "x.npz", x=x, lengths=[4, 5]))
    np.testing.assert_array_equal(np.concatenate(sequences.items), X)


def test_an_array_without_lengths_is_one_sequence_or_a_batch_of_whole_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    np.save(tmp_path / "batch.npy", np.stack([X, 2 * X, 3 * X], axis=1))
    assert data.read(tmp_path / "one.npy").lengths.tolist() == [9]
    batch = data.read(tmp_path / "batch.npy")
    np.testing.assert_array_equal(np.stack(batch.items), [X, 2 * X, 3 * X])
    assert batch.labels is None


def test_csv_rows_of_one_sequence_name_become_one_sequence(tmp_path: Path) -> None:
    text = "\ufefflabel, a,sequence,b\n7,1,first,2\n7,3,first,4e-1\n\n1,nan,second,-inf\n"
    sequences = data.read(csv(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(sequences.items[0], [[1, 2], [3, 0.4]])
    np.testing.assert_array_equal(sequences.items[1], [[np.nan, -np.inf]])
    assert sequences.labels is not None and sequences.labels.tolist() == [7, 1]


def test_csv_without_a_sequence_column_is_one_unlabelled_sequence(tmp_path: Path) -> None:
    sequences = data.read(csv(tmp_path / "x.csv", "a,b\n1,2\n3,4\n"))
    np.testing.assert_array_equal(sequences.items, [[[1, 2], [3, 4]]])
    assert sequences.labels is None


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["line 1", "name the columns"]),
        ("1.5,2\n3,4\n", ["line 1", "name the columns"]),  # no header: its row would be lost
        ("a,a\n1,2\n", ["line 1", "by another name"]),
        ("sequence,label\ns,1\n", ["line 1"]),
        ("a,b\n1,2\n3,x\n", ["line 3", "column 'b'", "'x'"]),
        ("a,b\n1,\n", ["line 2", "column 'b'", "''"]),
        ("a,b\n1,2\n3\n", ["line 3", "1 values", "2 columns"]),
        ("sequence,a\ns,1\nt,1\ns,1\n", ["line 4", "'s'"]),
        ("sequence,a,label\ns,1,0\ns,1,2\n", ["line 3", "column 'label'"]),
        ("a,label\n1,anna\n", ["line 2", "column 'label'", "'anna'"]),
        ("a,b\n", ["(0, 2)"]),
    ],
)
def test_csv_errors_say_where(tmp_path: Path, text: str, fragments: list[str]) -> None:
    said = message(csv(tmp_path / "x.csv", text))
    assert all(fragment in said for fragment in fragments), said


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
        {"x": X[:, None], "lengths": [3, 3]},
        {"x": X[:, None], "lengths": [0]},
        {"x": X, "y": [1, 2]},
        {"x": X, "y": [0.5]},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path: Path, arrays: dict[str, object]) -> None:
    message(saved(tmp_path / "x.npz", **arrays))


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[print]]), allow_pickle=True)
    assert "objects" in message(tmp_path / "x.npy")


def test_a_header_that_promises_more_than_the_file_has_takes_no_memory(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 12)})
    (tmp_path / "x.npy").write_bytes(file.getvalue() + bytes(480))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", file.getvalue() + bytes(480))
    for name in ("x.npy", "x.npz"):
        assert "damaged" in message(tmp_path / name)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path) -> None:
    assert "unpacks to" in message(saved(tmp_path / "x.npz", x=np.zeros((30_000_000, 1), np.float32)))


def test_a_file_that_cannot_be_opened_is_an_error_of_onward(tmp_path: Path) -> None:
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


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_gives_sequences_or_a_file_error(
    whole_files: list[Path], tmp_path: Path, draw: st.DataObject
) -> None:
    path = draw.draw(st.sampled_from(whole_files))
    content = bytearray(path.read_bytes())
    for position in draw.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = draw.draw(st.integers(0, 255))
    damaged = tmp_path / path.name
    damaged.write_bytes(content[: draw.draw(st.integers(0, len(content)))])
    try:
        assert len(data.read(damaged).lengths) > 0
    except FileError:
        pass


def test_batches_give_back_every_sequence_once_with_its_own_length() -> None:
    items = [np.full((length, 2), length, np.float32) for length in (3, 1, 0, 5, 2)]
    seen = {}
    for rows, x, lengths in data.Sequences(items, None).batches(2):
        assert x.shape == (lengths.max(), len(rows), 2)
        for b, row in enumerate(rows.tolist()):
            seen[row] = x[: lengths[b], b]
            assert not x[lengths[b] :, b].any()
    assert sorted(seen) == [0, 1, 2, 3, 4]
    for row, item in enumerate(items):
        np.testing.assert_array_equal(seen[row], item)
