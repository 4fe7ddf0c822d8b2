"""Optional dependencies: how to install the extra that a feature needs."""


def install_hint(extra: str) -> str:
    """The command that installs an extra, from an index and from a checkout.

    >>> install_hint("plot")
    "pip install 'onward[plot]' (from a checkout: pip install '.[plot]')"
    """
    return f"pip install 'onward[{extra}]' (from a checkout: pip install '.[{extra}]')"
