# SPDX-License-Identifier: Apache-2.0
"""The part of the public TFLite schema that is read: operator and type numbers, and the fields of operator options.

Numbers are those of the FlatBuffers schema (version 3): an operator's number is its place in :data:`OPERATORS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

VERSION = 3
IDENTIFIER = b"TFL3"
_OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION
LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR
ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND
COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE
BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE
STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER
STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE
STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
STABLEHLO_CASE
"""
OPERATORS: tuple[str, ...] = tuple(_OPERATORS.split())

#: Tensor types by number; those with a numpy type are read as that type.
TYPES: tuple[str, ...] = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
    "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4",
)  # fmt: skip
NUMPY_TYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "float32", "float16", "int32", "uint8", "int64", "bool", "int16", "int8", "float64", "uint64", "uint32",
        "uint16",
    )
}  # fmt: skip
PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
_ACTIVATION = "activation"


@dataclass(frozen=True)
class Field:
    """One field of an options table; kinds "padding" and "activation" are bytes that are read as names."""

    slot: int
    kind: str
    default: int | float = 0


@dataclass(frozen=True)
class Options:
    """An options table: its number in the union, its fields by name; ``second`` for the union of newer operators."""

    number: int
    fields: dict[str, Field] = field(default_factory=dict)
    second: bool = False


def _fields(**kinds: tuple[int, str] | tuple[int, str, float]) -> dict[str, Field]:
    return {name: Field(v[0], v[1], v[2] if len(v) > 2 else 0) for name, v in kinds.items()}


_ARITHMETIC = _fields(activation=(0, _ACTIVATION))
_POOL = Options(
    5,
    _fields(
        padding=(0, "padding"), stride_w=(1, "i32"), stride_h=(2, "i32"), filter_w=(3, "i32"), filter_h=(4, "i32"),
        activation=(5, _ACTIVATION),
    ),
)  # fmt: skip
_CONV_3D = Options(
    106,
    _fields(
        padding=(0, "padding"), stride_d=(1, "i32"), stride_w=(2, "i32"), stride_h=(3, "i32"),
        activation=(4, _ACTIVATION), dilation_d=(5, "i32", 1), dilation_w=(6, "i32", 1), dilation_h=(7, "i32", 1),
    ),
)  # fmt: skip
_REDUCER = Options(27, _fields(keep_dims=(0, "bool")))
#: Options by operator, where any are read.
OPTIONS: dict[str, Options] = {
    "CONV_2D": Options(
        1,
        _fields(
            padding=(0, "padding"), stride_w=(1, "i32"), stride_h=(2, "i32"), activation=(3, _ACTIVATION),
            dilation_w=(4, "i32", 1), dilation_h=(5, "i32", 1),
        ),
    ),
    "DEPTHWISE_CONV_2D": Options(
        2,
        _fields(
            padding=(0, "padding"), stride_w=(1, "i32"), stride_h=(2, "i32"), depth_multiplier=(3, "i32"),
            activation=(4, _ACTIVATION), dilation_w=(5, "i32", 1), dilation_h=(6, "i32", 1),
        ),
    ),
    "CONV_3D": _CONV_3D,
    "CONV_3D_TRANSPOSE": _CONV_3D,
    "TRANSPOSE_CONV": Options(
        49, _fields(padding=(0, "padding"), stride_w=(1, "i32"), stride_h=(2, "i32"), activation=(3, _ACTIVATION))
    ),
    "FULLY_CONNECTED": Options(
        8, _fields(activation=(0, _ACTIVATION), weights_format=(1, "i8"), keep_num_dims=(2, "bool"))
    ),
    "ADD": Options(11, _ARITHMETIC),
    "SUB": Options(28, _ARITHMETIC),
    "MUL": Options(21, _ARITHMETIC),
    "DIV": Options(29, _ARITHMETIC),
    "MAX_POOL_2D": _POOL,
    "AVERAGE_POOL_2D": _POOL,
    "L2_POOL_2D": _POOL,
    "L2_NORMALIZATION": Options(12, _ARITHMETIC),
    "LOCAL_RESPONSE_NORMALIZATION": Options(
        13, _fields(radius=(0, "i32"), bias=(1, "f32"), alpha=(2, "f32"), beta=(3, "f32"))
    ),
    "CONCATENATION": Options(10, _fields(axis=(0, "i32"), activation=(1, _ACTIVATION))),
    "SOFTMAX": Options(9, _fields(beta=(0, "f32"))),
    "RESHAPE": Options(17, _fields(new_shape=(0, "i32s"))),
    "SQUEEZE": Options(30, _fields(squeeze_dims=(0, "i32s"))),
    "STRIDED_SLICE": Options(
        32,
        _fields(
            begin_mask=(0, "i32"), end_mask=(1, "i32"), ellipsis_mask=(2, "i32"), new_axis_mask=(3, "i32"),
            shrink_axis_mask=(4, "i32"), offset=(5, "bool"),
        ),
    ),
    "SPLIT": Options(35, _fields(num_splits=(0, "i32"))),
    "SPLIT_V": Options(79, _fields(num_splits=(0, "i32"))),
    "PACK": Options(59, _fields(values_count=(0, "i32"), axis=(1, "i32"))),
    "UNPACK": Options(64, _fields(num=(0, "i32"), axis=(1, "i32"))),
    "GATHER": Options(23, _fields(axis=(0, "i32"), batch_dims=(1, "i32"))),
    "CAST": Options(37, _fields(in_data_type=(0, "i8"), out_data_type=(1, "i8"))),
    "SHAPE": Options(55, _fields(out_type=(0, "i8"))),
    "LEAKY_RELU": Options(75, _fields(alpha=(0, "f32"))),
    "GELU": Options(116, _fields(approximate=(0, "bool"))),
    "RESIZE_BILINEAR": Options(15, _fields(align_corners=(2, "bool"), half_pixel_centers=(3, "bool"))),
    "RESIZE_NEAREST_NEIGHBOR": Options(74, _fields(align_corners=(0, "bool"), half_pixel_centers=(1, "bool"))),
    "DEPTH_TO_SPACE": Options(94, _fields(block_size=(0, "i32"))),
    "SPACE_TO_DEPTH": Options(19, _fields(block_size=(0, "i32"))),
    "MIRROR_PAD": Options(77, _fields(mode=(0, "i8"))),
    "BATCH_MATMUL": Options(101, _fields(adj_x=(0, "bool"), adj_y=(1, "bool"))),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Options(
        71,
        _fields(
            activation=(0, _ACTIVATION), cell_clip=(1, "f32"), proj_clip=(2, "f32"), time_major=(3, "bool"),
            diagonal=(5, "bool"),
        ),
    ),
    "BIDIRECTIONAL_SEQUENCE_LSTM": Options(
        69,
        _fields(
            activation=(0, _ACTIVATION), cell_clip=(1, "f32"), proj_clip=(2, "f32"), merge_outputs=(3, "bool"),
            time_major=(4, "bool", 1),
        ),
    ),
    "UNIDIRECTIONAL_SEQUENCE_RNN": Options(31, _fields(time_major=(0, "bool"), activation=(1, _ACTIVATION))),
    "BIDIRECTIONAL_SEQUENCE_RNN": Options(
        70, _fields(time_major=(0, "bool"), activation=(1, _ACTIVATION), merge_outputs=(2, "bool"))
    ),
    "ARG_MAX": Options(40, _fields(output_type=(0, "i8"))),
    "ARG_MIN": Options(57, _fields(output_type=(0, "i8"))),
    "ONE_HOT": Options(61, _fields(axis=(0, "i32"))),
    "CUMSUM": Options(102, _fields(exclusive=(0, "bool"), reverse=(1, "bool"))),
    "REVERSE_SEQUENCE": Options(87, _fields(seq_dim=(0, "i32"), batch_dim=(1, "i32"))),
    "FAKE_QUANT": Options(
        58, _fields(min=(0, "f32"), max=(1, "f32"), num_bits=(2, "i32"), narrow_range=(3, "bool"))
    ),
    "BUCKETIZE": Options(115, _fields(boundaries=(0, "f32s"))),
    "UNIQUE": Options(80, _fields(idx_out_type=(0, "i8", 2))),
    "SVDF": Options(6, _fields(rank=(0, "i32"), activation=(1, _ACTIVATION))),
    "RNN": Options(7, _fields(activation=(0, _ACTIVATION))),
    "LSTM": Options(
        14, _fields(activation=(0, _ACTIVATION), cell_clip=(1, "f32"), proj_clip=(2, "f32"), kernel_type=(3, "i8"))
    ),
    "IF": Options(92, _fields(then_graph=(0, "i32"), else_graph=(1, "i32"))),
    "WHILE": Options(93, _fields(condition=(0, "i32"), body=(1, "i32"))),
    "CALL": Options(16, _fields(graph=(0, "u32"))),
    "CALL_ONCE": Options(103, _fields(graph=(0, "i32"))),
    "VAR_HANDLE": Options(111, _fields(container=(0, "text"), shared_name=(1, "text"))),
    "STABLEHLO_COMPOSITE": Options(
        21, _fields(name=(0, "text"), graph=(1, "i32"), attributes=(2, "text")), second=True
    ),
    "STABLEHLO_WHILE": Options(15, _fields(condition=(0, "i32"), body=(1, "i32")), second=True),
    "STABLEHLO_CONCATENATE": Options(1, _fields(axis=(0, "i64")), second=True),
    "STABLEHLO_BROADCAST_IN_DIM": Options(2, _fields(dimensions=(0, "i64s")), second=True),
    "STABLEHLO_SLICE": Options(3, _fields(begin=(0, "i64s"), end=(1, "i64s"), strides=(2, "i64s")), second=True),
    "STABLEHLO_COMPARE": Options(8, _fields(direction=(0, "u32")), second=True),
    "STABLEHLO_PAD": Options(10, _fields(low=(0, "i64s"), high=(1, "i64s"), interior=(2, "i64s")), second=True),
    "STABLEHLO_IOTA": Options(11, _fields(axis=(0, "i64")), second=True),
    "STABLEHLO_DOT_GENERAL": Options(
        12,
        _fields(
            left_batch=(0, "i64s"), right_batch=(1, "i64s"), left_contracted=(2, "i64s"), right_contracted=(3, "i64s")
        ),
        second=True,
    ),
    "STABLEHLO_TRANSPOSE": Options(17, _fields(order=(0, "i64s")), second=True),
    "REDUCE_ANY": _REDUCER,
    "REDUCE_ALL": _REDUCER,
    "MEAN": _REDUCER,
    "SUM": _REDUCER,
    "REDUCE_MAX": _REDUCER,
    "REDUCE_MIN": _REDUCER,
    "REDUCE_PROD": _REDUCER,
}  # fmt: skip

#: MediaPipe's transposed convolution with a bias.
TRANSPOSE_CONV_BIAS = "CUSTOM:Convolution2DTransposeBias"
#: Boxes of anchors, and suppression; its options are a FlexBuffer.
DETECTION = "CUSTOM:TFLite_Detection_PostProcess"
#: Custom operators whose options are read: a C structure of 32-bit integers, by the names of its fields.
CUSTOM_OPTIONS: dict[str, tuple[str, ...]] = {TRANSPOSE_CONV_BIAS: ("padding", "stride_w", "stride_h")}
