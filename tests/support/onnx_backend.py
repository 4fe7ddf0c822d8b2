"""Onward as an ONNX backend, for the onnx package's own test suite."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

from onward.graph import Model
from support.onnx_nodes import open_model


class Model(BackendRep):
    """A model that is ready to run."""

    def __init__(self, graph: Model) -> None:
        self.graph = graph

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The graph's outputs in order. inputs: a sequence in order, a single array, or a dict by name."""
        if isinstance(inputs, dict):
            return self.graph(**inputs)
        return self.graph(*([inputs] if isinstance(inputs, np.ndarray) else inputs))


class OnwardBackend(Backend):
    """onnx.backend.base.Backend: models run on the CPU, as `onward.load` would run their files."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Model:
        """Load a model. Raises ArgumentError for an unsupported device or option."""
        super().prepare(model, device, **kwargs)
        return Model(open_model(model))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of a node alone, in order."""
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), None
                )
                for name, value in zip(names, inputs, strict=True)
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, opset)])
        return Model(open_model(model)).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return bool(Device(device).type == DeviceType.CPU)


prepare, run_node, run_model = OnwardBackend.prepare, OnwardBackend.run_node, OnwardBackend.run_model
supports_device = OnwardBackend.supports_device
