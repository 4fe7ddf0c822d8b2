"""Hints for missing extras."""

import re

from support import ROOT

from onward.core.extras import install_hint


def test_hint_works_from_an_index_and_from_a_checkout() -> None:
    assert install_hint("onnx") == "pip install 'onward[onnx]' (from a checkout: pip install '.[onnx]')"


def test_no_error_spells_out_its_own_install_command() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        raised = re.findall(r"""raise [^\n]*pip install""", path.read_text())
        assert not raised, f"{path.name}: use core.extras.install_hint"
