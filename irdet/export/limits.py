"""What each TensorRT takes of ONNX, as far as graphs of networks for images go.

From the support matrix and the change log of NVIDIA's ONNX parser (onnx-tensorrt, docs/operators.md at 8.4 and 10.15,
docs/Changelog.md from 8.5 to 10.15); TensorRT-RTX was asked itself (1.7, `OnnxParser.supports_operator`).
"""

from __future__ import annotations

from dataclasses import dataclass

#: Operators that 8.6 reads.
_NAMES_8_6 = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal
Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool
GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid Identity If InstanceNormalization IsInf
IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max
MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow
QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence RoiAlign Round Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose
Trilu Unsqueeze Upsample Where Xor
"""
_OPERATORS_8_6 = frozenset(_NAMES_8_6.split())

#: What was added up to 10.3, which is the oldest 10 on a Jetson.
_OPERATORS_10 = _OPERATORS_8_6 | {"CastLike", "DeformConv", "Gelu", "HardSwish", "Hardmax", "Mish"}

#: What was added up to 11.
_OPERATORS_11 = _OPERATORS_10 | {
    *("Attention", "BlackmanWindow", "CausalConvWithState", "HammingWindow", "HannWindow", "LinearAttention"),
    *("RMSNormalization", "RotaryEmbedding", "STFT", "Swish", "TensorScatter"),
}

_TYPES = frozenset({"FLOAT", "FLOAT16", "BOOL", "INT32", "INT64"})


@dataclass(frozen=True)
class Limits:
    """What a TensorRT takes.

    Attributes:
        name: As it is called.
        opset: Newest opset that it is documented to read.
        operators: Operators of ONNX's own domain that it reads.
        types: Types that nodes may compute, by ONNX's names.
        half_scales: Scales of Q/DQ may be half (at opset 19 and later).
        bare_int8_weights: Weights may be stored as int8 with a DequantizeLinear alone.
        functions: Functions defined in the file are read.
        live_weights: A convolution's weights may be computed.
        int64: Integers have 64 bits; else they are cut to 32.
    """

    name: str
    opset: int
    operators: frozenset[str]
    types: frozenset[str]
    half_scales: bool = True
    bare_int8_weights: bool = True
    functions: bool = True
    live_weights: bool = True
    int64: bool = True


#: Oldest opset that any of them is documented to read.
OLDEST_OPSET = 9

#: Half scales of Q/DQ came with this opset (TensorRT 10 reads it).
HALF_SCALE_OPSET = 19

#: Target of the lint -> its limits.
LIMITS = {
    "tensorrt-8.6": Limits("TensorRT 8.6", 17, _OPERATORS_8_6, _TYPES, False, False, False, False, False),
    "tensorrt-10": Limits("TensorRT 10", 20, _OPERATORS_10, _TYPES | {"BFLOAT16"}),
    "tensorrt-11": Limits("TensorRT 11", 24, _OPERATORS_11, _TYPES | {"BFLOAT16"}),
    # The one that is for desktops alone lacks the plugins that compute these.
    "rtx": Limits("TensorRT-RTX", 24, _OPERATORS_11 - {"DeformConv", "NonZero", "RoiAlign"}, _TYPES | {"BFLOAT16"}),
}
