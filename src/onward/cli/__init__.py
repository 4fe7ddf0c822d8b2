"""The command line: models run, looked into, trained, converted, listed."""

import sys

from ..core.extras import install_hint

try:
    import click

    from .common import Commands
    from .models import convert, info, models
    from .run import run
    from .trace import trace
    from .train import plot, train
    from .writing import sample, score
except ModuleNotFoundError as error:
    # only the entry point imports this package, so this ends the command and nobody's program
    sys.exit(f"The command line needs {error.name}: {install_hint('cli')}")


@click.group(cls=Commands, epilog="Example:  onward run vowels")
@click.version_option(package_name="onward")
def main() -> None:
    """Runs and trains RNNs, LSTMs and GRUs."""


for command in (run, trace, train, plot, sample, score, info, convert, models):
    main.add_command(command)
