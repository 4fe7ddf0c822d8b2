"""Random functions for TorchScript: writes into what shares memory, over branches, loops, lists and dicts."""

from typing import Any

import numpy as np
import torch

# All tensors are square, so that any view has the shape of any other. TorchScript leaves out some writes into
# what reshape and contiguous return: support/written_copies.py has them.
NEW = ["{a} + 1", "{a}.clone()", "{a} * {b}", "torch.stack([{a}[0], {b}[1], {a}[2]])", "{a}.t() * 2"]
VIEWS = ["{a}", "{a}.t()", "{a}[:]", "{a}.transpose(0, 1)", "{a}.view(3, 3)"]
PLACES = ["items[0]", "items[-1]", "more[0]", "more[-1]", 'cache["m"]', 'cache["n"]']
ELEMENTS = [
    "{a} = more[0]", "more.reverse()", "more = [{a}, c]", "more = items", "more[0].add_(1)",
    "more.append({a})", "items.reverse()", "items = more",
    '{a} = cache["m"]', 'cache = {{"m": {a}, "n": b}}', 'cache["m"].add_(1)',
]  # fmt: skip
WRITES = ["{a}.mul_(2)", "{a}[0] = {b}[1]", "{a}.t().add_(1)", "{a}[1:] += 1", "{a}[:, 0].mul_(2)"]


class Writer:
    """Writes the statements of a function of x (3, 3), whose tensors `names` are its results."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lines = ["a = x + 0", "b = x.t() * 2", "c = a", "items: List[Tensor] = [a]"]
        self.lines += ["more: List[Tensor] = [b, a]", 'cache: Dict[str, Tensor] = {"m": a, "n": b}']
        self.names = ["a", "b", "c"]
        self.depth = 0

    def pick(self, values: list[str]) -> str:
        return values[int(self.random.integers(len(values)))]

    def say(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def filled(self, templates: list[str]) -> str:
        return self.pick(templates).format(a=self.pick(self.names), b=self.pick(self.names))

    def block(self, head: str, count: int) -> None:
        """Write some statements one level deeper."""
        self.say(head)
        self.depth += 1
        for _ in range(count):
            self.statement()
        self.depth -= 1

    def statement(self) -> None:
        kind = int(self.random.integers(11 if self.depth < 2 else 9))
        if kind < 2:
            self.say(f"{self.pick(self.names)} = {self.filled(NEW)}")
        elif kind < 4:
            self.say(f"{self.pick(self.names)} = {self.filled(VIEWS)}")
        elif kind == 4:
            self.say(self.filled(WRITES))
        elif kind == 5:
            self.say(f"items.append({self.filled(VIEWS)})")
        elif kind == 6:
            place = self.pick(["0", "-1", "len(items) - 1"])
            self.say(f"{self.pick(self.names)} = items[{place}]")
        elif kind == 7:
            self.say(f"{self.pick(PLACES)} = {self.filled(VIEWS)}")
        elif kind == 8:
            name = self.pick(self.names)
            self.say(self.pick(ELEMENTS).format(a=name))
        elif kind == 9:
            count = int(self.random.integers(1, 4))
            self.block(f"if bool({self.pick(self.names)}.sum() > {count}):", count)
            if self.random.random() < 0.5:
                self.block("else:", count)
        else:
            self.block(f"for i{len(self.lines)} in range(n):", int(self.random.integers(1, 4)))


def source(seed: int) -> str:
    """Return the code of a method forward(x, n)."""
    writer = Writer(seed)
    for _ in range(int(writer.random.integers(3, 8))):
        writer.statement()
    results = 'a + 0, b + 0, c + 0, torch.stack(items), torch.stack(more), cache["m"] + cache["n"] * 2'
    return "\n    ".join(["def forward(self, x, n: int):", *writer.lines, f"return {results}\n"])


def function(seed: int) -> Any:
    """Return the method as a function of Python."""
    names: dict[str, Any] = {"torch": torch, "List": list, "Dict": dict, "Tensor": torch.Tensor}
    exec(source(seed), names)
    return names["forward"]
