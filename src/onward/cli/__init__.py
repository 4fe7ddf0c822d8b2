"""The command line: run a model over sequences, look into a model file, convert it, list what is bundled."""

import sys

try:
    import click

    from .common import Commands
    from .models import convert, info, models
    from .run import run
    from .trace import trace
except ModuleNotFoundError as error:
    # only the entry point imports this package, so this ends the command and nobody's program
    sys.exit(f"The command line needs {error.name}, which is not installed: pip install 'onward[cli]'")


@click.group(cls=Commands, epilog="Example:  onward run vowels")
@click.version_option(package_name="onward")
def main() -> None:
    """Runs trained RNNs, LSTMs and GRUs over sequences."""


for command in (run, trace, info, convert, models):
    main.add_command(command)
