"""Random TorchScript methods take and return nested containers, strings and None as in PyTorch."""

import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated
METHODS, CALLS = 12, 8
LEAVES = ("Tensor", "Tensor", "Tensor", "Tensor", "int", "float", "bool", "str")
KEYS = {"str": ("a", "b", "x", "A.b"), "int": (0, 1, 5, -2)}
Kind = Any  # a name, or a tuple of a name and the kinds of its arguments
HEADER = """from typing import Dict, List, Optional, Tuple
import torch
from torch import Tensor, nn

class Method(nn.Module):
    def forward(self, {parameters}) -> {result}:
        total = torch.zeros(3)
"""


def spelled(kind: Kind) -> str:
    """Return a type as Python spells it."""
    return kind if isinstance(kind, str) else f"{kind[0]}[{', '.join(map(spelled, kind[1:]))}]"


class Method:
    """The source of a method that reads all parts of its arguments."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.lines: list[str] = []
        self.kinds = [self.kind() for _ in range(self.random.randint(1, 4))]
        result = self.kind()
        sources = [(kind, f"x{i}") for i, kind in enumerate(self.kinds)]
        for kind, name in sources:
            self.use(kind, name, 2)
        self.write(2, f"return {self.make(result, 2, sources)}")
        parameters = ", ".join(f"{name}: {spelled(kind)}" for kind, name in sources)
        self.source = HEADER.format(parameters=parameters, result=spelled(result)) + "\n".join(self.lines)

    def kind(self, depth: int = 0) -> Kind:
        """Return a random type."""
        outer = self.random.choice(["", "", "List", "Dict", "Tuple", "Optional"])
        if depth == 3 or not outer:
            return self.random.choice(LEAVES)
        inner = self.kind(depth + 1)
        if outer == "Optional" and inner[0] == "Optional":
            return inner
        if outer == "Dict":
            return outer, self.random.choice([*KEYS]), inner
        return (
            outer,
            inner,
            *(self.kind(depth + 1) for _ in range(self.random.randint(0, 2)) if outer == "Tuple"),
        )

    def write(self, level: int, line: str) -> None:
        self.lines.append("    " * level + line)

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def use(self, kind: Kind, value: str, level: int) -> None:
        """Add a value to the total."""
        factor, name = round(self.random.uniform(-2, 2), 2), self.name()
        match kind:
            case "Tensor":
                self.write(level, f"total = total * {factor} + {value}.sum(0)")
            case "int" | "float":
                self.write(level, f"total = total + {factor} * {value}")
            case "bool" | "str":
                self.write(level, f"if {value}:" if kind == "bool" else f"if {value} == 'a':")
                self.write(level + 1, f"total = total - {factor}")
            case "List", inner:
                self.write(level, f"for {name} in {value}:")
                self.use(inner, name, level + 1)
            case "Dict", _, inner:
                self.write(level, f"for {name}, {name}_value in {value}.items():")
                self.use(inner, f"{name}_value", level + 1)
            case "Tuple", *parts:
                for i, part in enumerate(parts):
                    self.use(part, f"{value}[{i}]", level)
            case "Optional", inner:
                self.write(level, f"{name} = {value}")
                self.write(level, f"if {name} is not None:")
                self.use(inner, name, level + 1)
                self.write(level, f"else:\n{'    ' * (level + 1)}total = total - {factor}")

    def make(self, kind: Kind, level: int, sources: list[tuple[Kind, str]]) -> str:
        """Write what makes a value of a type, and return the expression for it."""
        same = [value for other, value in sources if other == kind]
        if same and self.random.random() < 0.5:
            return self.random.choice(same)
        literals = {"Tensor": "(total * 0.7)", "int": "-3", "float": "0.3", "bool": "True", "str": "'a'"}
        if isinstance(kind, str):
            return literals[kind]
        if kind[0] == "Tuple":
            return f"({', '.join(self.make(part, level, sources) for part in kind[1:])},)"
        name = self.name()
        if kind[0] == "Optional":
            self.write(level, f"{name}: {spelled(kind)} = None")
            optional = [f"{value} is not None" for other, value in sources if other[0] == "Optional"]
            self.write(level, f"if {self.random.choice([*optional, 'True'])}:")
            self.write(level + 1, f"{name} = {self.make(kind[1], level + 1, sources)}")
            return name
        is_list = kind[0] == "List"
        self.write(level, f"{name}: {spelled(kind)} = {'[]' if is_list else '{}'}")
        alike = [(other, value) for other, value in sources if other[:-1] == kind[:-1]]
        place = f"{name}_i"
        if alike:
            other, value = self.random.choice(alike)
            self.write(level, f"for {place} in {value}:")
            sources, level = [*sources, (other[-1], place if is_list else f"{value}[{place}]")], level + 1
        else:
            self.write(level, f"{place} = {KEYS[kind[1]][1]!r}" if not is_list else "pass")
        made = self.make(kind[-1], level, sources)
        self.write(level, f"{name}.append({made})" if is_list else f"{name}[{place}] = {made}")
        return name


def argument(kind: Kind, rng: np.random.Generator) -> Any:
    """Return a random value of a type."""
    match kind:
        case "Tensor":
            return rng.standard_normal((int(rng.integers(4)), 3)).astype(np.float32)
        case "int":
            return int(rng.integers(-3, 4))
        case "float":
            return float(rng.integers(-8, 9)) / 4
        case "bool":
            return bool(rng.integers(2))
        case "str":
            return "ab"[rng.integers(2)]
        case "List", inner:
            return [argument(inner, rng) for _ in range(rng.integers(4))]
        case "Dict", keys, inner:
            chosen = rng.permutation(len(KEYS[keys]))[: rng.integers(4)]
            return {KEYS[keys][i]: argument(inner, rng) for i in chosen}
        case "Tuple", *parts:
            return tuple(argument(part, rng) for part in parts)
    return None if rng.random() < 0.4 else argument(kind[1], rng)


def tensors(value: Any) -> Any:
    """Return nested containers with tensors instead of arrays."""
    if isinstance(value, dict):
        return {key: tensors(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(tensors, value))
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def check(actual: Any, expected: Any) -> None:
    """Compare nested containers and their kinds, keys in order, strings and None."""
    if isinstance(expected, dict | list | tuple):
        assert type(actual) is type(expected)
        assert len(actual) == len(expected)
        if isinstance(expected, dict):
            assert [*actual] == [*expected]
            actual, expected = actual.values(), expected.values()
        for pair in zip(actual, expected, strict=True):
            check(*pair)
    elif expected is None or isinstance(expected, str):
        assert actual == expected
    else:
        exact = expected.numpy() if isinstance(expected, Tensor) else np.asarray(expected)
        assert np.shape(actual) == exact.shape
        np.testing.assert_allclose(actual, exact, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("group", range(6))
def test_containers_strings_and_none_are_those_of_pytorch(group: int, tmp_path: Path) -> None:
    for seed in range(group * METHODS, (group + 1) * METHODS):
        method, rng = Method(seed), np.random.default_rng(seed)
        path = tmp_path / f"method_{seed}.py"
        path.write_text(method.source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        scripted = torch.jit.script(module.Method().eval())
        scripted.save(tmp_path / "method.pt")
        model = onward.load(tmp_path / "method.pt")
        for _ in range(CALLS):
            arguments = [argument(kind, rng) for kind in method.kinds]
            check(model(*arguments), scripted(*map(tensors, arguments)))
