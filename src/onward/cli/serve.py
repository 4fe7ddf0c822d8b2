"""`onward serve`: run live streams of a model over WebSockets."""

import gc
import ipaddress
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ..core.checks import non_negative
from ..errors import ArgumentError, FileError
from ..model import Model
from ..serve.app import Server, listen, raise_file_limit
from ..serve.service import Limits, Service
from ..serve.steps import steps_of
from .common import Decorator, Real, carry_option, check_folder, fixed_option
from .group import warn
from .sources import ModelFile, model_argument

COUNT, SECONDS = click.IntRange(1), Real(0, min_open=True)


def duration(text: str) -> float:
    """A duration such as 2ms or 0.5s, in seconds."""
    number, factor = (text[:-2], 1e-3) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        return non_negative("tick", float(number)) * factor
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a duration such as 2ms or 0.5s") from None


def limit(option: str, name: str, help: str, kind: click.IntRange | click.FloatRange = COUNT) -> Decorator:
    """The option for one of the `Limits`."""
    return click.option(option, name, default=getattr(Limits, name), type=kind, help=help)


@click.command(epilog="Example:  onward serve vowels")
@model_argument
@click.option(
    "--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 chooses a free one."
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--tick", type=duration, default="2ms", help="Messages that arrive within this time run together."
)
@carry_option
@fixed_option("--set")
@click.option(
    "--time-axis", type=int, help="The axis of the input that is time. Default: that of the recurrent layers."
)
@click.option("--keep", default=60.0, type=Real(0), help="Seconds to keep a stream without a connection.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="File that keeps the streams across restarts. Default: MODEL-PORT.streams.",
)
@limit("--max-message", "message", "Largest message, in bytes.")
@limit("--max-json", "json", "Largest message or body of JSON, in bytes.")
@limit("--max-body", "body", "Largest body of POST /run, and its answer, in bytes.")
@limit("--max-connections", "connections", "Largest number of connections.")
@limit("--queue", "queue", "Messages of a connection that may wait.")
@limit("--idle", "idle", "Seconds until a silent connection is closed.", SECONDS)
@limit("--request", "request", "Seconds that a request may take to arrive.", SECONDS)
@click.option("--token", envvar="ONWARD_TOKEN", show_envvar=True, help="Token that requests must carry.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="Origin of pages that may open streams, and name of this server.",
)
def serve(
    model: ModelFile,
    port: int,
    host: str,
    carry: dict[str, str],
    fixed: dict[str, Any],
    time_axis: int | None,
    state: Path | None,
    **settings: Any,
) -> None:
    """Run live streams of MODEL over WebSockets.

    MODEL is a bundled model (see `onward models`) or a file with a model that streams. A connection to
    /stream is a stream: it takes steps as bytes or JSON, and returns the outputs. POST /run scores whole
    sequences, / is a page to try it, and /metrics is for Prometheus.

    SIGTERM finishes the current step, saves the streams and closes the connections.
    """
    fixed = model.fixed(fixed, Model.stream, Model.pool)
    options = {"carry": carry or None, "time_axis": time_axis, **fixed}
    options = {name: value for name, value in options.items() if value is not None}
    try:
        steps = steps_of(model.model, options)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("time_axis=", "--time-axis")) from error
    steps.warm_up()
    raise_file_limit()
    if state is None and port:
        state = Path(f"{model.path.stem}-{port}.streams")
    if state is not None:
        check_folder(state, "--state")
    limits = Limits(**{limit.name: settings.pop(limit.name) for limit in fields(Limits)})
    settings |= {"token": settings["token"] or None, "states": state if settings["keep"] else None}
    settings["hosts"] = [host]
    try:
        service = Service(model.path.name, steps, limits, **settings)
    except FileError as error:
        raise FileError(f"{error}; remove the file, or choose another one with --state") from error
    try:
        listening = listen(host, port)
    except OSError as error:
        raise FileError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    port = listening.getsockname()[1]
    if not settings["token"] and not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        warn("Warning: no --token: anyone who reaches this address can use it")
    click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (stop with Ctrl-C)")
    gc.freeze()  # the model and the modules stay: no collection need visit them
    Server(service).run([listening])
