"""The `onward` command; may import every other folder.

Each subcommand is imported on first use, so that `onward --help` is fast.
"""

import sys

from ..core.extras import install_hint

try:
    import click

    from .group import LazyGroup
except ModuleNotFoundError as error:
    # only entry points import this package, so this exits the command, never a user's program
    sys.exit(f"The command line needs {error.name}: {install_hint('cli')}")

# The name of each command, which is also its module, and its summary in `onward --help`.
COMMANDS = {
    "run": ("run", "Run MODEL on the sequences of INPUT and show its predictions."),
    "trace": ("trace", "Show the gates and states of MODEL as it processes one sequence."),
    "explore": ("explore", "Open a page that shows every gate of a network while it reads your input."),
    "train": ("train", "Train a model on text or on a table of sequences."),
    "plot": ("train", "Plot the losses and the learning rate of a training run."),
    "sample": ("sample", "Generate text with MODEL, character by character."),
    "score": ("score", "Evaluate MODEL on FILE: a text or a table of labeled sequences."),
    "info": ("info", "Show the layers of MODEL, their output shapes and parameters."),
    "convert": ("convert", "Convert the model IN to the file OUT: .safetensors or .onnx."),
    "quantize": ("convert", "Compress the weights of MODEL to float16 or int8."),
    "compile": ("compile", "Compile MODEL to a .onward file, which runs in C without Python."),
    "export-c": ("export_c", "Write MODEL as C99 for microcontrollers."),
    "verify": ("verify", "Compare the outputs of MODEL on INPUTS with EXPECTED outputs."),
    "serve": ("serve", "Run live streams of MODEL over WebSockets."),
    "models": ("info", "List the models and data sets that come with Onward."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog="Example:  onward run vowels",
    context_settings={"show_default": True},
)
@click.version_option(package_name="onward")
def main() -> None:
    """Run, stream, train and inspect recurrent networks (RNN, LSTM, GRU)."""
