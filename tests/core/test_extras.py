"""Hints for missing extras."""

import re
import tomllib
from importlib import metadata

import pytest
from support import ROOT

from onward.core.extras import install_hint


def test_hint_names_the_packages_so_that_it_works_for_a_checkout_a_wheel_and_an_index() -> None:
    """The name onward[onnx] installed a package of that name from an index, if there was one."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for extra in ("cli", "onnx", "parquet", "plot", "sklearn"):
        names = [package.partition(">")[0] for package in extras[extra]]
        words = install_hint(extra).removeprefix("pip install ").split("' '")
        assert [word.strip("'").partition(">")[0] for word in words] == names
    assert install_hint("serve").startswith("pip install 'click>=") and "'uvicorn>=" in install_hint("serve")


def test_without_metadata_the_hint_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert install_hint("plot") == "pip install 'onward[plot]'"


def test_no_error_spells_out_its_own_install_command() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        raised = re.findall(r"""raise [^\n]*pip install""", path.read_text(encoding="utf-8"))
        assert not raised, f"{path.name}: use core.extras.install_hint"
