"""The names that users of PyTorch and Keras type, and what to use instead in Onward."""

from collections.abc import Iterable

# Attributes of a layer or a model. Those with one obvious meaning here, such as eval(), are methods of Layer.
ATTRIBUTES = {
    name: equivalent
    for names, equivalent in {
        "add append": "pass all layers to onward.Sequential(...)",
        "bfloat16 half": "use model.quantize('float16')",
        "build": "pass the input size to the constructor",
        "children modules": "use model.sublayers().values()",
        "count_params summarize": "use model.summary()",
        "cuda device mps": "Onward runs on the CPU only",
        "double": "pass dtype='float64' to the constructor",
        "evaluate": "use onward.train.evaluate(model, data, loss=...)",
        "fit": "use onward.train.fit(model, data, loss=...)",
        "flatten_parameters": "remove it: weights are packed when a layer is first called",
        "float": "pass dtype='float32' to the constructor",
        "get_config": "use model.config()",
        "get_weights": "use model.state_dict()",
        "grad": "use y, state, cache = model.forward(x) and model.backward(dy, dstate, cache)",
        "inference predict predict_on_batch": "call the model: y = model(x)",
        "named_children named_modules": "use model.sublayers().items()",
        "named_parameters": "use model.state_dict().items()",
        "numpy": "outputs are NumPy arrays already; for the weights, use model.state_dict()",
        "parameters": "use model.state_dict().values(); optimizers of onward.train take no parameters",
        "requires_grad_": "remove it: only onward.train.fit changes weights",
        "reset_states": "remove it: layers hold no state; use stream = model.stream() and stream.reset()",
        "save_weights": "use model.save(path)",
        "set_weights": "use model.load_state_dict(weights)",
        "to": "Onward runs on the CPU only; pass dtype to the constructor",
        "train": "use onward.train.fit(model, data, loss=...); a call always runs inference",
        "trainable_variables trainable_weights variables weights": "use model.state_dict().values()",
        "zero_grad": "remove it: model.backward returns new gradients",
    }.items()
    for name in names.split()
}

# Arguments of a constructor or a call.
ARGUMENTS = {
    "device": "omit it: Onward runs on the CPU only",
    "enforce_sorted": "omit it: rows may have any order",
    "hx": "pass the state as the second argument",
    "initial_state": "pass the state as the second argument",
    "mask": "pass the number of valid steps of each row as lengths",
    "return_sequences": "outputs contain every step; add onward.Last() to keep the last one",
    "stateful": "omit it and use stream = model.stream()",
    "training": "omit it: a call always runs inference",
    "units": "pass input_size and hidden_size",
}


def argument_hints(names: Iterable[str]) -> str:
    """The hints for the arguments of these names, to append to an error message."""
    return "".join(f"; {name}: {ARGUMENTS[name]}" for name in names if name in ARGUMENTS)
