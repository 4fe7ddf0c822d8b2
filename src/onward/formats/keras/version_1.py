"""Configurations and kernels of Keras 1 in the words and layout of Keras 2."""

from typing import Any

from .stored_weights import Tensor

CLASSES = {"Convolution1D": "Conv1D", "Convolution2D": "Conv2D", "TimeDistributedDense": "Dense"}
MERGES = {
    "sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate",
}  # fmt: skip
KEYS = {
    "output_dim": "units", "inner_activation": "recurrent_activation", "bias": "use_bias", "p": "rate",
    "sigma": "stddev", "nb_filter": "filters", "filter_length": "kernel_size", "subsample": "strides",
    "subsample_length": "strides", "border_mode": "padding", "pool_length": "pool_size", "stride": "strides",
    "dim_ordering": "data_format",
}  # fmt: skip
ORDERINGS = {"tf": "channels_last", "th": "channels_first"}
OF_TRAINING = {
    "init", "inner_init", "forget_bias_init", "beta_init", "gamma_init", "W_regularizer", "U_regularizer",
    "b_regularizer", "W_constraint", "b_constraint", "dropout_W", "dropout_U", "input_dtype",
}  # fmt: skip


def translated(entry: dict[str, Any]) -> dict[str, Any]:
    """A layer's entry as Keras 2 would have it; what has none is left for an error that names it."""
    kind, config = entry.get("class_name"), entry["config"]
    if not isinstance(config, dict):
        return entry
    config = {key: value for key, value in config.items() if key not in OF_TRAINING}
    if kind == "Merge":
        if config.get("mode") not in MERGES or config.get("layers"):
            return entry
        kind = MERGES[config["mode"]]
        kept = {"axis": config.get("concat_axis", -1)} if kind == "Concatenate" else {}
        return entry | {"class_name": kind, "config": kept | {"name": config.get("name", kind)}}
    if kind != "Embedding":
        config = {KEYS.get(key, key): value for key, value in config.items()}
    if "data_format" in config:
        config["data_format"] = ORDERINGS.get(config["data_format"], config["data_format"])
    if kind == "Convolution1D":
        config["kernel_size"] = [config["kernel_size"]]
    if kind == "Convolution2D":
        config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col")]
    if kind == "BatchNormalization" and config.get("mode") == 0:  # others take the batch's own averages
        del config["mode"]
    return entry | {"class_name": CLASSES.get(str(kind), kind), "config": config}


def kernel(kernel: Tensor, channels_first: bool, axes: int) -> Tensor:
    """A convolution's kernel as (*sizes, inputs, filters): that of one axis has another of size 1."""
    if channels_first or (axes == 1 and kernel.shape[1] != 1):
        kernel = kernel.transpose(2, 3, 1, 0)
    return kernel[:, 0] if axes == 1 else kernel
