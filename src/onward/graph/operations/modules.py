"""The modules that define each operation; they are imported when a graph first uses the operation."""

# The modules that have to be imported for some operations: the first defines them, a second adds rules.
NAMES = {
    "activations": (
        "Exp Mish Relu Sigmoid Softplus Softsign Tanh Elu HardSigmoid LeakyRelu Selu Affine ScaledTanh "
        "ThresholdedRelu Activate Celu Gelu HardSwish Swish PRelu Shrink Erf"
    ),
    "attention": "Attention RotaryEmbedding",
    "blocks": "Continue Skip Align BroadcastRest OverWindows",
    "casting": "Cast CastLike BitCast",
    "control": "Scan Python Check Recorded",
    "convolutions": "Conv QuantizedConv",
    "creation": (
        "Shape Size ConstantOfShape Range EyeLike Trilu RandomNormal RandomNormalLike RandomUniform "
        "RandomUniformLike Bernoulli Multinomial"
    ),
    "elementwise": (
        "Abs Neg Sign Ceil Floor Round Log Reciprocal Sqrt Sin Cos Not BitwiseNot IsNaN IsInf Add Sub Mul "
        "Div Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor "
        "BitShift Mod Max Min Sum Mean Where Clip"
    ),
    "elementwise transcendental": "Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Pow",
    "gradient": "Gradient",
    "fixed_point": "Rescale RescaleOnce Lookup FixedReciprocal",
    "indexing": (
        "Gather GatherElements GatherND ScatterElements ScatterND TensorScatter OneHot Compress NonZero"
    ),
    "linear_attention": "LinearAttention CausalConvWithState",
    "control looping": "If Loop",
    "masked_recurrent": "MaskedRecurrent MaskedSteps",
    "movement": (
        "Identity Squeeze Unsqueeze Flatten Transpose Slice Split Dropout Expand Tile "
        "DepthToSpace SpaceToDepth ReverseSequence Concat"
    ),
    "movement reshaping": "Reshape",
    "normalization": (
        "Softmax LogSoftmax BatchNormalization Standardize LayerNormalization InstanceNormalization "
        "GroupNormalization RMSNormalization LpNormalization LRN MeanVarianceNormalization "
        "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"
    ),
    "numpy_functions": "NumPy",
    "padding": "Pad CenterCropPad PadStart PadEnd",
    "pooling": "MaxPool AveragePool LpPool SumPool MaxUnpool",
    "products": "MatMul Gemm FusedMatMul Det Einsum QuantizedMatMul",
    "quantization": (
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear MatMulInteger ConvInteger QLinearMatMul "
        "QLinearConv QLinearGlobalAveragePool"
    ),
    "quantized_recurrent": "DynamicQuantizeLSTM",
    "recurrent": "Recurrent Step RNN GRU LSTM Steps LastStep FinalState",
    "reductions": (
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare GlobalAveragePool GlobalMaxPool GlobalLpPool RunningSum CumSum "
        "CumProd"
    ),
    "row_quantization": "QuantizeRows QuantizeRowsWithZero RowProduct",
    "grid_sample": "GridSample AffineGrid",
    "grouped_product": "GroupedMatMul",
    "resize": "Resize",
    "selection": "ArgMax ArgMin Hardmax TopK Unique NonMaxSuppression",
    "sequences": (
        "SequenceEmpty SequenceConstruct SequenceLength SequenceAt SequenceErase SequenceInsert "
        "ConcatFromSequence SplitToSequence SequenceMap Optional OptionalGetElement OptionalHasElement"
    ),
    "weighted_recurrent": "WeightedRecurrent RecurrentGradient",
    "strings": "StringConcat StringSplit",
    "transposed": "ConvTranspose Col2Im",
    "signal": "DFT STFT HannWindow HammingWindow BlackmanWindow MelWeightMatrix",
}
MODULES = {name: modules.split() for modules, names in NAMES.items() for name in names.split()}
