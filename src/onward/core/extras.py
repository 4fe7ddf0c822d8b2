"""Optional dependencies: how to install what a feature needs."""

import re


def install_hint(extra: str) -> str:
    """The command that installs the packages of an extra, however Onward was installed.

    >>> install_hint("plot")
    "pip install 'matplotlib>=3.8' (the extra plot)"
    """
    packages = " ".join(f"'{package}'" for package in _packages(extra))
    return f"pip install {packages} (the extra {extra})" if packages else f"pip install 'onward[{extra}]'"


def _packages(extra: str) -> list[str]:
    """The requirements of an extra by the metadata of Onward; empty in a program without metadata."""
    from importlib import metadata  # slow to import, and only errors need it

    try:
        required = metadata.requires("onward") or []
    except metadata.PackageNotFoundError:
        return []
    found: list[str] = []
    for line in required:
        package, _, condition = line.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", condition):
            inner = re.fullmatch(r"onward\[(\w+)\]", package.strip())
            found += _packages(inner[1]) if inner else [package.strip()]
    return found
