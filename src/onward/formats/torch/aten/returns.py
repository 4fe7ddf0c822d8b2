"""The numbers of tensors that operators return, according to PyTorch's schemas."""

from typing import Any

_OPERATORS = {
    2: (
        "_fused_rms_norm _linalg_eigh _native_multi_head_attention _scaled_dot_product_attention_math "
        "_scaled_dot_product_flash_attention_for_cpu _unique _weight_norm_interface adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d aminmax cummax cummin frexp.Tensor gru.input kthvalue "
        "linalg_cholesky_ex linalg_eigh linalg_inv_ex linalg_qr linalg_slogdet linalg_solve_ex "
        "log_sigmoid_forward lstm_cell max.dim max_pool1d_with_indices max_pool2d_with_indices "
        "max_pool3d_with_indices median.dim min.dim mode nanmedian.dim native_dropout nll_loss2d_forward "
        "nll_loss_forward qr rnn_relu.input rnn_tanh.input slogdet sort sort.stable std_mean "
        "std_mean.correction std_mean.dim topk var_mean var_mean.correction var_mean.dim"
    ),
    3: (
        "_linalg_det _linalg_svd _native_batch_norm_legit _native_batch_norm_legit.no_stats "
        "_native_batch_norm_legit_no_training _unique2 linalg_svd lstm.input native_batch_norm "
        "native_group_norm native_layer_norm svd unique_consecutive unique_dim"
    ),
    4: (
        "_embedding_bag _embedding_bag_forward_only _linalg_slogdet _linalg_solve_ex embedding_bag "
        "embedding_bag.padding_idx"
    ),
}
RETURNS = {
    name if "." in name else f"{name}.default": count
    for count, names in _OPERATORS.items()
    for name in names.split()
}


def completed(key: str, results: Any) -> Any:
    """Return the results of an operator with None for those that its function does not compute."""
    if key not in RETURNS:
        return results
    found = results if isinstance(results, tuple | list) else (results,)
    return (*found, *[None] * (RETURNS[key] - len(found)))
