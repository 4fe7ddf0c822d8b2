"""DynamicQuantizeLSTM against onnxruntime on one thread."""

import numpy as np
import onnxruntime
from support import onnx_nodes
from support.onnx_nodes import open_model


def test_random_nodes_give_the_outputs_of_onnxruntime() -> None:
    """A value halfway between two bytes may round either way, about once in hundreds of nodes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    rng, steps_off, nodes = np.random.default_rng(0), 0, 500
    for number in range(nodes):
        case, _ = onnx_nodes.draw_quantized(rng)
        expected = onnxruntime.InferenceSession(case.model.SerializeToString(), options).run(None, case.feeds)
        off = max(
            np.abs(mine - theirs).max()
            for mine, theirs in zip(open_model(case.model)(**case.feeds), expected, strict=True)
        )
        assert off < 0.02, f"node {number}: {case.attributes}"
        steps_off += off > 1e-5
    assert steps_off < nodes / 100
