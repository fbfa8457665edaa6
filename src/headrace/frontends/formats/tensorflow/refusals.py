# SPDX-License-Identifier: Apache-2.0
"""Why an operator of TensorFlow that nothing converts cannot be translated, and what would do instead."""

from __future__ import annotations

from headrace.frontends.formats.tensorflow.records import Node
from headrace.frontends.graph import CHOOSES, ENDS_BEFORE, Unsupported

_CHOOSING = frozenset({
    "CombinedNonMaxSuppression", "BooleanMask", "UniqueV2", "DynamicPartition", "DynamicStitch",
    "CropAndResize", "InTopK", "InTopKV2", "CTCGreedyDecoder", "CTCBeamSearchDecoder",
})  # fmt: skip
_RANDOM = frozenset({
    "RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt", "Multinomial",
    "StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomNormal", "StatelessRandomNormalV2",
    "StatelessTruncatedNormal", "StatelessTruncatedNormalV2", "RandomShuffle", "Bernoulli",
})  # fmt: skip
_TABLES = frozenset({"HashTable", "HashTableV2", "LookupTableFind", "LookupTableFindV2", "MutableHashTableV2"})
_STATE = frozenset({
    "Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp",
    "VarIsInitializedOp", "IsVariableInitialized", "ScatterUpdate", "ScatterAdd", "ResourceScatterUpdate", "CountUpTo",
})  # fmt: skip
_INPUT = frozenset({
    "DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage", "DecodeRaw", "ReadFile", "ParseExample",
    "ParseExampleV2", "ParseSingleExample", "QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2",
    "ReaderReadV2", "DecodeCSV",
})  # fmt: skip
_AUDIO = frozenset({"DecodeWav", "AudioSpectrogram", "Mfcc", "EncodeWav", "RFFT2D", "IRFFT", "FFT", "STFT"})


def why_unknown(node: Node) -> Unsupported:
    """The reason for a node whose operator has no converter."""
    name = node.op
    if name in _CHOOSING:
        return Unsupported(CHOOSES, ENDS_BEFORE)
    if name in _RANDOM:
        need = "a graph saved for inference"
        return Unsupported("its result is random; a compiled network gives the same result every time", need)
    if name in _TABLES:
        return Unsupported("hash tables are not supported", "a network of numbers")
    if name in _STATE:
        why = "it changes a variable, which keeps its value from one frame to the next"
        return Unsupported(why, "a network without state")
    if name in _INPUT:
        return Unsupported("it reads or decodes files; the decoded tensor enters the device", "a start behind it")
    if name in _AUDIO:
        return Unsupported("it is signal processing, which runs on the host", "a start behind it")
    if name.startswith("String") or name in ("AsString", "RegexReplace", "StaticRegexReplace"):
        return Unsupported("strings are not supported", "a network of numbers")
    if name.startswith("Quantized") or name in ("QuantizeV2", "Dequantize"):
        why = "the model is quantized already; Headrace quantizes float models itself"
        return Unsupported(why, "the float model")
    if name in ("PyFunc", "EagerPyFunc", "PyFuncStateless"):
        return Unsupported("it calls Python code that is not in the file", "operators of TensorFlow")
    if "Dataset" in name or "Iterator" in name or "Queue" in name:
        return Unsupported("it is part of an input pipeline", "a start behind it")
    return Unsupported(f"the operator {name} is not supported")


__all__ = ["why_unknown"]
