"""The code blocks of PyTorch in the documentation run, and Onward opens the files that they write."""

from pathlib import Path

import pytest
from support import pages

WITH_FRAMEWORKS = [page for page in pages.PAGES if any(map(pages.needs_framework, pages.blocks(page)))]


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter warns
@pytest.mark.parametrize("page", WITH_FRAMEWORKS, ids=lambda page: page.stem)
def test_page_with_code_of_another_framework(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pages.run(page, with_frameworks=True) >= 4
