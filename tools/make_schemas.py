"""Write the schemas of ATen's operators that Onward accepts, as PyTorch registers them.

Run it with PyTorch after an operator is added: `python tools/make_schemas.py`. The table has the overloads of
each name that take or return tensors, in the order in which PyTorch tries them, and those of the operator in
place if their arguments differ. " -> 2" follows an overload with two outputs. Lines such as `add_ = add` tell
which operator another one computes in place. Variants that write into an argument `out` are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from onward.formats.torch import exported_graph  # noqa: F401 - it registers the operators
from onward.formats.torch.aten.operators import ALIASES
from onward.formats.torch.aten.registry import OPERATORS, VIEWS

TABLE = Path(__file__).parents[1] / "src/onward/formats/torch/aten/schemas.txt"


def overloads(name: str) -> list[str]:
    """Return the schemas of the overloads of an operator that take or return tensors, or else of numbers."""
    of_tensors, of_numbers = list[str](), list[str]()
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}"):
        text = str(schema)
        is_accepted = f"{name}.{schema.overload_name or 'default'}" in OPERATORS
        is_unusable = re.search(r"Dimname|\.\.\.|hacked_twin|\.prim_", text) or any(
            each.is_out for each in schema.arguments
        )
        if is_unusable:
            continue
        parameters = re.sub(r"\((\w+ -> \*|\w+!?|\w+\|\w+)\)", "", text.rpartition(" -> ")[0])
        count = f" -> {len(schema.returns)}" if len(schema.returns) > 1 else ""
        line = parameters.removeprefix("aten::").replace("SymInt", "int") + count
        if "Tensor" in text.partition("(")[2]:
            of_tensors.append(line)
        elif is_accepted:
            of_numbers.append(line)
    return of_tensors or of_numbers


def without_name(lines: list[str]) -> list[str]:
    """Return schemas from the name of the overload on."""
    return [re.sub(r"^\w+", "", line) for line in lines]


def table() -> list[str]:
    """Return the lines of the table."""
    names = {key.rpartition(".")[0] for key in OPERATORS if key.count(".") == 1}
    names |= {*ALIASES} | {f"{key.rpartition('.')[0]}_copy" for key in VIEWS}
    lines = []
    for name in sorted(names):
        functional, in_place = overloads(name), overloads(f"{name}_")
        differs = not {*without_name(in_place)} <= {*without_name(functional)}
        lines += [*functional, *(in_place if differs else [])]
        schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}_")
        if any(each.arguments[0].alias_info and each.arguments[0].alias_info.is_write for each in schemas):
            lines.append(f"{name}_ = {name}")
    return lines


if __name__ == "__main__":
    TABLE.write_text("\n".join(table()) + "\n", encoding="utf-8")
