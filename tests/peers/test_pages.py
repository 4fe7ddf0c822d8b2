"""The code blocks of PyTorch and Ray in the pages run, and Onward opens the files that they write."""

from pathlib import Path

import pytest
from support import pages


@pytest.mark.filterwarnings("ignore")  # raised by PyTorch's exporter and by Ray
@pytest.mark.parametrize("page", pages.pages_of("peers"), ids=lambda page: page.stem)
def test_page_with_code_of_another_framework(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(page, "tests", "peers")
