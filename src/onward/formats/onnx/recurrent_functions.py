"""The equations of recurrent layers that no operator of ONNX expresses, as functions of operators.

These are quantized layers, projections, and activation functions that the recurrent operators do not have.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...core.activations import Spec, call
from ...core.cell import Cell

# functions of x by the core's name; the numbers a and b are alpha and beta as literals of the cell's dtype
FORMULAS = {
    "affine": "Add(Mul({a}, {x}), {b})",
    "elu": "Mul({b}, Elu({x}, alpha={alpha}))",
    "exponential": "Exp({x})",
    "gelu": "Gelu({x})",
    "hard_sigmoid": "HardSigmoid({x}, alpha={alpha}, beta={beta})",
    "hard_swish": "HardSwish({x})",
    "leaky_relu": "LeakyRelu({x}, alpha={alpha})",
    "mish": "Mish({x})",
    "relu": "Relu({x})",
    "relu6": "Min(Relu({x}), {real}(6))",
    "scaled_tanh": "Mul({a}, Tanh(Mul({b}, {x})))",
    "sigmoid": "Sigmoid({x})",
    "silu": "silu({x})",
    "softplus": "Softplus({x})",
    "softsign": "Softsign({x})",
    "tanh": "Tanh({x})",
    "thresholded_relu": "ThresholdedRelu({x}, alpha={alpha})",
}

# x (T, B, I), lengths (B,), the states (1, B, units) and the weights of a cell of one direction to
# y (T, 1, B, P) and the final states. Past a row's length, the state does not change and y is 0.
FUNCTION = """
def function(x, lengths, {initial}, {weights}):
    {prepared}
    sums = {sums}
    times = Cast(Range(0, Gather(Shape(x), 0), 1), to=6)
    rows = Unsqueeze(lengths, [1])

    def steps({before}, sum, t):
        {step}
        valid = Less(t, rows)
        return {after}, Where(valid, h, {real}(0))

    {final}, y = Scan(
        {squeezed}, sums, times, body=steps, num_scan_inputs=2,
        scan_input_directions=[{way}, {way}], scan_output_directions=[{way}],
    )
    return Unsqueeze(y, [1]), {unsqueezed}
"""


def equations(cell: Cell, reverse: bool) -> str:
    """Return the definition of a function that runs a cell of one direction, under the name `function`."""
    states, writer = cell.state_names, _Equations(cell)
    step = "\n        ".join(writer.step())
    return FUNCTION.format(
        real=writer.real,
        way=int(reverse),
        initial=", ".join(f"{state}0" for state in states),
        weights=", ".join(cell.weights),
        sums=writer.sums(),
        prepared="\n    ".join(writer.prepared),
        before=", ".join(f"{state}_before" for state in states),
        step=step,
        after=", ".join(f"Where(valid, {state}, {state}_before)" for state in states),
        squeezed=", ".join(f"Squeeze({state}0, [0])" for state in states),
        final=", ".join(f"{state}_last" for state in states),
        unsqueezed=", ".join(f"Unsqueeze({state}_last, [0])" for state in states),
    )


class _Equations:
    """The equations of one step, and in `prepared` those before the first step."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.real, self.H = cell, cell.dtype.name, cell.hidden_size
        self.functions, self.prepared = cell.functions()[0], list[str]()
        for name, weight in cell.weights.items():
            if weight.ndim == 2:
                self._prepare(name)

    def _prepare(self, name: str) -> None:
        """Transpose a matrix for products with rows."""
        own, columns = name.removesuffix("_l0"), f"Transpose({name}, perm=[1, 0])"
        match self.cell.precision:
            case "int8":
                self.prepared += [f"{own} = unsigned({columns})", f"{own}_scale = Identity({name}_scale)"]
            case "float16":
                self.prepared.append(f"{own} = Cast({columns}, to=1)")
            case _:
                self.prepared.append(f"{own} = {columns}")

    def sums(self) -> str:
        """Return W x plus all biases that do not depend on a gate."""
        sums = self._product("x", "weight_ih")
        if not self.cell.bias:
            return sums
        is_gated = self.cell.kind == "GRU" and self.cell.reset_after
        return f"Add({sums}, {'bias_ih_l0' if is_gated else 'Add(bias_ih_l0, bias_hh_l0)'})"

    def step(self) -> Iterator[str]:
        """Yield the equations of the states, from those before the step and from `sum`."""
        match self.cell.kind:
            case "LSTM":
                yield from self._lstm()
            case "GRU":
                yield from self._gru()
            case _:
                yield f"h = {self._gate(self._sum('weight_hh'), self.functions[0])}"

    def _lstm(self) -> Iterator[str]:
        cell, (gate, candidate, output) = self.cell, self.functions
        if cell.peephole:
            self.prepared.append(self._split("p_i, p_f, p_o", "weight_peephole_l0"))

        def gated(a: str, c: str) -> str:
            """Return a gate, which sees the cell through its peephole."""
            return self._gate(f"Add({a}, Mul(p_{a}, {c}))" if cell.peephole else a, gate)

        yield self._split("i, f, g, o", self._sum("weight_hh"))
        yield f"input = {gated('i', 'c_before')}"
        yield f"forget = {f'Sub({self.real}(1), input)' if cell.coupled else gated('f', 'c_before')}"
        c = f"Add(Mul(forget, c_before), Mul(input, {self._gate('g', candidate)}))"
        yield f"c = {c if cell.cell_clip is None else self._clip(c, cell.cell_clip)}"
        yield f"hidden = Mul({gated('o', 'c')}, {self._activated('c', output)})"
        yield f"h = {self._product('hidden', 'weight_hr') if cell.proj_size else 'Identity(hidden)'}"

    def _gru(self) -> Iterator[str]:
        gate, candidate = self.functions
        if self.cell.reset_after:
            product = self._product("h_before", "weight_hh")
            yield self._split("x_r, x_z, x_n", "sum")
            yield self._split("h_r, h_z, h_n", f"Add({product}, bias_hh_l0)" if self.cell.bias else product)
            yield f"r = {self._gate('Add(x_r, h_r)', gate)}"
            yield f"z = {self._gate('Add(x_z, h_z)', gate)}"
            yield f"n = {self._gate('Add(x_n, Mul(r, h_n))', candidate)}"
        else:
            parts = {"weight_hh": 1} | ({"weight_hh_scale": 0} if self.cell.precision == "int8" else {})
            for name, axis in parts.items():
                names = (name.replace("hh", part) for part in ("gates", "candidate"))
                self.prepared.append(
                    f"{', '.join(names)} = Split({name}, {[2 * self.H, self.H]}, axis={axis})"
                )
            yield f"sum_gates, sum_n = Split(sum, {[2 * self.H, self.H]}, axis=-1)"
            yield self._split("a_r, a_z", self._sum("weight_gates", "sum_gates"))
            yield f"r = {self._gate('a_r', gate)}"
            yield f"z = {self._gate('a_z', gate)}"
            yield "reset = Mul(r, h_before)"
            yield f"n = {self._gate(self._sum('weight_candidate', 'sum_n', 'reset'), candidate)}"
        yield f"h = Add(Mul(Sub({self.real}(1), z), n), Mul(z, h_before))"

    def _product(self, x: str, name: str) -> str:
        if self.cell.precision == "int8":
            return f"quantized_product({x}, {name}, {name}_scale)"
        return f"MatMul({x}, {name})"

    def _sum(self, name: str, first: str = "sum", h: str = "h_before") -> str:
        return f"Add({first}, {self._product(h, name)})"

    def _split(self, names: str, x: str) -> str:
        return f"{names} = Split({x}, {[self.H] * len(names.split(', '))}, axis=-1)"

    def _activated(self, x: str, function: Spec) -> str:
        name, alpha, beta = call(function)
        a, b = f"{self.real}({alpha})", f"{self.real}({beta})"
        return FORMULAS[name].format(x=x, alpha=alpha, beta=beta, a=a, b=b, real=self.real)

    def _gate(self, argument: str, function: Spec) -> str:
        """Return the activation of an argument, clipped if the cell clips."""
        if self.cell.clip is not None:
            argument = self._clip(argument, self.cell.clip)
        return self._activated(argument, function)

    def _clip(self, x: str, limit: float) -> str:
        return f"Clip({x}, {self.real}({-limit}), {self.real}({limit}))"
