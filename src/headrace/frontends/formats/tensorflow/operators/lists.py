# SPDX-License-Identifier: Apache-2.0
"""TensorArray and TensorList, which loops read and write: plain lists of tensors while the graph is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from headrace.frontends.formats.tensorflow.build import Operation, converts
from headrace.frontends.formats.tensorflow.states import Elements, Opaque
from headrace.frontends.graph import Unsupported

MAX_ELEMENTS = 1 << 14


def _list(operation: Operation, index: int) -> Elements:
    found = operation.inputs[index] if operation.has(index) else None
    if not isinstance(found, Elements):
        raise Unsupported(f"its input {index} is {getattr(found, 'what', 'no list of tensors')}", "a list of tensors")
    return found


def _count(operation: Operation, index: int) -> int:
    sizes = operation.integers(index, "the number of elements")
    if len(sizes) != 1 or not 0 <= sizes[0] <= MAX_ELEMENTS:
        raise Unsupported(f"a list of {sizes} tensors", f"at most {MAX_ELEMENTS}")
    return sizes[0]


def _place(operation: Operation, index: int, size: int) -> int:
    at = operation.integers(index, "the index")
    if len(at) != 1 or not 0 <= at[0] < size:
        raise Unsupported(f"element {at} of a list of {size}", "an element that is there")
    return at[0]


def _element(operation: Operation, elements: Elements, at: int) -> ir.Value:
    if elements.whole is not None:
        index = operation.make(np.array(at, np.int64))
        return operation.emit("Gather", [elements.whole, index], {"axis": 0})
    found = elements.items[at]
    if found is None:
        raise Unsupported(f"element {at} of a list is read before it is written", "one that is written")
    return found


def _written(elements: Elements, at: int, value: ir.Value, operation: Operation) -> Elements:
    items = list(elements.items) or [None] * elements.size
    if elements.whole is not None:
        items = [_element(operation, elements, i) if i != at else None for i in range(elements.size)]
    items[at] = value
    return Elements(elements.size, tuple(items))


def _stacked(operation: Operation, elements: Elements, places: list[int]) -> ir.Value:
    if elements.whole is not None and places == list(range(elements.size)):
        return elements.whole
    if not places or len(places) > 4096:
        raise Unsupported(f"a stack of {len(places)} tensors", "1 to 4096")
    axes = operation.list([0])
    parts = [operation.emit("Unsqueeze", [_element(operation, elements, i), axes], glue=True) for i in places]
    return operation.emit("Concat", parts, {"axis": 0})


def _spread(operation: Operation, index: int) -> Elements:
    """A list whose elements lie along the first dimension of operand ``index``."""
    size = operation.shape(index)[:1]
    if not size or size[0] > MAX_ELEMENTS:
        raise Unsupported(f"a list along a dimension of {size}", f"at most {MAX_ELEMENTS}")
    return Elements(size[0], whole=operation.value(index))


# --- TensorFlow 1 -----------------------------------------------------------------------------------------------------


@converts("TensorArrayV3")
def array(operation: Operation) -> None:
    size = _count(operation, 0)
    operation.done(Opaque("a TensorArray"), Elements(size, (None,) * size))


@converts("TensorArrayScatterV3")
def array_scatter(operation: Operation) -> None:
    indices, elements = operation.array(1, "the indices"), _list(operation, 3)
    if indices.dtype.kind not in "iu":
        raise Unsupported(f"indices of type {indices.dtype}", "integers")
    places = indices.reshape(-1).tolist()
    spread = _spread(operation, 2)
    if places == list(range(spread.size)) and spread.size >= elements.size:
        operation.done(spread)
        return
    for source, at in enumerate(places[: spread.size]):
        if not 0 <= at < elements.size:
            raise Unsupported(f"element {at} of a list of {elements.size}", "an element that is there")
        elements = _written(elements, at, _element(operation, spread, source), operation)
    operation.done(elements)


@converts("TensorArrayReadV3")
def array_read(operation: Operation) -> None:
    elements = _list(operation, 2)
    operation.done(_element(operation, elements, _place(operation, 1, elements.size)))


@converts("TensorArrayWriteV3")
def array_write(operation: Operation) -> None:
    elements, at = _list(operation, 3), operation.integers(1, "the index")
    if len(at) == 1 and elements.size <= at[0] < MAX_ELEMENTS:  # it may grow
        elements = replace(elements, size=at[0] + 1, items=(*elements.items, *[None] * (at[0] + 1 - elements.size)))
    operation.done(_written(elements, _place(operation, 1, elements.size), operation.value(2), operation))


@converts("TensorArrayGatherV3")
def array_gather(operation: Operation) -> None:
    elements, places = _list(operation, 2), operation.array(1, "the indices").reshape(-1).tolist()
    if any(not 0 <= p < elements.size for p in places):
        raise Unsupported(f"elements {places[:8]} of a list of {elements.size}", "elements that are there")
    operation.done(_stacked(operation, elements, places))


@converts("TensorArraySizeV3")
def array_size(operation: Operation) -> None:
    operation.done(operation.make(np.array(_list(operation, 1).size, np.int32)))


# --- TensorFlow 2 -----------------------------------------------------------------------------------------------------


@converts("TensorListReserve")
def reserve(operation: Operation) -> None:
    size = _count(operation, 1)
    operation.done(Elements(size, (None,) * size))


@converts("EmptyTensorList")
def empty(operation: Operation) -> None:
    operation.done(Elements(0))


@converts("TensorListFromTensor")
def from_tensor(operation: Operation) -> None:
    operation.done(_spread(operation, 0))


@converts("TensorListGetItem")
def get_item(operation: Operation) -> None:
    elements = _list(operation, 0)
    operation.done(_element(operation, elements, _place(operation, 1, elements.size)))


@converts("TensorListSetItem")
def set_item(operation: Operation) -> None:
    elements = _list(operation, 0)
    operation.done(_written(elements, _place(operation, 1, elements.size), operation.value(2), operation))


@converts("TensorListPushBack")
def push_back(operation: Operation) -> None:
    elements = _list(operation, 0)
    if elements.size >= MAX_ELEMENTS:
        raise Unsupported(f"a list of more than {MAX_ELEMENTS} tensors")
    items = tuple(_element(operation, elements, i) for i in range(elements.size))
    operation.done(Elements(elements.size + 1, (*items, operation.value(1))))


@converts("TensorListPopBack")
def pop_back(operation: Operation) -> None:
    elements = _list(operation, 0)
    if not elements.size:
        raise Unsupported("an element is taken from an empty list", "a list with elements")
    items = tuple(_element(operation, elements, i) for i in range(elements.size))
    operation.done(Elements(elements.size - 1, items[:-1]), items[-1])


@converts("TensorListStack")
def stack(operation: Operation) -> None:
    elements = _list(operation, 0)
    operation.done(_stacked(operation, elements, list(range(elements.size))))


@converts("TensorListGather")
def gather(operation: Operation) -> None:
    elements, places = _list(operation, 0), operation.array(1, "the indices").reshape(-1).tolist()
    if any(not 0 <= p < elements.size for p in places):
        raise Unsupported(f"elements {places[:8]} of a list of {elements.size}", "elements that are there")
    operation.done(_stacked(operation, elements, places))


@converts("TensorListLength")
def length(operation: Operation) -> None:
    operation.done(operation.make(np.array(_list(operation, 0).size, np.int32)))
