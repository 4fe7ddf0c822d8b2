"""The reasons why operators are not supported."""

# By a part of the operators' names.
REASONS = {
    "backward": "it computes gradients; export the module within torch.no_grad()",
    "quantize": "export the module before it is quantized, and quantize the model with onward quantize",
    "sparse": "its tensors are sparse; convert them with to_dense()",
    "sym_stride": "it depends on the layout of memory",
    "sym_storage_offset": "it depends on the layout of memory",
    "is_contiguous": "it depends on the layout of memory",
    "resize_": "it changes the size of a tensor's memory",
    "ctc_loss": "the loss is for training; export the module without it",
    "_nested": "nested tensors have no regular shape; pad them",
    "linalg_eig": "its results are complex; use torch.linalg.eigh for symmetric matrices",
    "lu": "NumPy has no LU decomposition; use torch.linalg.solve or torch.linalg.inv",
    "multinomial": "it draws without replacement; draw outside of the model",
    "_flash_attention": "it runs on GPUs only; export the module on the CPU",
    "_efficient_attention": "it runs on GPUs only; export the module on the CPU",
}


def reason(name: str) -> str:
    """Return why an operator is not supported, if that is known, as the end of a sentence."""
    return next((f": {text}" for part, text in REASONS.items() if part in name), "")
