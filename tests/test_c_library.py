"""The C library gives the bits of Python: calls, streams and pools of compiled models."""

import contextlib
import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import ROOT, hostile, pages
from support.bits import assert_bitwise
from support.c_library import (
    BAD_ARGUMENT,
    BAD_FILE,
    CALL,
    MODELS,
    NO_PROGRAM,
    NOT_READABLE,
    POOL,
    STREAM,
    CError,
    CModel,
    compiled,
)
from support.examples import detector_of_voices, dtln_stage, example, write_wav
from support.randomized import random_cases
from support.sequence_graphs import RandomGraph, blocks, detector
from support.skips import Cases

import onward
from onward import _core
from onward.errors import ArgumentError, OnwardError

EXAMPLES = ROOT / "examples" / "c"


def random(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def compile_to(tmp_path: Path, model: Any, **options: Any) -> CModel:
    path = tmp_path / "model.onward"
    model.compile(path, **options)
    return CModel(path)


WITHOUT_STREAMS: dict[str, Any] = {
    "bidirectional": lambda: onward.GRU(3, 4, 2, bidirectional=True, rng=0),
    "reversed": lambda: onward.LSTM(3, 4, bidirectional=True, rng=0),
}


@pytest.mark.parametrize("name", [*MODELS, *WITHOUT_STREAMS])
def test_calls_of_any_size_have_the_bits_of_python(name: str, tmp_path: Path) -> None:
    layer = (MODELS | WITHOUT_STREAMS)[name]()
    session = compile_to(tmp_path, layer).session(CALL)
    for seed, shape in enumerate([(1, 1, 3), (7, 2, 3), (2, 7, 3), (1, 5, 3), (40, 1, 3), (7, 2, 3)]):
        x = random(shape, seed)
        expected = layer(x)
        assert_bitwise(session.run(x), [expected[0] if isinstance(expected, tuple) else expected])


@pytest.mark.parametrize("name", MODELS)
def test_streams_of_changing_blocks_have_the_bits_of_python(name: str, tmp_path: Path) -> None:
    layer = MODELS[name]()
    model = compile_to(tmp_path, layer)
    session, expected = model.session(STREAM), layer.stream()
    opened = onward.load(tmp_path / "model.onward").stream()
    session.reserve(random((1, 10, 3) if layer.batch_first else (10, 1, 3)))
    for seed, steps in enumerate([1, 3, 1, 10, 2, 100, 1]):
        x = random((1, steps, 3) if layer.batch_first else (steps, 1, 3), seed)
        block = x.reshape(steps, 3)
        y = expected(block)
        (found,) = session.run(x)
        if name != "last":  # whose graph returns the last step alone
            assert_bitwise([found.reshape(y.shape), opened(block).reshape(y.shape)], [y, y])
        else:
            assert_bitwise([found, opened(x)], [y[-1:].reshape(found.shape)] * 2)


@pytest.mark.parametrize("name", ["gru", "lstm options", "norms", "int8", "lstm batch first"])
def test_pools_have_the_bits_of_streams(name: str, tmp_path: Path) -> None:
    layer, rng = MODELS[name](), np.random.default_rng(1)
    model = compile_to(tmp_path, layer)
    count = 150
    pool, streams = model.session(POOL, count), [layer.stream() for _ in range(count)]
    for n in (1, 3, count, 2, 70, 1, count):
        ids = rng.permutation(count)[:n].tolist()
        x = random((n, 3), n)
        (y,) = pool.step(ids, x[:, None] if layer.batch_first else x[None])
        rows = y[:, 0] if layer.batch_first else y[0]
        assert_bitwise(rows, [streams[i](x[place]) for place, i in enumerate(ids)])


def test_states_are_saved_and_restored(tmp_path: Path) -> None:
    layer = MODELS["lstm"]()
    model = compile_to(tmp_path, layer)
    one, other = model.session(STREAM), model.session(POOL, 3)
    x = random((9, 1, 3))
    one.run(x[:4])
    other.restore(one.save(), 2)
    (y,) = one.run(x[4:])
    assert_bitwise(other.step([2], x[4:]), [y])
    other.reset(2)
    assert_bitwise(other.step([2], x[:4]), [CModel(tmp_path / "model.onward").session(STREAM).run(x[:4])[0]])


def test_damaged_states_are_refused_and_change_nothing(tmp_path: Path) -> None:
    session = compile_to(tmp_path, onward.GRU(3, 4, rng=0)).session(STREAM)
    session.run(random((2, 1, 3)))
    state = session.save()
    (tmp_path / "other").mkdir()
    others = compile_to(tmp_path / "other", onward.GRU(3, 4, rng=1)).session(STREAM).save()
    damaged = [state[:n] for n in range(0, len(state), 7)] + [state + b"x", others]
    damaged += [state[:at] + b"\xff" * 8 + state[at + 8 :] for at in range(0, 56, 8)]
    for bad in damaged:
        with pytest.raises(CError) as caught:
            session.restore(bad)
        assert caught.value.status == BAD_FILE
    assert session.save() == state


def test_damaged_files_are_refused_as_in_memory(tmp_path: Path) -> None:
    """A file is read in parts; in memory, it is used where it lies."""
    path = tmp_path / "model.onward"
    onward.Sequential(onward.LSTM(3, 4, rng=0), onward.Linear(4, 2)).quantize("int8").compile(path)
    content, opened = path.read_bytes(), 0
    damaged = [*hostile.truncated(content), *hostile.inflated(content, 4)]
    checked = [each[:16] + _core.checksum(each[24:]).to_bytes(8, "little") + each[24:] for each in damaged]
    for each in (*damaged, *checked, content):
        path.write_bytes(each)
        verdicts = []
        for source in (path, each):
            try:
                CModel(source)
                verdicts.append("opened")
            except CError as error:
                assert error.status == BAD_FILE
                verdicts.append(str(error))
        assert verdicts[0].removeprefix(f"{path}: ") == verdicts[1]
        opened += verdicts[0] == "opened"
    assert 1 <= opened <= 20


def test_the_ends_of_sequences_have_the_bits_of_python(tmp_path: Path) -> None:
    """A convolution that looks ahead holds steps back, and one with a stride completes few."""
    whole = detector(5)
    model = compile_to(tmp_path, whole)
    session, expected = model.session(STREAM), whole.stream(1)
    opened = onward.load(tmp_path / "model.onward").stream(1)
    for _ in range(2):
        for seed, steps in enumerate([1, 2, 1, 5, 1, 1, 16, 3]):
            x = random((1, steps, 5), seed)
            want = expected(x)
            assert_bitwise([*session.run(x), opened(x)], [want, want])
        want = expected.finish()
        assert_bitwise([*session.finish(), opened.finish()], [want, want])
        with pytest.raises(CError, match="has ended"):
            session.run(random((1, 1, 5)))
        session.reset()
        expected.reset()
        opened.reset()


def test_random_graphs_have_the_bits_of_python(tmp_path: Path) -> None:
    """Calls, and streams in random blocks; graphs with operations that run in NumPy cannot be compiled."""
    compiled_graphs = skipped = blocks_run = blocks_skipped = 0
    for seed in range(random_cases(3)):
        rng = np.random.default_rng(seed)
        whole = RandomGraph(seed).build(int(rng.integers(2, 8)))
        try:
            whole.compile(tmp_path / "model.onward")
        except ArgumentError as error:
            assert "runs in NumPy" in str(error), seed
            skipped += 1
            continue
        compiled_graphs += 1
        model, opened = CModel(tmp_path / "model.onward"), onward.load(tmp_path / "model.onward")
        if model.ports("input", CALL):
            session = model.session(CALL)
            for shape in [(1, 30, 5), (3, 17, 5), (1, 64, 5), (3, 17, 5)]:
                x = random(shape, seed)
                y = whole(x)
                assert_bitwise([*session.run(x), opened(x)], [y, y], f"seed {seed}")
        if not model.ports("input", STREAM):
            continue
        session, stream, expected = model.session(STREAM), opened.stream(1), whole.stream(1)
        x = random((1, 60, 5), seed)
        for block in blocks(rng, 60):
            want = expected(x[:, block])
            try:
                (found,) = session.run(x[:, block].copy())
            except CError as error:
                assert error.status == NO_PROGRAM and str(x[:, block].shape) in str(error)
                blocks_skipped += 1
                break
            blocks_run += 1
            assert_bitwise([found, stream(x[:, block])], [want, want], f"seed {seed}")
        else:
            want = expected.finish()
            assert_bitwise([*session.finish(), stream.finish()], [want, want], f"seed {seed}")
    assert compiled_graphs > 2 * skipped and blocks_run > 4 * blocks_skipped, (skipped, blocks_skipped)


def test_short_and_empty_calls_and_blocks_have_programs(tmp_path: Path) -> None:
    """Unless the model refuses a size, or runs an operation in NumPy for it, such as short padding."""
    cases, in_numpy = Cases(), 0
    for seed in range(random_cases(3)):
        rng = np.random.default_rng(seed)
        whole = RandomGraph(seed).build(int(rng.integers(2, 8)))
        try:
            model = compile_to(tmp_path, whole)
        except ArgumentError as error:
            assert "runs in NumPy" in str(error), seed
            continue
        for rows, steps in rng.integers(0, (3, 14), (8, 2)).tolist() * bool(model.ports("input", CALL)):
            x = random((rows, steps, 5), seed)
            with cases.new(seed) as case:
                with case.skipping(OnwardError):
                    y = whole(x)
                try:
                    assert_bitwise(model.session(CALL).run(x), [y], f"seed {seed}: {x.shape}")
                except CError as error:
                    assert error.status == NO_PROGRAM
                    with pytest.raises(ArgumentError, match="runs in NumPy"):
                        whole.compile(tmp_path / "call.onward", x)
                    in_numpy += 1
        for lengths in ((0, 3, 0, 1, 0, 7), (2, 0, 0, 5)) * bool(model.ports("input", STREAM)):
            session, expected = model.session(STREAM), whole.stream(1)
            for steps in lengths:
                x = random((1, steps, 5), seed)
                with cases.new(seed):
                    assert_bitwise(session.run(x), [expected(x)], f"seed {seed}: a block of {steps} steps")
            assert_bitwise(session.finish(), [expected.finish()], f"seed {seed}")
    cases.check()
    assert 4 * in_numpy < cases.ran, (in_numpy, cases.ran)


@pytest.mark.parametrize("name", ["gru", "lstm batch first", "norms", "int8"])
def test_layers_take_empty_calls_and_blocks(name: str, tmp_path: Path) -> None:
    layer = MODELS[name]()
    model = compile_to(tmp_path, layer)
    opened = onward.load(tmp_path / "model.onward")
    for shape in [(0, 1, 3), (0, 2, 3), (1, 0, 3), (2, 0, 3), (0, 0, 3)]:
        x = random(shape)
        y = layer(x)[0] if isinstance(layer(x), tuple) else layer(x)
        assert_bitwise([*model.session(CALL).run(x), opened(x)], [y, y])
    session, stream, expected = model.session(STREAM), opened.stream(), layer.stream()
    for steps in (0, 2, 0):
        x = random((steps, 3), steps)
        y = expected(x)
        (found,) = session.run(x[None] if layer.batch_first else x[:, None])
        assert_bitwise([found.reshape(y.shape), stream(x)], [y, y])


def test_errors_have_a_code_and_a_message(tmp_path: Path) -> None:
    model = compile_to(tmp_path, onward.GRU(3, 4, rng=0))
    session, x = model.session(CALL), random((2, 1, 3))
    cases = [
        (NO_PROGRAM, r"no program for x \(2, 1, 4\) float32", lambda: session.run(random((2, 1, 4)))),
        (NO_PROGRAM, r"x \(2, 1, 3\) float64", lambda: session.run(x.astype(float))),
        (BAD_ARGUMENT, "got 2 inputs", lambda: session.run(x, x)),
        (BAD_ARGUMENT, "runs calls", lambda: session.reset()),
        (BAD_ARGUMENT, "memory of 4", lambda: session.run(x, out=[np.zeros(1, np.float32)])),
        (BAD_ARGUMENT, "1 to ", lambda: model.session(POOL, 0)),
        (BAD_ARGUMENT, "not distinct", lambda: model.session(POOL, 2).step([1, 1], random((1, 2, 3)))),
        (BAD_ARGUMENT, "no stream 2", lambda: model.session(POOL, 2).step([2], random((1, 1, 3)))),
        (BAD_ARGUMENT, "needs 2 rows", lambda: model.session(POOL, 2).step([0, 1], random((1, 1, 3)))),
        (NOT_READABLE, "none: the file cannot be opened", lambda: CModel(tmp_path / "none")),
        (NOT_READABLE, "cannot be read", lambda: CModel(tmp_path)),
        (BAD_FILE, "not a compiled model", lambda: CModel(b"PK" * 100)),
        (BAD_FILE, "wrong: .*not a compiled model", lambda: CModel(tmp_path / "wrong")),
    ]
    (tmp_path / "wrong").write_bytes(b"PK" * 100)
    for status, message, call in cases:
        with pytest.raises(CError, match=message) as caught:
            call()
        assert caught.value.status == status


def test_memory_of_outputs_serves_for_blocks_of_any_length(tmp_path: Path) -> None:
    net = onward.GRU(3, 4, rng=0)
    session, stream = compile_to(tmp_path, net).session(STREAM), net.stream()
    memory = np.empty((5, 1, 4), np.float32)  # which must live as long as the targets
    targets = session.targets([memory])
    for steps in (1, 5, 2, 3):
        x = random((steps, 3))
        (found,) = session.run(x[:, None], out=targets)
        np.testing.assert_array_equal(found[:, 0], stream(x))
    with pytest.raises(CError, match="memory of 80"):
        session.run(random((6, 1, 3)), out=targets)


def test_inputs_and_outputs_are_described(tmp_path: Path) -> None:
    model = compile_to(tmp_path, onward.GRU(3, 4, rng=0))
    name, dtype, axes = model.ports("input", CALL)[0]
    assert (name, dtype, axes[2]) == ("x", np.float32, 3)
    assert all(isinstance(axis, str) for axis in axes[:2])
    assert model.ports("output", STREAM) == [("y", np.float32, ["", "", 4])]
    assert CModel(Path(tmp_path / "model.onward").read_bytes()).ports("input", CALL) == [(name, dtype, axes)]


def test_no_function_allocates_after_reserve(tmp_path: Path) -> None:
    """Whatever the lengths of blocks: some have programs of their own, and carry other shapes."""
    program = compiled(ROOT / "tests/support/allocations.c", tmp_path / "allocations")
    path = tmp_path / "model.onward"

    def check(name: str, time: int, most: tuple[int, ...], mode: int, streams: int = 1) -> int:
        printed = run_program(program, path, mode, streams, time, *most).decode()
        counts = {key: int(count) for key, count in map(str.split, printed.splitlines())}
        ran = counts.pop("calls")
        assert set(counts) == {"run", *(("save", "restore", "reset") if mode != CALL else ())}
        assert set(counts.values()) == {0}, (name, mode, counts)
        return ran

    for name in ("lstm", "gru reset before", "norms", "int8", "last"):
        MODELS[name]().compile(path)
        for mode, streams, most in ((CALL, 1, (9, 2, 3)), (STREAM, 1, (30, 1, 3)), (POOL, 5, (4, 5, 3))):
            assert check(name, 0, most, mode, streams) >= 50
    for seed in range(random_cases(8)):
        with contextlib.suppress(ArgumentError):  # an operation runs in NumPy
            whole = RandomGraph(seed).build(5)
            if any(node.operation == "ReduceProd" for node in whole.graph.nodes):
                continue  # it runs as a loop, which allocates when its sizes change
            blocks = whole.compile(path).blocks
            check(f"seed {seed}", 1, (3, 40, 5), CALL)
            if blocks:
                assert check(f"seed {seed}", 1, (1, 40, 5), STREAM) >= 50
                check(f"seed {seed}", 1, (3, 40, 5), POOL, 3)


def run_program(program: Path, *arguments: Any, sound: bytes = b"", folder: Path | None = None) -> bytes:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, input=sound, capture_output=True, check=True, cwd=folder).stdout


def test_voice_detector_in_c_finds_the_segments_of_python(tmp_path: Path) -> None:
    program = compiled(EXAMPLES / "voice_detector.c", tmp_path / "detector")
    detector_of_voices().compile(tmp_path / "vad.onward", sr=np.int64(16000))
    rng = np.random.default_rng(0)
    loud = np.repeat([0, 1, 0, 1, 0, 0, 1, 0.0, 1], [30, 20, 1, 25, 60, 10, 3, 40, 20])
    write_wav(tmp_path / "x.wav", (rng.uniform(-0.5, 0.5, len(loud) * 512) * np.repeat(loud, 512))[:-100])
    onward.export_onnx(detector_of_voices(), tmp_path / "vad.onnx")
    module = example("voice_detector")
    detector = module.Detector(tmp_path / "vad.onnx")
    (block,) = module.read(tmp_path / "x.wav")
    with wave.open(str(tmp_path / "x.wav")) as file:
        found = module.segments(detector(block), file.getnframes())
    expected = "".join(f"{start / 16000:.3f} {end / 16000:.3f}\n" for start, end in found)
    assert expected.count("\n") == 2
    assert run_program(program, tmp_path / "vad.onward", tmp_path / "x.wav").decode() == expected


def test_noise_suppressor_in_c_returns_the_sound_of_python(tmp_path: Path) -> None:
    program = compiled(EXAMPLES / "noise_suppressor.c", tmp_path / "suppressor")
    paths = []
    for features in (257, 512):
        stage = dtln_stage(features)
        onward.export_onnx(stage, tmp_path / f"{features}.onnx")
        paths.append(tmp_path / f"{features}.onward")
        stage.compile(paths[-1], carry={stage.inputs[1]: stage.outputs[1]})
    suppressor = example("noise_suppressor").Suppressor(tmp_path / "257.onnx", tmp_path / "512.onnx")
    noisy = (np.random.default_rng(0).uniform(-0.2, 0.2, 1000) * 32768).astype("<i2")
    padded = np.pad(noisy, (0, -len(noisy) % 128)).astype(np.float32) / 32768
    clean = np.concatenate([suppressor(block) for block in padded.reshape(-1, 128)])[: len(noisy)]
    found = np.frombuffer(run_program(program, *paths, sound=noisy.tobytes()), "<i2")
    # the Fourier transforms differ in rounding
    np.testing.assert_allclose(found, np.clip(clean, -1, 1) * 32767, atol=0.51)


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (page,) = [each for each in pages.pages_of("c") if each.stem == "c"]
    (block,) = [each for each in pages.blocks(page) if each.language == "c"]
    net = onward.GRU(12, 32, rng=0)
    net.compile(tmp_path / "gru.onward")
    (tmp_path / "page.c").write_text(block.code)
    printed = run_program(compiled(tmp_path / "page.c", tmp_path / "page"), folder=tmp_path).split()
    stream = net.stream()
    np.testing.assert_allclose(
        [float(number) for number in printed], [stream(np.zeros(12))[0] for _ in printed], rtol=1e-5
    )
