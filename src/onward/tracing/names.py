"""What people call the layers of a recurrent node, whose name an exporter made."""

import re

# The exporter of PyTorch derives the name of a node from that of its module, and numbers the layers in it.
MODULE = re.compile(r"(?P<module>.*)/(?:LSTM|GRU|RNN)(?:_(?P<layer>\d+))?")
# Names that say no more than an operator.
OPERATOR = re.compile(
    r"(?:node|.*_Y)_(?:lstm|gru|rnn|mul|add|tanh)[_\d]*|(?:lstm|gru|rnn)(?:__\d+|_\d{3,})"
    r"|(?:mul|add|tanh|while(?:_loop)?)(?:_\d+)*|tfl\..*",
    re.IGNORECASE,
)
# Where a cell was found in its operations: the parts of a name behind that of the layer, and before it.
OPERATION = re.compile(
    r"(?:(?:lstm|gru|simple_rnn)_cell|mul|add|tanh|while(?:_loop)?|\w*PartitionedCall)(?:_\d+)*",
    re.IGNORECASE,
)
MODEL = re.compile(r"(?:\w*PartitionedCall|model|functional|sequential)(?:_\d+)*")


def layer_name(node: str, suffix: str, cell: str) -> str:
    """Return the name of a layer of a recurrent node: its module and suffix, as in the names of its weights.

    A node whose name says nothing has the name of its cell.

    >>> layer_name("/encoder/rnn/LSTM_1", "l0_reverse", "LSTM"), layer_name("node_LSTM_112", "l0", "LSTM")
    ('encoder.rnn.l1_reverse', 'LSTM.l0')
    >>> layer_name("model_2/lstm_6/lstm_cell/mul_2", "l0", "LSTM")
    'lstm_6.l0'
    """
    if (found := MODULE.fullmatch(node)) and suffix.startswith("l0"):
        module, suffix = found["module"], f"l{found['layer'] or 0}{suffix.removeprefix('l0')}"
    elif OPERATOR.fullmatch(node):
        module = cell
    else:
        module = _without_operations(node)
    if module.startswith("/"):  # from PyTorch
        module = _dotted(module)
    return f"{module or cell}.{suffix}"


def _dotted(module: str) -> str:
    """Return the dotted name of a module, of which /decoder/decoder.1 repeats the part before."""
    names: list[str] = []
    for part in module[1:].split("/"):
        if names and part.startswith(f"{names[-1]}."):
            names.pop()
        names.append(part)
    return ".".join(names)


def _without_operations(node: str) -> str:
    """Return a name without the operations behind that of a layer and, if any, the models before it."""
    parts = node.rpartition(";")[2].split("/")  # TensorFlow Lite joins the names of operations
    last = len(parts)
    while last > 1 and OPERATION.fullmatch(parts[last - 1]):
        last -= 1
    if last == len(parts):
        return node
    first = 0
    while first < last - 1 and MODEL.fullmatch(parts[first]):
        first += 1
    return "/".join(parts[first:last])
