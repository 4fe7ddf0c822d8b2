"""The scripts in tools/ that run parts of the test suite."""

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

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


def test_workflows_may_only_read_and_pin_the_actions_of_others() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        assert "\npermissions:\n  contents: read\n" in text, f"{path.name} has all permissions"
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), f"{path.name}: {action} is not a commit"


def test_the_metadata_name_every_license_that_the_wheel_needs() -> None:
    """The wheel contained nanobind without its license."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {path.name for pattern in project["license-files"] for path in ROOT.glob(pattern)}
    assert found == load_script("check_wheel").LICENSES
    assert set(project["license"].split(" AND ")) == {"Apache-2.0", "BSD-3-Clause", "MIT", "CC-BY-4.0"}


def test_windows_needs_a_numpy_whose_default_integer_has_64_bits() -> None:
    """With NumPy 1.26, `np.array([0])` has 32 bits there: graphs with such constants did not stream."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    numpy = [Requirement(line) for line in project["dependencies"] if line.startswith("numpy")]
    for system, versions in (("win32", {"2.0.0"}), ("linux", {"1.26.4", "2.0.0"})):
        (needed,) = (r for r in numpy if r.marker is None or r.marker.evaluate({"sys_platform": system}))
        assert {v for v in ("1.25.0", "1.26.4", "2.0.0") if v in needed.specifier} == versions


def test_the_workflow_builds_wheels_for_every_system_with_the_stable_abi() -> None:
    workflow = (ROOT / ".github" / "workflows" / "wheels.yml").read_text()
    for machine in ("ubuntu-latest", "ubuntu-24.04-arm", "macos-latest", "macos-15-intel", "windows-latest"):
        assert machine in workflow
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["scikit-build"]["wheel"]["py-api"] == "cp312"
    built = settings["cibuildwheel"]
    assert "skip" not in built and "cp312-*" in built["build"] and "check_wheel.py" in built["test-command"]


def test_reference_pages_of_docstrings_tell_where_their_text_is() -> None:
    for path in (ROOT / "docs" / "reference").glob("*.md"):
        text = path.read_text()
        assert "\n::: " not in text or "`make docs-serve` shows them here" in text, path.name
