"""Parse Python's syntax in one thread at a time."""

import ast
import os
import threading

# Python counts the depth of syntax trees for all threads together: if it switches threads while it makes a
# tree, that of another thread makes it raise SystemError.
PARSING = threading.RLock()
if hasattr(os, "register_at_fork"):  # a forked child has no thread that would release the lock
    os.register_at_fork(
        before=PARSING.acquire, after_in_parent=PARSING.release, after_in_child=PARSING.release
    )


def parse(source: str) -> list[ast.stmt]:
    """Return the statements of a program. Raises SyntaxError, ValueError, RecursionError and MemoryError."""
    with PARSING:
        return ast.parse(source).body


def parse_expression(source: str) -> ast.expr:
    """Return an expression. Raises SyntaxError, ValueError, RecursionError and MemoryError."""
    with PARSING:
        return ast.parse(source, mode="eval").body
