"""The parts of pages that are computed from the package: commands, operators and layers."""

import inspect
from collections.abc import Callable, Iterable

from click.testing import CliRunner

import onward
from onward.cli import COMMANDS, main
from onward.formats.c import emission  # noqa: F401  # which registers all steps
from onward.formats.c.steps import STEPS
from onward.formats.keras.load import LAYERS as KERAS_LAYERS
from onward.formats.onnx.opsets import MICROSOFT
from onward.formats.tflite import translate as tflite
from onward.formats.torch.aten.operators import OPERATORS as ATEN_OPERATORS
from onward.graph.operations import OPERATIONS
from onward.graph.operations.gradient import RULES, RULES_OF_SEVERAL
from onward.graph.operations.modules import MODULES
from onward.layers.base import Layer


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def yes(value: object) -> str:
    return "yes" if value else ""


def command_line() -> str:
    """The help text of each command."""
    pages = []
    for name in COMMANDS:
        for words in [[name, "text"], [name, "table"]] if name == "train" else [[name]]:
            result = CliRunner().invoke(main, [*words, "--help"], terminal_width=96, prog_name="onward")
            if result.exit_code:
                raise RuntimeError(f"onward {' '.join(words)} --help fails: {result.output}")
            pages.append(f"### onward {' '.join(words)}\n\n```text\n{result.output.rstrip()}\n```")
    return "\n\n".join(pages)


def onnx_operators() -> str:
    rows = [
        (
            f"`{name}`",
            yes(each.lower or each.expand),
            yes(each.stream or each.stream_by_place),
            yes(name in {"Scan", *RULES, *RULES_OF_SEVERAL}),
        )
        for name, each in ((name, OPERATIONS[name]) for name in sorted(MODULES))
    ]
    return table(["operation", "runs in the core", "streams", "has a gradient"], rows)


def microsoft_operators() -> str:
    return ", ".join(f"`{name}`" for name in sorted(MICROSOFT))


def aten_operators() -> str:
    return ", ".join(f"`{name}`" for name in sorted(ATEN_OPERATORS))


def keras_layers() -> str:
    return ", ".join(f"`{name}`" for name in sorted(KERAS_LAYERS) if not name.startswith("ops."))


def tflite_operators() -> str:
    names = sorted({*tflite.FLOATS, *tflite.INTEGERS, *tflite.ANY})
    return table(
        ["operator", "float32", "int8"],
        (
            (
                f"`{name}`",
                yes(name in tflite.FLOATS or name in tflite.ANY),
                yes(name not in tflite.FLOATS or name in tflite.INTEGERS),
            )
            for name in names
        ),
    )


def steps_in_c() -> str:
    """The steps of programs that `export_c` writes."""
    return table(["step", "what it computes"], ((f"`{name}`", STEPS[name].__doc__) for name in sorted(STEPS)))


def layers() -> str:
    rows = []
    for name in onward.__all__:
        layer = getattr(onward, name)
        if inspect.isclass(layer) and issubclass(layer, Layer):
            summary = inspect.getdoc(layer).split("\n\n")[0].replace("\n", " ")
            rows.append((f"[`{name}`](layers.md#onward.{name})", summary))
    return table(["layer", ""], rows)


PARTS: dict[str, Callable[[], str]] = {
    "command line": command_line,
    "operators": onnx_operators,
    "onnxruntime operators": microsoft_operators,
    "ATen operators": aten_operators,
    "Keras layers": keras_layers,
    "TensorFlow Lite operators": tflite_operators,
    "layers": layers,
    "steps in C": steps_in_c,
}
