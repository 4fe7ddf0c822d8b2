"""Run the `onward` command within the test process."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from onward.cli import main


def invoke(*arguments: str | Path, expect: int | None = None) -> Result:
    """The result of a command; fails if an exception other than SystemExit escapes."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="onward")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert expect is None or result.exit_code == expect, result.output
    return result


def report(*arguments: str | Path) -> dict[str, Any]:
    """The JSON object that a successful command prints; fails on any other output and on NaN."""
    result = invoke(*arguments, "--json", expect=0)
    parsed: dict[str, Any] = json.loads(result.stdout, parse_constant=pytest.fail)
    return parsed


def message(result: Result) -> str:
    """What a command wrote to stderr, on one line."""
    return " ".join(result.stderr.split())
