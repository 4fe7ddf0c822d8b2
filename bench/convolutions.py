"""Measure which share of the machine's limit narrow convolutions reach, beside square ones.

    python bench/convolutions.py

The shapes are those of EnCodec, HiFi-GAN, Conv-TasNet, Demucs, Silero and GTCRN. Each is a graph of one
node, called on one thread with channels in front, as in PyTorch, or with the channels of x last, as the
products of other convolutions leave them. The time is the least processor time of a call.

The limit is the largest of three minimum times, at rates that bench/roofline.py measures in the same run:
for the multiply-adds ("arithmetic"); for reading x and writing y once ("memory"); and, with fewer outputs
of the same windows than a vector has numbers, for reading a vector of adjacent windows for each term of at
most four outputs ("loads"). Rows of kernels that overlap in x are outputs in this sense. Steps that do not
compute pad x, or change the order of its axes or those of y.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import report
from roofline import Roofline

import onward
from onward import _core
from onward.graph import Graph, Model

SHARED = 4  # outputs that use a vector of windows while it is in a register
COPIES = ("copy", "fill_border")


class Convolution(NamedTuple):
    """A convolution: its kind, the shapes of x and W, and the attributes of its node."""

    kind: str
    name: str
    x: tuple[int, ...]
    W: tuple[int, ...]
    attributes: dict[str, Any]
    operation: str = "Conv"
    has_channels_last: bool = False

    @property
    def group(self) -> int:
        return int(self.attributes.get("group", 1))

    @property
    def outputs(self) -> int:
        """The output channels of a group."""
        return self.W[1] if self.operation == "ConvTranspose" else self.W[0] // self.group

    @property
    def sharing(self) -> int:
        """How many outputs of a group read the same vector; those of a transposed one have phases."""
        strides = self.attributes.get("strides", [1])
        if self.operation != "Conv":
            return self.outputs * math.prod(strides)
        overlaps = len(self.W) == 4 and strides[0] == 1
        return self.outputs * (self.W[2] if overlaps else 1)

    def model(self, rng: np.random.Generator) -> Model:
        """A graph of this node alone, with random weights."""
        graph, axes = Graph(), range(len(self.x))
        x = graph.add_input("x", np.float32, self.x)
        if self.has_channels_last:
            x = graph.add("Transpose", x, perm=[0, axes[-1], *axes[1:-1]])
        W, bias = (
            graph.add_constant((0.1 * rng.standard_normal(shape)).astype(np.float32))
            for shape in (self.W, (self.outputs * self.group,))
        )
        graph.outputs = (graph.add(self.operation, x, W, bias, **self.attributes),)
        return Model(graph)


def conv(kind: str, name: str, x: tuple[int, ...], W: tuple[int, ...], **attributes: Any) -> Convolution:
    return Convolution(kind, name, x, W, attributes)


def transposed(name: str, x: tuple[int, ...], W: tuple[int, ...], stride: list[int]) -> Convolution:
    return Convolution("transposed", name, x, W, {"strides": stride}, "ConvTranspose")


def channels_last(convolution: Convolution) -> Convolution:
    N, C, *sizes = convolution.x
    name = f"{convolution.name}, channels last"
    return convolution._replace(name=name, x=(N, *sizes, C), has_channels_last=True)


SQUARE, FEW_IN, FEW_OUT, DEPTHWISE, STRIDED = (
    *("square", "few input channels", "few output channels", "depthwise", "strided"),
)
CONVOLUTIONS = [
    conv(SQUARE, "64 → 64, 3", (1, 64, 4000), (64, 64, 3), pads=[1, 1]),
    conv(SQUARE, "128 → 128, 3", (1, 128, 2000), (128, 128, 3), pads=[1, 1]),
    conv(SQUARE, "256 → 256, 1", (1, 256, 2000), (256, 256, 1)),
    conv(SQUARE, "64 → 64, 3x3", (1, 64, 40, 40), (64, 64, 3, 3), pads=[1] * 4),
    conv(FEW_IN, "1 → 8, 7", (1, 1, 24000), (8, 1, 7), pads=[3, 3]),
    conv(FEW_IN, "1 → 32, 7", (1, 1, 24000), (32, 1, 7), pads=[3, 3]),
    conv(FEW_IN, "1 → 16, 3x3", (1, 1, 80, 200), (16, 1, 3, 3), pads=[1] * 4),
    conv(FEW_IN, "1 → 512, 16, stride 8", (1, 1, 16000), (512, 1, 16), strides=[8]),
    conv(FEW_OUT, "4 → 4, 3", (1, 4, 6400), (4, 4, 3), pads=[1, 1]),
    conv(FEW_OUT, "8 → 8, 7", (1, 8, 10240), (8, 8, 7), pads=[3, 3]),
    conv(FEW_OUT, "8 → 1, 7", (1, 8, 24000), (1, 8, 7), pads=[3, 3]),
    conv(FEW_OUT, "32 → 1, 7", (1, 32, 24000), (1, 32, 7), pads=[3, 3]),
    conv(FEW_OUT, "16 → 1, 3x3", (1, 16, 80, 200), (1, 16, 3, 3), pads=[1] * 4),
    channels_last(conv(FEW_OUT, "8 → 8, 7", (1, 8, 10240), (8, 8, 7), pads=[3, 3])),
    channels_last(conv(FEW_OUT, "32 → 1, 7", (1, 32, 24000), (1, 32, 7), pads=[3, 3])),
    conv(DEPTHWISE, "512, 3", (1, 512, 2000), (512, 1, 3), pads=[1, 1], group=512),
    conv(DEPTHWISE, "512, 3, dilation 8", (1, 512, 2000), (512, 1, 3), pads=[8, 8], dilations=[8], group=512),
    conv(DEPTHWISE, "128, 3", (1, 128, 1000), (128, 1, 3), pads=[1, 1], group=128),
    conv(DEPTHWISE, "256, 31", (1, 256, 400), (256, 1, 31), pads=[15, 15], group=256),
    conv(DEPTHWISE, "16, 3x3", (1, 16, 60, 33), (16, 1, 3, 3), pads=[1] * 4, group=16),
    conv(STRIDED, "2 → 64, 8, stride 4", (1, 2, 22050), (64, 2, 8), strides=[4]),
    conv(STRIDED, "1 → 258, 256, stride 64", (1, 1, 8000), (258, 1, 256), strides=[64]),
    conv(STRIDED, "32 → 64, 4, stride 2", (1, 32, 24000), (64, 32, 4), strides=[2]),
    conv(STRIDED, "1 → 1, 56, stride 2", (4, 1, 44172), (1, 1, 56), strides=[2]),
    conv(STRIDED, "9 → 16, 1x5, stride 2", (1, 9, 60, 129), (16, 9, 1, 5), strides=[1, 2]),
    transposed("256 → 128, 8, stride 4", (1, 256, 500), (256, 128, 8), [4]),
    transposed("64 → 32, 4, stride 2", (1, 64, 12000), (64, 32, 4), [2]),
    transposed("16 → 8, 4, stride 2", (1, 16, 12000), (16, 8, 4), [2]),
    transposed("64 → 4, 8, stride 4", (1, 64, 5500), (64, 4, 8), [4]),
    channels_last(transposed("64 → 4, 8, stride 4", (1, 64, 5500), (64, 4, 8), [4])),
    transposed("512 → 1, 16, stride 8", (1, 512, 2000), (512, 1, 16), [8]),
]  # fmt: skip


def least(call: Callable[[], Any], seconds: float) -> float:
    """The least processor time of a call. Calls of half a millisecond are measured together."""
    end, start = time.perf_counter() + seconds, time.perf_counter()
    call()
    count = max(1, round(5e-4 / (time.perf_counter() - start)))
    times: list[float] = []
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time()
        for _ in range(count):
            call()
        times.append((time.process_time() - start) / count)
    return min(times)


def limits(convolution: Convolution, x: Any, y: Any, rates: Roofline) -> dict[str, float]:
    """The minimum times by what bounds them."""
    one = x if convolution.operation == "ConvTranspose" else y  # each weight is multiplied for its windows
    channels = one.shape[-1 if one is x and convolution.has_channels_last else 1]
    operations = 2 * math.prod(convolution.W) * one.size // channels
    found = {"arithmetic": operations / rates.operations, "memory": rates.seconds[x.nbytes, y.nbytes]}
    if convolution.sharing < _core.lanes():
        found["loads"] = operations / min(SHARED, convolution.sharing) / rates.operations_of_loads
    return found


def computing(model: Model, x: Any, calls: int) -> float:
    """The least time of the steps that do not copy, each of which includes a microsecond or more."""
    runs = [model.steps(x, calls=1) for _ in range(calls)]
    steps = zip(*runs, strict=True)
    return sum(min(took for _, took in step) for step in steps if step[0][0].split()[0] not in COPIES)


def main() -> None:
    options = report.parser(__doc__).parse_args()
    measured, rng = report.Report(options), np.random.default_rng(0)
    onward.set_num_threads(1)
    ready = []
    for convolution in CONVOLUTIONS:
        model, x = convolution.model(rng), rng.standard_normal(convolution.x).astype(np.float32)
        ready.append((convolution, model, x, model(x)))
    rates = Roofline.measure([(x.nbytes, y.nbytes) for _, _, x, y in ready])
    for convolution, model, x, y in ready:
        bound, limit = max(limits(convolution, x, y, rates).items(), key=lambda item: item[1])
        took = least(lambda model=model, x=x: model(x), 0.02 if options.quick else 1.0)
        computed = computing(model, x, 3 if options.quick else 100)
        row = {"onward": 1e6 * took, "computing": 1e6 * computed, "limit": 1e6 * limit, "bound": bound}
        shares = {"share": limit / took, "share_of_computing": limit / computed}
        measured.add("calls", kind=convolution.kind, convolution=convolution.name, **row, **shares)
    for kind in dict.fromkeys(convolution.kind for convolution in CONVOLUTIONS):
        rows = [row for row in measured.tables["calls"] if row["kind"] == kind]
        means = {key: statistics.geometric_mean(row[key] for row in rows) for key in shares}
        measured.add("kinds", kind=kind, **means)


if __name__ == "__main__":
    main()
