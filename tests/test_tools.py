"""The scripts in tools/ that run parts of the test suite."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def load_script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["check_wheel", "sanitize"])
def test_scripts_run_tests_that_exist(name: str) -> None:
    script = load_script(name)
    groups = script.TESTS.values() if isinstance(script.TESTS, dict) else [script.TESTS, script.NEED_MORE]
    tests = [test for group in groups for test in group]
    assert tests and [test for test in tests if not (ROOT / "tests" / test).exists()] == []


def test_the_nightly_workflow_runs_tests_that_exist() -> None:
    workflow = (ROOT / ".github" / "workflows" / "nightly.yml").read_text()
    tests = [word for word in workflow.split() if word.startswith("tests/")]
    assert tests and [test for test in tests if not (ROOT / test).exists()] == []
