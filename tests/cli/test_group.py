"""What all commands share: help, lazy imports, suggestions, exit codes, shell completion."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import numpy as np
import pytest
from support import ROOT
from support.cli import invoke, message

import onward
from onward.cli import COMMANDS, main

COMMAND = Path(sysconfig.get_path("scripts")) / "onward"
EXTRA = "pip install 'click>=8.1' 'rich>=13'"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from onward.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    loaded = set(python(code).stderr.split())
    assert "onward.cli.group" in loaded
    heavy = {"rich", "matplotlib", "onnx", "pyarrow", "onward.train", "onward.tables", "onward.recipes"}
    assert not heavy & loaded
    assert not {f"onward.cli.{module}" for module, _ in COMMANDS.values()} & loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_the_group_is_the_first_line_of_each_command(name: str) -> None:
    context = main.make_context("onward", [name, "--help"], resilient_parsing=True)
    command = main.get_command(context, name)
    assert command is not None and command.help is not None
    assert " ".join(command.help.split("\n\n")[0].split()) == COMMANDS[name][1]


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), ["train", "text"], ["train", "table"]]
)
def test_every_help_ends_with_an_example(command: list[str]) -> None:
    last = invoke(*command, "--help", expect=0).output.strip().splitlines()[-1]
    assert last.strip().startswith("Example:  onward ")


@pytest.mark.parametrize(
    "command", [[], ["info"], ["convert"], ["quantize"], ["models"], ["score"], ["sample"]]
)
def test_the_example_of_a_help_runs(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    last = invoke(*command, "--help").output.strip().splitlines()[-1]
    invoke(*last.replace('"', "").split()[2:], expect=0)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rn"], "no such command: 'rn'. Did you mean 'run'?"),
        (["walk"], "The commands are run, trace, explore,"),
        (["info", "vowls"], "Did you mean 'vowels'?"),
        (["run", "vowels", "japanese_vowel_test"], "Did you mean 'japanese_vowels_test'"),
        (["score", "vowels", "japanese_vowels_tset"], "Did you mean 'japanese_vowels_test'"),
        (["quantize", "shakespere", "--to", "int8", "-o", "x.safetensors"], "Did you mean 'shakespeare'?"),
        (["train", "tabel", "x.npz"], "no such command: 'tabel'. Did you mean 'table'?"),
        (["train", "table", "japanese_vowels_tran"], "Did you mean 'japanese_vowels_train'"),
        (["run", "vowels", "--jsn"], "--json"),
        (["info", "modle.safetensors"], "Did you mean 'model.safetensors'?"),
        (["info", "japanese_vowels_test"], "It is a bundled data set."),
        (["run", "vowels", "shakespeare"], "It is a bundled model."),
    ],
)
def test_typos_suggest_the_most_similar_name(
    arguments: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.safetensors").touch()
    assert hint in message(invoke(*arguments, expect=2))


def unreadable(kind: str, path: Path) -> Path:
    """A path at which there is no model and no data."""
    match kind:
        case "empty":
            path.touch()
        case "garbage":
            path.write_bytes(np.random.default_rng(0).bytes(3000))
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "directory", "pipe"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".h5", ".keras", ".npz", ".onnx"])
@pytest.mark.parametrize("command", ["info", "run", "score", "convert", "quantize", "trace", "sample"])
def test_a_file_that_is_not_a_model_ends_in_one_message(
    kind: str, suffix: str, command: str, tmp_path: Path
) -> None:
    path = unreadable(kind, tmp_path / f"model{suffix}")
    options = {
        "run": ["japanese_vowels_test"],
        "score": ["japanese_vowels_test"],
        "convert": [str(tmp_path / "out.safetensors")],
        "quantize": ["--to", "int8", "-o", str(tmp_path / "out.safetensors")],
        "trace": ["japanese_vowels_test"],
    }.get(command, [])
    result = invoke(command, path, *options)
    assert result.exit_code in (1, 2)
    assert "Error: " in result.stderr and path.name in "".join(result.stderr.split())
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "directory", "pipe"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".txt"])
def test_a_file_that_is_not_data_ends_in_one_message(kind: str, suffix: str, tmp_path: Path) -> None:
    path = unreadable(kind, tmp_path / f"x{suffix}")
    model = "shakespeare" if suffix == ".txt" else "vowels"
    for command in ["score"] if suffix == ".txt" else ["run", "score", "trace"]:
        result = invoke(command, model, path)
        assert result.exit_code in (1, 2) and "Error: " in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_file_without_permission_ends_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    onward.GRU(3, 4).save(path)
    path.chmod(0)
    assert "Permission denied" in message(invoke("info", path, expect=1))


def test_an_interrupt_gives_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onward.formats.load", interrupted)
    assert invoke("info", "vowels", expect=130).output == ""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to itself")
@pytest.mark.parametrize("module", ["datetime", "rich.table"])
def test_an_interrupt_during_an_import_is_not_an_import_error(module: str) -> None:
    """NumPy reported that its extension modules are broken, and the exit code was 1."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: print('now'); signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from onward.cli import main; main(['info', 'vowels'])"
    )
    result = python(code)
    assert result.stdout == "now\n" and "ImportError" not in result.stderr
    assert result.returncode in (130, -signal.SIGINT)  # the latter becomes 130 in a shell


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is full")
@pytest.mark.parametrize(
    ("command", "buffered"),
    [(["run", "vowels", "--out", "-"], False), (["models", "--json"], True), (["--help"], False)],
)
def test_a_full_disk_behind_stdout_ends_in_one_message(command: list[str], buffered: bool) -> None:
    """It ended in a traceback."""
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [COMMAND, *command], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert result.returncode == 1
    assert result.stderr == "Error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["run vowels", "train table japanese_vowels_test --epochs 1"])
def test_an_output_whose_encoding_lacks_a_character_does_not_end_in_a_traceback(
    command: str, encoding: str, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    result = subprocess.run(
        [COMMAND, *command.split()], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    assert (result.returncode, b"accuracy" in result.stdout) == (0, True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shell that closes a descriptor")
@pytest.mark.parametrize(
    ("arguments", "redirection", "expected"),
    [
        ("run vowels -", "<&-", "standard input is closed: pass a file"),
        ("run vowels japanese_vowels_test -o -", ">&-", "standard output is closed: pass a file to --out"),
    ],
)
def test_a_closed_stream_ends_in_one_message(arguments: str, redirection: str, expected: str) -> None:
    """It ended in a traceback."""
    line = f'"{COMMAND}" {arguments} {redirection}'
    result = subprocess.run(line, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr[:7]) == (1, "Error: ")
    assert expected in result.stderr


def numbers(kind: type[click.ParamType]) -> list[tuple[str, click.ParamType]]:
    """The options of all commands whose value is such a number."""
    found: list[tuple[str, click.ParamType]] = []
    commands = [main.get_command(click.Context(main), name) for name in COMMANDS]
    while commands:
        command = commands.pop()
        assert command is not None
        if isinstance(command, click.Group):
            commands += command.commands.values()
        found += [
            (f"{command.name} {p.opts[-1]}", p.type) for p in command.params if isinstance(p.type, kind)
        ]
    return found


def test_no_option_takes_nan_or_infinity() -> None:
    """With --tolerance nan, `onward quantize` wrote any model."""
    options = numbers(click.types.FloatParamType)
    assert {name for name, _ in options} >= {"quantize --tolerance", "serve --idle", "sample --temperature"}
    for name, kind in options:
        for text in ("nan", "inf"):
            with pytest.raises(click.BadParameter):
                pytest.fail(f"{name} takes {kind.convert(text, None, None)}")


def test_every_count_has_a_minimum() -> None:
    """`onward info --graph --length -5` and `onward serve --port 70000` ended in tracebacks."""
    options = numbers(click.types.IntParamType)
    unbounded = {name for name, kind in options if not isinstance(kind, click.IntRange)}
    assert unbounded == {"serve --time-axis", "export-c --time-axis"}  # axes may count from the end
    assert "info --length" in dict(options)


def test_too_little_memory_ends_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 9 EiB")

    monkeypatch.setattr("onward.formats.load", exhausted)
    assert "not enough memory: Unable to allocate" in message(invoke("info", "vowels", expect=1))


def test_results_go_to_stdout_and_errors_to_stderr() -> None:
    good = subprocess.run([COMMAND, "run", "vowels", "--json"], capture_output=True, text=True, check=False)
    assert good.returncode == 0 and good.stderr == ""  # no progress bar outside a terminal
    assert json.loads(good.stdout)["accuracy"] >= 0.95
    bad = subprocess.run([COMMAND, "run", "vowls"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "vowls" in bad.stderr and "Traceback" not in bad.stderr


def test_the_package_runs_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "onward", "info", "vowls"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and result.stderr.startswith("Usage: onward info")


def test_without_click_the_message_names_the_extra() -> None:
    result = python("import sys; sys.modules['click'] = None; import onward.cli")
    assert result.returncode == 1
    assert EXTRA in result.stderr and "Traceback" not in result.stderr


def test_without_rich_the_message_names_the_extra() -> None:
    code = "import sys; sys.modules['rich'] = None; from onward.cli import main; main(['models'])"
    result = python(code)
    assert result.returncode == 1
    assert EXTRA in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_documented_line_prints_the_completion_script(shell: str) -> None:
    documentation = (ROOT / "docs" / "reference" / "command_line.md").read_text()
    assert f"_ONWARD_COMPLETE={shell}_source onward" in documentation
    environment = os.environ | {"_ONWARD_COMPLETE": f"{shell}_source"}
    script = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, check=False).stdout
    assert f"_ONWARD_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("onward qu", {"quantize"}),
        ("onward run vow", {"vowels"}),
        ("onward run vowels japanese", {"japanese_vowels_test", "japanese_vowels_train"}),
        ("onward info --batch", {"--batch-first"}),
    ],
)
def test_a_shell_completes_commands_options_and_bundled_names(words: str, completions: set[str]) -> None:
    environment = os.environ | {
        "_ONWARD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, check=False)
    assert {line.removeprefix("plain,") for line in result.stdout.split() if "plain," in line} == completions


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert f"`{name}" in (ROOT / "docs" / "reference" / "command_line.md").read_text()
