"""Read torch's descriptions of nested tuples, lists and dicts as templates."""

import json
from collections.abc import Iterator
from typing import Any

from ...errors import FileError

MAX_DEPTH, MAX_LEAVES = 32, 10_000
TUPLES = ("builtins.tuple", "torch.Size", "torch.return_types")
DICTS = ("builtins.dict", "collections.OrderedDict", "collections.defaultdict")


def template(text: str, leaves: Iterator[Any]) -> Any:
    """Return the structure that a JSON description holds, with the next leaves in it. Raises FileError."""
    try:
        _, tree = json.loads(text)
        return _Builder(leaves).build(tree, 0)
    except (ValueError, TypeError, KeyError, RecursionError, StopIteration, RuntimeError) as error:
        raise FileError(f"the structure of the inputs or outputs is damaged: {error}") from error


class _Builder:
    def __init__(self, leaves: Iterator[Any]) -> None:
        self.leaves, self.count = leaves, 0

    def build(self, tree: Any, depth: int) -> Any:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_LEAVES:
            raise ValueError(f"it is deeper than {MAX_DEPTH} or has more than {MAX_LEAVES} nodes")
        kind = tree["type"]
        if kind is None:
            return next(self.leaves)
        context = json.loads(tree["context"]) if tree["context"] else None
        children = [self.build(child, depth + 1) for child in tree["children_spec"]]
        if kind.startswith(DICTS):
            keys: Any = context
            while kind != DICTS[0] and len(keys) == 2 and isinstance(keys[1], list):
                keys = keys[1]  # a defaultdict lists them after its factory
            return {_key(key): child for key, child in zip(keys, children, strict=True)}
        if kind == "builtins.list" or kind == "collections.deque":
            return children
        if kind.startswith(TUPLES) or "namedtuple" in kind:
            return tuple(children)
        raise ValueError(f"it has a {kind!r}, and Onward supports tuples, lists and dicts")


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bool):
        raise ValueError(f"the key {key!r} is neither a string nor a number")
    return key
