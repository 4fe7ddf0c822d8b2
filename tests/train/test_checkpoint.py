"""Checkpoints: training resumes with the same bits, and rejects the checkpoint of another training."""

import json
import os
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import onward
from onward import train
from onward.core import storage
from onward.errors import FileError

RNG = np.random.default_rng(0)
ITEMS = [RNG.normal(0, 1, (length, 3)) for length in RNG.integers(1, 9, 50)]
CLASSES = RNG.integers(0, 4, 50)
TEXT = RNG.integers(0, 9, 700)


def classifier(units: int = 6) -> Any:
    return onward.Sequential(
        onward.GRU(3, units, 2, dropout=0.3, rng=0),
        onward.Last(),
        onward.Dropout(0.2),
        onward.Linear(units, 4, rng=1),
    )


def characters() -> Any:
    return onward.Sequential(
        onward.Embedding(9, 4, rng=0), onward.LSTM(4, 6, 2, dropout=0.1, rng=1), onward.Linear(6, 9, rng=2)
    )


class Stopping(train.Data):
    """Raises KeyboardInterrupt, once, before the batch with index `stop`."""

    def __init__(self, data: train.Data, stop: int) -> None:
        self.data, self.left, self.size = data, stop, data.size

    def settings(self) -> dict[str, Any]:
        return self.data.settings()

    def epoch(self, rng: Any) -> Iterator[train.Batch]:
        for batch in self.data.epoch(rng):
            if self.left == 0:
                self.left = 1 << 30
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


TASKS: dict[str, tuple[Any, train.Data, dict[str, Any]]] = {
    "sequences": (
        classifier,
        train.Batches(ITEMS, CLASSES, batch_size=8),  # 7 batches
        {
            "schedule": train.OneCycleLR(),
            "optimizer": train.AdamW(1e-2),
            "validation": (ITEMS[:9], CLASSES[:9]),
            "average": 0.9,
            "recurrent_dropout": 0.2,
            "max_norm": 1.0,
        },
    ),
    "chunks": (
        characters,
        train.Chunks(TEXT[:-1], TEXT[1:], batch_size=5, steps=20),  # 7 batches
        {"optimizer": train.SGD(0.1, momentum=0.9), "schedule": train.ReduceLROnPlateau(0.5, patience=0)},
    ),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937])
@pytest.mark.parametrize("stops", [[3], [7], [10, 2], [0, 20], [1, 1, 13]], ids=str)
def test_an_interrupted_training_ends_with_the_same_bits(
    tmp_path: Path, task: str, bits: Any, stops: list[int]
) -> None:
    make, data, options = TASKS[task]
    nets, contents = [], []
    for name, cuts in (("whole", []), ("cut", stops)):
        path = tmp_path / name
        options |= {"epochs": 3, "checkpoint": path, "checkpoint_every": 1, "progress": False}
        for stop in cuts:
            with pytest.raises(KeyboardInterrupt):
                train.fit(
                    make(), Stopping(data, stop), rng=np.random.Generator(bits(0)), resume=True, **options
                )
        net = make()
        history = train.fit(
            net, data, rng=np.random.Generator(bits(0 if not cuts else 9)), resume=True, **options
        )
        assert len(history.losses) == 21
        nets.append(net.state_dict())
        contents.append(path.read_bytes())
    for weight in nets[0]:
        np.testing.assert_array_equal(nets[0][weight], nets[1][weight])
    assert contents[0] == contents[1] or stops[0] == 0  # history, generator and optimizer too


def test_steps_after_the_last_checkpoint_are_repeated_on_resume(tmp_path: Path) -> None:
    make, data, options = TASKS["sequences"]
    options |= {"epochs": 2, "checkpoint_every": 3, "checkpoint": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        train.fit(make(), Stopping(data, 5), rng=0, **options)
    cut, whole = make(), make()
    train.fit(cut, data, rng=0, resume=True, **options)
    train.fit(whole, data, rng=0, **options)
    assert all((cut.state_dict()[name] == w).all() for name, w in whole.state_dict().items())


def test_a_finished_training_continues_with_more_epochs(tmp_path: Path) -> None:
    make, data, options = TASKS["chunks"]
    options |= {"checkpoint": tmp_path / "run"}
    once, twice = make(), make()
    train.fit(once, data, rng=0, **options | {"epochs": 4})
    train.fit(twice, data, rng=0, **options | {"epochs": 2})
    history = train.fit(twice, data, resume=True, **options | {"epochs": 4})
    assert len(history.epochs) == 4
    assert all((twice.state_dict()[name] == w).all() for name, w in once.state_dict().items())


@pytest.mark.parametrize(
    "schedule",
    [train.OneCycleLR(), train.CosineAnnealingLR(), train.Warmup(3, after=train.CosineAnnealingLR())],
    ids=repr,
)
def test_more_epochs_under_a_schedule_that_spans_the_run_raise(tmp_path: Path, schedule: Any) -> None:
    make, data, _ = TASKS["chunks"]
    options: dict[str, Any] = {"schedule": schedule, "checkpoint": tmp_path / "run", "rng": 0}
    train.fit(make(), data, epochs=2, **options)
    with pytest.raises(FileError, match="another number of epochs: 2, not 3"):
        train.fit(make(), data, epochs=3, resume=True, **options)


def test_a_schedule_sees_the_total_only_if_it_declares_that_it_spans_the_run(tmp_path: Path) -> None:
    seen = []

    class Recording(train.Constant):
        def lr(self, base: float, progress: Any) -> float:
            seen.append(progress.total)
            return base

    class Spanning(Recording):
        @property
        def spans_run(self) -> bool:
            return True

    make, data, _ = TASKS["chunks"]
    for schedule in (Recording(), Spanning()):
        train.fit(make(), data, epochs=1, schedule=schedule)
    assert seen == [None] * 7 + [7] * 7


def test_fewer_epochs_than_a_checkpoint_has_reached_raise(tmp_path: Path) -> None:
    make, data, _ = TASKS["chunks"]
    options: dict[str, Any] = {"checkpoint": tmp_path / "run"}
    train.fit(make(), data, epochs=3, **options)
    model = make()
    before = model.state_dict()
    with pytest.raises(FileError, match="has reached epoch 3, but epochs=2"):
        train.fit(model, data, epochs=2, resume=True, **options)
    assert all((model.state_dict()[name] == w).all() for name, w in before.items())


class Loader:
    """An iterable with a length whose batches cannot be compared without running it."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def test_resuming_with_other_batches_in_a_list_raises(tmp_path: Path) -> None:
    def batches(seed: int) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [(rng.normal(0, 1, (5, 4, 3)), rng.integers(0, 4, 4)) for _ in range(3)]

    options: dict[str, Any] = {"checkpoint": tmp_path / "run", "resume": True, "rng": 0}
    train.fit(classifier(), batches(0), epochs=1, **options)
    train.fit(classifier(), batches(0), epochs=2, **options)
    with pytest.raises(FileError, match="another data set"):
        train.fit(classifier(), batches(1), epochs=3, **options)
    with pytest.raises(FileError, match="another type of data: list, not Loader"):
        train.fit(classifier(), Loader(batches(0)), epochs=3, **options)


def test_an_interrupt_says_how_to_resume(tmp_path: Path) -> None:
    make, data, _ = TASKS["chunks"]
    with pytest.raises(KeyboardInterrupt) as info:
        train.fit(make(), Stopping(data, 9), checkpoint=tmp_path / "run")
    message = "".join(traceback.format_exception(info.value))
    assert (
        "stopped after 9 steps" in message and f"{tmp_path / 'run'}" in message and "resume=True" in message
    )
    with pytest.raises(KeyboardInterrupt) as info:
        train.fit(make(), Stopping(data, 9))
    assert "nothing was saved" in "".join(traceback.format_exception(info.value))
    with pytest.raises(KeyboardInterrupt) as info:  # the file belongs to an earlier training
        train.fit(make(), Stopping(data, 3), checkpoint=tmp_path / "run")
    assert "nothing was saved" in "".join(traceback.format_exception(info.value))


def test_a_loss_that_returns_a_numpy_scalar_can_be_saved(tmp_path: Path) -> None:
    def loss(y: Any, targets: Any, mask: Any) -> Any:
        value, dy = train.cross_entropy(y, targets, mask)
        return np.float32(value), dy

    data = ITEMS, CLASSES
    options: dict[str, Any] = {"validation": data, "checkpoint": tmp_path / "run", "checkpoint_every": 1}
    history = train.fit(classifier(), data, loss=loss, epochs=1, **options)
    assert type(history.losses[0]) is float and type(train.evaluate(classifier(), data, loss).loss) is float


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make, data, options = TASKS["sequences"]
    path = tmp_path / "run"
    train.fit(make(), data, rng=0, **options | {"epochs": 1, "checkpoint": path})
    return path


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": classifier(7)}, "another model"),
        ({"optimizer": train.Adam(1e-2)}, "another optimizer"),
        ({"schedule": train.Constant()}, "another schedule"),
        ({"average": None}, "another average"),
        ({"data": train.Batches(ITEMS, CLASSES, batch_size=9)}, "another number of batches"),
        ({"data": train.Batches(ITEMS[:49], CLASSES[:49], batch_size=7)}, "another batch size: 8, not 7"),
        ({"data": train.Batches(ITEMS, CLASSES[::-1], batch_size=8)}, "another data set: 50 sequences"),
        ({"data": train.Batches([2 * x for x in ITEMS], CLASSES, batch_size=8)}, "another data set"),
        ({"validation": (ITEMS[:9], CLASSES[1:10])}, "another validation: data set: 9 sequences"),
        ({"validation": None}, "another validation"),
        ({"max_norm": 2}, r"another max_norm: 1\.0, not 2\.0"),
        ({"max_value": 0.5}, r"another max_value: None, not 0\.5"),
        (
            {"loss": partial(train.cross_entropy, label_smoothing=0.1)},
            r"not cross_entropy\(label_smoothing=0",
        ),
        ({"rng": np.random.Generator(np.random.MT19937(0))}, "another bit generator: PCG64, not MT19937"),
    ],
)
def test_resuming_another_training_raises(saved: Path, change: dict[str, Any], what: str) -> None:
    make, data, options = TASKS["sequences"]
    arguments = {
        "model": make(),
        "data": data,
        **options,
        "epochs": 1,
        "checkpoint": saved,
        "resume": True,
        **change,
    }
    before = arguments["model"].state_dict()
    with pytest.raises(FileError, match=what):
        train.fit(**arguments)
    assert all((arguments["model"].state_dict()[name] == w).all() for name, w in before.items())


def test_resuming_with_another_sequence_of_chunks_raises(tmp_path: Path) -> None:
    make, data, options = TASKS["chunks"]
    options = options | {"epochs": 1, "checkpoint": tmp_path / "run", "resume": True}
    train.fit(make(), data, **options)
    for x, steps, what in (
        (TEXT[::-1], 20, "data set: 695 steps"),
        (TEXT, 21, "steps of a chunk: 20, not 21"),
    ):
        with pytest.raises(FileError, match=f"another {what}"):
            train.fit(make(), train.Chunks(x[:-1], x[1:], batch_size=5, steps=steps), **options)


def test_the_error_names_the_first_difference_between_two_models(tmp_path: Path) -> None:
    def made(*sizes: int) -> Any:
        return onward.Sequential(
            *(onward.GRU(3, 3) for _ in range(9)), *(onward.Linear(3, size) for size in sizes)
        )

    data = [(np.ones((1, 1, 3)), np.ones((1, 1, 3)))]
    options: dict[str, Any] = {"loss": "mse", "epochs": 1, "checkpoint": tmp_path / "run", "resume": True}
    train.fit(made(3), data, **options)
    with pytest.raises(FileError, match=r"another model: layers\[9\]\.out_features: 3, not 2;"):
        train.fit(made(2), data, **options)
    with pytest.raises(FileError, match=r"another model: layers\[10\]: nothing, not \{"):
        train.fit(made(3, 3), data, **options)


def test_damaged_checkpoints_raise(saved: Path) -> None:
    make, data, options = TASKS["sequences"]
    options = options | {"epochs": 1, "checkpoint": saved, "resume": True}
    content = saved.read_bytes()
    tensors, header = storage.read(saved)
    assert header is not None
    tensors = {name: array.copy() for name, array in tensors.items()}
    bad: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (tensors, header | {"rng": {"bit_generator": "PCG64"}}),
        (tensors, header | {"rng": 5}),
        (tensors, {name: value for name, value in header.items() if name != "batch"}),
        (tensors | {"epochs": np.full_like(tensors["epochs"], np.inf)}, header),
        ({name: array for name, array in tensors.items() if name != "mean/0.weight_ih_l0"}, header),
        (tensors | {"weights/3.bias": np.ones(5, np.float32)}, header),
        (tensors | {"rates": tensors["rates"][1:]}, header),
        (tensors | {"best/3.bias": np.ones(5, np.float32)}, header),
    ]
    for arrays, described in bad:
        storage.write(saved, arrays, described)
        with pytest.raises(FileError, match="damaged"):
            train.fit(make(), data, **options)
    saved.write_bytes(content[:-100])
    with pytest.raises(FileError, match="not a complete"):
        train.fit(make(), data, **options)
    make().save(saved)
    with pytest.raises(FileError, match="is not a checkpoint"):
        train.fit(make(), data, **options)


def test_a_full_disk_leaves_the_previous_checkpoint_intact(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, data, options = TASKS["sequences"]
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="cannot be written: No space left"):
        train.fit(make(), data, **options | {"epochs": 1, "checkpoint": saved})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["run"]


BAD_VALUES = [None, -1, 3.5, 10**30, "x", [], {"state": 1}, [["a", {}, None]]]


def test_no_damage_to_a_checkpoint_raises_a_bare_error_or_changes_the_model(tmp_path: Path) -> None:
    path, damaged = tmp_path / "run", tmp_path / "damaged"
    rng = np.random.default_rng(0)
    data = train.Chunks(rng.normal(size=(24, 2)), rng.integers(0, 2, 24), batch_size=2, steps=6)

    def model() -> onward.Sequential:
        return onward.Sequential(onward.LSTM(2, 3, rng=0), onward.Linear(3, 2, rng=0))

    options = {"validation": data, "average": 0.9, "rng": 0, "progress": False, "checkpoint_every": 3}
    train.fit(model(), data, epochs=2, checkpoint=path, **options)
    with safe_open(path, "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # no mapping
        header = json.loads(file.metadata()["onward"])
    headers = [header | {key: value} for key in header for value in BAD_VALUES]
    headers += [{k: v for k, v in header.items() if k != key} for key in header]
    headers += [header | {"batch": 1, "drawn": value} for value in BAD_VALUES]
    files = [(tensors, each) for each in headers]
    for key, array in tensors.items():
        files.append(({k: v for k, v in tensors.items() if k != key}, header))
        for other in (array[:-1], array[None], array.astype(np.int32), array.astype(np.float16)):
            files.append((tensors | {key: np.ascontiguousarray(other)}, header))
    refused = 0
    for arrays, each in files:
        save_file(arrays, damaged, {"onward": json.dumps(each)})
        net = model()
        before = net.state_dict()
        try:
            train.fit(net, data, epochs=3, checkpoint=damaged, resume=True, **options)
        except FileError as error:
            refused += 1
            assert str(damaged) in str(error)
            for name, weight in net.state_dict().items():
                np.testing.assert_array_equal(weight, before[name], err_msg=str(error))
    assert refused > 0.9 * len(files)
    for step in (np.nan, np.inf, -1, 1e6, 0.5):
        epochs = tensors["epochs"].copy()
        epochs[0, 0] = step
        save_file(tensors | {"epochs": epochs}, damaged, {"onward": json.dumps(header)})
        with pytest.raises(FileError, match="damaged checkpoint"):
            train.fit(model(), data, epochs=3, checkpoint=damaged, resume=True, **options)
