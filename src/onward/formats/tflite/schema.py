"""The tables of TensorFlow Lite's files, as far as Onward reads them, and the numbers of its operators.

The names, the order and the defaults of the fields are those of the schema, version 3.
"""

TABLES = {
    "Model": (
        "version:uint32 operator_codes:[OperatorCode] subgraphs:[SubGraph] description:string "
        "buffers:[Buffer] metadata_buffer:[int32] metadata:[table] signature_defs:[SignatureDef]"
    ),
    "OperatorCode": "old_code:int8 custom_code:string version:int32=1 code:int32",
    "SubGraph": "tensors:[Tensor] inputs:[int32] outputs:[int32] operators:[Operator] name:string",
    "Tensor": (
        "shape:[int32] type:int8 buffer:uint32 name:string quantization:Quantization is_variable:bool "
        "sparsity:table shape_signature:[int32] has_rank:bool variants:[table] external_buffer:uint32"
    ),
    "Quantization": (
        "min:[float32] max:[float32] scale:[float32] zero_point:[int64] details_type:uint8 details:table "
        "axis:int32"
    ),
    "Operator": (
        "code:uint32 inputs:[int32] outputs:[int32] options_type:uint8 options:table "
        "custom_options:[uint8] custom_format:int8 mutating:[bool] intermediates:[int32]"
    ),
    "Buffer": "data:[uint8] offset:uint64 size:uint64",
    "SignatureDef": "inputs:[TensorMap] outputs:[TensorMap] key:string unused:string subgraph:uint32",
    "TensorMap": "name:string tensor:uint32",
}
WINDOW = "padding:int8 stride_w:int32 stride_h:int32"
CELL = "activation:int8 cell_clip:float32 proj_clip:float32"
# The options of operators; all others have none.
OPTIONS = {
    name: fields
    for names, fields in {
        "ADD SUB MUL DIV L2_NORMALIZATION": "activation:int8 pot_scale_int16:bool=1",
        "ARG_MAX ARG_MIN": "dtype:int8",
        "BATCH_MATMUL": "adj_x:bool adj_y:bool asymmetric:bool",
        "BIDIRECTIONAL_SEQUENCE_LSTM": f"{CELL} merge_outputs:bool time_major:bool=1 asymmetric:bool",
        "BIDIRECTIONAL_SEQUENCE_RNN": "time_major:bool activation:int8 merge_outputs:bool asymmetric:bool",
        "CALL_ONCE": "subgraph:int32",
        "CAST": "source:int8 dtype:int8",
        "CONCATENATION": "axis:int32 activation:int8",
        "CONV_2D": f"{WINDOW} activation:int8 dilation_w:int32=1 dilation_h:int32=1",
        "CUMSUM": "exclusive:bool reverse:bool",
        "DEPTHWISE_CONV_2D": (
            f"{WINDOW} multiplier:int32 activation:int8 dilation_w:int32=1 dilation_h:int32=1"
        ),
        "DEPTH_TO_SPACE SPACE_TO_DEPTH": "block_size:int32",
        "FULLY_CONNECTED": "activation:int8 weights_format:int8 keep_axes:bool asymmetric:bool",
        "GATHER": "axis:int32 batch_axes:int32",
        "GELU": "approximate:bool",
        "IF": "then_subgraph:int32 else_subgraph:int32",
        "LSTM": f"{CELL} kernel_type:int8 asymmetric:bool",
        "LEAKY_RELU": "alpha:float32",
        "MIRROR_PAD": "mode:int8",
        "ONE_HOT": "axis:int32",
        "PACK": "count:int32 axis:int32",
        "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D": (f"{WINDOW} filter_w:int32 filter_h:int32 activation:int8"),
        "RNN": "activation:int8 asymmetric:bool",
        "MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL": "keep_axes:bool",
        "RESHAPE": "new_shape:[int32]",
        "RESIZE_BILINEAR": "new_h:int32 new_w:int32 align_corners:bool half_pixel_centers:bool",
        "RESIZE_NEAREST_NEIGHBOR": "align_corners:bool half_pixel_centers:bool",
        "REVERSE_SEQUENCE": "seq_axis:int32 batch_axis:int32",
        "SVDF": "rank:int32 activation:int8 asymmetric:bool",
        "UNIDIRECTIONAL_SEQUENCE_RNN": "time_major:bool activation:int8 asymmetric:bool",
        "SHAPE": "dtype:int8",
        "SOFTMAX": "beta:float32",
        "SPLIT SPLIT_V": "count:int32",
        "SQUEEZE": "axes:[int32]",
        "STRIDED_SLICE": (
            "begin_mask:int32 end_mask:int32 ellipsis_mask:int32 new_axis_mask:int32 shrink_axis_mask:int32 "
            "offset:bool"
        ),
        "TRANSPOSE_CONV": f"{WINDOW} activation:int8",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": f"{CELL} time_major:bool asymmetric:bool diagonal:bool",
        "UNPACK": "count:int32 axis:int32",
        "VAR_HANDLE": "container:string name:string",
        "WHILE": "cond_subgraph:int32 body_subgraph:int32",
    }.items()
    for name in names.split()
}

TYPES = dict(
    enumerate(
        "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 "
        "resource variant uint32 uint16 int4 bfloat16 int2 uint4".split()
    )
)
ACTIVATIONS = dict(enumerate(["", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"]))
SAME, VALID = 0, 1  # paddings

# The operators by their numbers in files; "-" stands for one that has never existed.
OPERATORS = dict(
    enumerate(
        """ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
        EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
        LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
        RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM
        EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
        TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
        BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST
        PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
        TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN
        FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN
        FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
        SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU
        REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4
        NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
        PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
        HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
        READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM
        MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
        UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT""".split()
    )
)
