"""Random modules for torch.jit.script: control flow, containers, states and writes in place, from a seed."""

import importlib.util
import linecache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .script_templates import CLASS, CONDITIONS, EXPRESSIONS, HEADER, WRITES


class Writer:
    """Writes the statements of a function; `names` are the variables (B, C), x is (T, B, C) and y (B, C)."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.depth = 2
        self.names = ["y"]
        self.number = 0
        self.in_loop = False
        self.has_optional = self.chance(0.3)
        self.has_states = self.chance(0.2)

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def pick(self, values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def new(self) -> str:
        self.number += 1
        return f"v{self.number}"

    def say(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def name(self) -> str:
        return str(self.pick(self.names))

    def expression(self, depth: int = 2) -> str:
        """Return an expression (B, C)."""
        if depth == 0:
            return self.name()
        return self.choice(EXPRESSIONS, self.expression(depth - 1), self.name())

    def choice(self, templates: str, a: str, b: str = "") -> str:
        """Return one of the templates with its fields filled in."""
        chosen: str = self.pick([each.strip() for each in templates.strip().replace("\n", ";").split(";")])
        c = self.condition() if "{c}" in chosen else ""
        return chosen.format(a=a, b=b, c=c, k=int(self.random.integers(3)))

    def condition(self) -> str:
        return self.choice(CONDITIONS, self.name())

    def block(self, count: int, budget: int) -> None:
        """Write some statements one level deeper; the variables that they create end with it."""
        before = list(self.names)
        self.depth += 1
        start = len(self.lines)
        for _ in range(count):
            self.statement(budget - 1)
        if len(self.lines) == start:
            self.say("pass")
        self.depth -= 1
        self.names = before

    def statement(self, budget: int) -> None:
        simple = [
            self.assign,
            self.assign,
            self.in_place,
            self.check,
            self.container,
            self.states,
            self.attribute,
        ]
        nested = [self.branch, self.loop, self.steps, self.rounds, self.modules, self.search]
        self.pick(simple if budget <= 0 else [*simple, *nested])(budget)

    # statements

    def assign(self, budget: int) -> None:
        if self.chance(0.4) and len(self.names) > 1:
            self.say(f"{self.pick(self.names[1:])} = {self.expression()}")
        else:
            name = self.new()
            self.say(f"{name} = {self.expression()}")
            self.names.append(name)

    def in_place(self, budget: int) -> None:
        name, e = self.new(), self.name()
        self.say(f"{name} = ({self.expression(1)}).clone()")
        self.names.append(name)
        for _ in range(int(self.random.integers(1, 3))):
            self.say(self.choice(WRITES, name, e))

    def check(self, budget: int) -> None:
        a = self.name()
        self.pick(
            [
                lambda: self.say(f'assert {a}.dim() == 2, f"got {{{a}.dim()}} axes"'),
                lambda: self.say(f"assert {a}.size(1) == 3"),
                lambda: (
                    self.say(f"if {a}.size(-1) != 3:"),
                    self.say(f'    raise ValueError(f"expected 3 channels, got {{{a}.shape}}")'),
                ),
                lambda: (
                    self.say("if self.kind == 'z':"),
                    self.say('    raise RuntimeError("unknown kind {}".format(self.kind))'),
                ),
                lambda: (
                    self.say(f"if bool(torch.isnan({a}).any()):"),
                    self.say('    raise ValueError("not a number")'),
                ),
            ]
        )()

    def container(self, budget: int) -> None:
        """Write something with a list, a dict, a tuple or a named tuple, and a variable that it gives."""
        box, name = self.new(), self.new()
        a, b, c = (self.expression(1) for _ in range(3))
        kind = self.pick(["list", "dict", "tuple", "named", "ints", "comprehension", "nested", "keys"])
        if kind == "list":
            self.say(f"{box}: List[Tensor] = [{a}, {b}]")
            self.say(f"{box}.append({c})")
            for _ in range(int(self.random.integers(0, 3))):
                self.say(
                    self.pick(
                        [
                            f"{box}[1] = {self.expression(1)}", f"{box}.insert(0, {self.expression(1)})",
                            f"{box}.reverse()", f"{box} += [{self.expression(1)}]", f"{box}.extend({box})",
                            f"{box}[0].add_(1)", f"{box} = {box}[1:] + {box}[:1]",
                        ]
                    )
                )  # fmt: skip
            self.say(f"{name} = " + self.pick([
                f"torch.stack({box}).mean(0)", f"torch.cat({box}, 1)[:, -3:]", f"{box}[-1] * len({box})",
                f"{box}.pop(0) + {box}[0]", f"torch.stack({box}[1:], 1).sum(1)",
            ]))  # fmt: skip
        elif kind == "dict":
            self.say(f"{box}: Dict[str, Tensor] = {{'a': {a}, 'b': {b}}}")
            self.say(f"{box}['c'] = {c}")
            self.say(f"if 'a' in {box}:")
            self.say(f"    {box}['a'] = {box}['a'] * 2")
            self.say(f"{name} = {box}['c']")
            self.say(f"for key, value in {box}.items():")
            self.say(f"    {name} = {name} + (value if key != 'b' else -value)")
        elif kind == "tuple":
            self.say(f"{box} = ({a}, {b})")
            self.say(f"left, right = {box}")
            self.say(f"{name} = left - right * {box}[0]")
        elif kind == "named":
            self.say(f"{box} = Pair(left={a}, right={b})")
            self.say(f"{name} = {box}.left * {box}.right + {box}[1]")
        elif kind == "ints":
            self.say(f"{box} = [x.size(0), {self.name()}.size(1), self.N]")
            self.say(self.pick([f"{box}.sort()", f"{box}.sort(True)", f"{box} = sorted({box})", "pass"]))
            self.say(f"{name} = {a} * sum({box}) / max({box}) + min({box}[0], 4)")
        elif kind == "comprehension":
            self.say(f"{box} = [torch.tanh(each) for each in [{a}, {b}]]")
            self.say(f"{name} = torch.cat([each[:, :1] for each in {box}] + [{box}[0][:, 2:]], dim=1)")
        elif kind == "nested":
            self.say(f"{box}: List[Tuple[Tensor, Tensor]] = []")
            self.say(f"{box}.append(({a}, {b}))")
            self.say(f"{box}.append(({b}, {c}))")
            self.say(f"{name} = {box}[0][1]")
            self.say(f"for one, other in {box}:")
            self.say(f"    {name} = {name} * 0.5 + one * other")
        else:
            self.say(f"{box}: Dict[int, Tensor] = {{}}")
            self.say("for i in range(self.N):")
            self.say(f"    {box}[i] = {a} * (i + 1)")
            self.say(f"{name} = torch.stack(list({box}.values())).sum(0) + len({box})")
        self.names.append(name)

    def states(self, budget: int) -> None:
        """Write a list of states that a loop over its layers changes."""
        box, name = self.new(), self.new()
        self.say(f"{box} = [{self.expression(1)}, {self.expression(1)}]")
        self.say(f"{name} = {self.expression(1)}")
        self.say("for i in range(2):")
        self.say(f"    {box}[i] = self.cell({name}, {box}[i])")
        self.say(f"    {name} = {box}[i]")
        self.names.append(name)

    def attribute(self, budget: int) -> None:
        if not self.has_states or self.depth > 2:
            return self.assign(budget)
        a = self.name()
        self.pick(
            [
                lambda: self.say("self.count += 1"),
                lambda: self.say(f"self.total = self.total * 0.5 + {a}.mean(0)"),
                lambda: self.say(f"self.total.add_({a}.mean(0))"),
                lambda: self.say("self.total.mul_(0.5)"),
            ]
        )()
        name = self.new()
        self.say(f"{name} = {a} + self.total * self.count")
        self.names.append(name)
        return None

    def branch(self, budget: int) -> None:
        name = self.new()
        if self.chance(0.5):
            self.say(f"{name} = {self.expression(1)}")
            self.names.append(name)
        changed = [n for n in self.names if n != "y"] or [name]
        target = self.pick(changed) if name not in self.names else name
        self.say(f"if {self.condition()}:")
        self.block(int(self.random.integers(0, 3)), budget)
        self.say(f"    {target} = {self.expression(1)}")
        if self.chance(0.3):
            self.say(f"elif {self.condition()}:")
            self.block(1, budget)
            self.say(f"    {target} = {self.expression(1)}")
        if target not in self.names or self.chance(0.6):
            self.say("else:")
            self.block(int(self.random.integers(0, 2)), budget)
            self.say(f"    {target} = {self.expression(1)}")
        if target not in self.names:
            self.names.append(target)

    def loop(self, budget: int) -> None:
        """Write a loop whose number of iterations is fixed."""
        target = self.new()
        self.say(f"{target} = {self.expression(1)}")
        self.names.append(target)
        i = f"i{self.number}"
        head = self.pick(
            ["range(self.N)", "range(3)", "range(1, 4)", "range(4, 0, -2)", "self.sizes", "[2, 1]"]
        )
        self.say(f"for {i} in {head}:")
        if self.chance(0.3):
            self.say(f"    if {i} == 1:")
            self.say("        continue" if self.chance(0.5) else "        break")
        if self.chance(0.2):
            self.say(f"    if {self.condition()}:")
            self.say("        break")
        self.block(int(self.random.integers(0, 2)), budget)
        self.say(f"    {target} = {self.expression(1)} + {target} * {i} * 0.1")

    def steps(self, budget: int) -> None:
        """Write a loop over the steps of x, with a state, and perhaps a list of outputs."""
        h, step, outs = self.new(), self.new(), self.new()
        start = self.pick([f"{self.expression(1)}", "torch.zeros(x.size(1), 3)", "torch.zeros_like(x[0])"])
        self.say(f"{h} = {start}")
        form = self.pick(["range", "backwards", "enumerate", "each", "unbind", "zip", "while", "from 1"])
        collects = self.pick(["", "append", "append", "insert", "add", "write", "concat"])
        if collects == "write":
            self.say(f"{outs} = torch.zeros(x.size(0), x.size(1), 3)")
        elif collects == "concat":
            self.say(f"{outs} = x[:1] * 0.5")
        elif collects:
            is_short = form == "from 1" or self.chance(0.3)
            self.say(f"{outs}: List[Tensor] = [{self.name() if is_short else ''}]")
        t = f"t{self.number}"
        if form == "while":
            self.say(f"{t} = 0")
        self.say(
            {
                "range": f"for {t} in range(x.size(0)):",
                "backwards": f"for {t} in range(x.size(0) - 1, -1, -1):",
                "enumerate": f"for {t}, {step} in enumerate(x):",
                "each": f"for {step} in x:",
                "unbind": f"for {t}, {step} in enumerate(x.unbind(0)):",
                "zip": f"for {step}, other in zip(x, x.flip(0).unbind(0)):",
                "while": f"while {t} < x.shape[0]:",
                "from 1": f"for {t} in range(1, x.size(0)):",
            }[form]
        )
        counts = form not in ("each", "zip")
        if form in ("range", "backwards", "while", "from 1"):
            self.say(f"    {step} = x[{t}]")
        if form == "while":
            self.say(f"    {t} += 1")
        if form == "zip":
            self.say(f"    {step} = {step} - other * 0.3")
        before = list(self.names)
        self.names += [h, step]
        if counts and self.chance(0.2):
            self.say(f"    if {t} == 2:")
            self.say(
                f"        {self.pick(['continue', 'break'])}"
                if collects != "write"
                else f"        {h} = {h} * 2"
            )
        if self.chance(0.15):
            self.say(f"    if {self.condition()}:")
            self.say("        break")
        self.block(int(self.random.integers(0, 2)), min(budget, 1))
        update = [f"self.cell({step}, {h})", f"torch.tanh({step} + {h})", f"{h} * 0.5 + {self.expression(1)}"]
        if counts:
            update.append(f"torch.tanh({h} + {step} * ({t} + 1))")
        self.say(f"    {h} = {self.pick(update)}")
        element = self.pick([h, f"{h} * 2", f"self.linear({h})"])
        if collects == "append":
            self.say(f"    {outs}.append({element})")
        elif collects == "insert":
            self.say(f"    {outs}.insert(0, {element})")
        elif collects == "add":
            self.say(
                f"    {outs} += [{element}]" if self.chance(0.5) else f"    {outs} = {outs} + [{element}]"
            )
        elif collects == "write":
            place = t if form not in ("each", "zip", "while") else "-1"
            self.say(f"    {outs}[{place}] = {element}")
        elif collects == "concat":
            self.say(f"    {outs} = torch.cat([{outs}, ({element}).unsqueeze(0)])")
        self.names = [*before, h]
        if collects in ("write", "concat"):
            name = self.new()
            self.say(
                f"{name} = " + self.pick([f"{outs}.sum(0)", f"{outs}[-1]", f"{outs}[0] + {outs}.mean(0)"])
            )
            self.names.append(name)
        elif collects:
            name = self.new()
            if self.chance(0.2):
                self.say(self.pick([f"{outs}.reverse()", f"{outs} = {outs}[::-1]", f"{outs}.append({h})"]))
            self.say(
                f"{name} = "
                + self.pick(
                    [
                        f"torch.stack({outs}).sum(0)", f"torch.stack({outs}, 1)[:, -1]", f"{outs}[-1]",
                        f"torch.cat({outs}, dim=1)[:, :3]", f"torch.stack({outs}, dim=-1).mean(-1)",
                        f"torch.cat({outs}).view(len({outs}), x.size(1), 3).mean(0)",
                        f"{outs}[0] * len({outs})",
                    ]
                )
            )  # fmt: skip
            self.names.append(name)

    def rounds(self, budget: int) -> None:
        """Write a while loop that ends after a bounded number of rounds."""
        v, n = self.new(), f"n{self.number}"
        self.say(f"{v} = {self.expression(1)}")
        self.say(f"{n} = 0")
        self.names.append(v)
        test = self.pick(
            [
                f"{n} < 3", f"{n} < x.size(0)", f"float({v}.abs().sum()) > 0.7 and {n} < 4",
                f"{n} < self.N and not bool(({v} > 1.3).any())", f"{n} * 2 < x.size(0) + 1",
            ]
        )  # fmt: skip
        self.say(f"while {test}:")
        self.block(int(self.random.integers(0, 2)), budget)
        self.say(f"    {v} = {v} * 0.6" + self.pick(["", f" + {n} * 0.1", f" - {self.name()} * 0.1"]))
        self.say(f"    {n} += {self.pick([1, 1, 2])}")
        if self.chance(0.3):
            name = self.new()
            self.say(f"{name} = {v} * {n} + x[min({n}, x.size(0)) - 1]")
            self.names.append(name)

    def modules(self, budget: int) -> None:
        v = self.new()
        self.say(f"{v} = {self.expression(1)}")
        self.names.append(v)
        if self.chance(0.5):
            self.say("for layer in self.layers:")
            self.say(f"    {v} = layer({v})")
        else:
            self.say("for place, layer in enumerate(self.layers):")
            self.say(f"    if place != {int(self.random.integers(3))}:")
            self.say(f"        {v} = layer({v}) * (place + 1)")

    def search(self, budget: int) -> None:
        """Write a loop that stops at a step that depends on values."""
        v, best = self.new(), f"best{self.number}"
        self.say(f"{v} = {self.expression(1)}")
        self.say(f"{best} = 0.0")
        self.say("for step in range(x.size(0)):")
        self.say("    value = float(x[step].sum())")
        self.say(f"    if value > {best}:")
        self.say(f"        {best} = value")
        self.say(f"        {v} = x[step]" + self.pick(["", f" * {best}", " * step"]))
        if self.chance(0.3):
            self.say("    elif value < -2.0:")
            self.say("        break")
        self.names.append(v)


def source(seed: int) -> str:
    """Return the code of the class M{seed}."""
    w = Writer(seed)
    parameters = ""
    if w.has_optional:
        parameters = ", mask: Optional[Tensor] = None"
        w.say("if mask is None:")
        w.say("    mask = torch.ones_like(y)")
        w.names.append("mask")
    count = int(w.random.integers(2, 5))
    for place in range(count):
        if place and w.chance(0.1):
            w.say(f"if {w.condition()}:")
            w.say("    return RETURN_EARLY")
        w.statement(2)
    results = list(dict.fromkeys([w.names[-1], w.name()]))
    form = w.pick(["one", "tuple", "dict", "named", "list"])
    a, b = results[0], results[-1]
    early = w.expression(1).replace("v", "y") if False else "y"
    returns, value, first = {
        "one": ("Tensor", a, early),
        "tuple": ("Tuple[Tensor, Tensor]", f"{a}, {b}", f"{early}, x[0]"),
        "dict": ("Dict[str, Tensor]", f"{{'a': {a}, 'b': {b}}}", f"{{'a': {early}, 'b': x[0]}}"),
        "named": ("Pair", f"Pair({a}, {b})", f"Pair({early}, x[0])"),
        "list": ("List[Tensor]", f"[{a}, {b}]", f"[{early}, x[0]]"),
    }[form]
    w.say(f"return {value}")
    body = "\n".join(w.lines).replace("RETURN_EARLY", first)
    return CLASS.format(
        seed=seed,
        n=int(w.random.integers(1, 4)),
        flag=w.chance(0.5),
        kind=w.pick("abc"),
        cell=w.pick(["GRUCell", "RNNCell"]),
        parameters=parameters,
        returns=returns,
        body=body,
    )


def define(seeds: range, folder: Path) -> ModuleType:
    """Return a Python module with the classes of some seeds."""
    path = folder / f"scripted_{seeds.start}.py"
    path.write_text(HEADER + "\n".join(map(source, seeds)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    linecache.checkcache(str(path))
    spec.loader.exec_module(module)
    return module
