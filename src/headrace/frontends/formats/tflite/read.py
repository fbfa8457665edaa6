# SPDX-License-Identifier: Apache-2.0
"""A TFLite file, untrusted, into plain checked records; nothing here knows what an operator means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from headrace.errors import Diagnostic, InputFileError
from headrace.frontends.formats.tflite import flexbuffer
from headrace.frontends.formats.tflite.flatbuffer import Buffer, DamagedError, Table
from headrace.frontends.formats.tflite.schema import (
    ACTIVATIONS,
    CUSTOM_OPTIONS,
    DETECTION,
    IDENTIFIER,
    NUMPY_TYPES,
    OPERATORS,
    OPTIONS,
    PADDINGS,
    TYPES,
    VERSION,
    Field,
)
from headrace.frontends.formats.tflite.sparse import Sparsity, dense, read_sparsity
from headrace.frontends.graph import MAX_TENSOR_ELEMENTS
from headrace.frontends.reader import Source, check_not_a_pointer, corrupt
from headrace.hn import Array

MAX_MODEL_BYTES = (2 << 30) - 1
MAX_OPERATORS = 20_000
MAX_TENSORS = 200_000
MAX_OPERANDS = 4096
MAX_CHANNELS = 1 << 20
MAX_RANK = 16
_MAX_PROBLEMS = 100
Option = int | float | str | list[int] | list[float]


@dataclass(frozen=True)
class Quantization:
    """How integers stand for reals: ``real = scale · (q − zero_point)``, one pair or one per index of an axis."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@dataclass
class Tensor:
    """One tensor of the graph.

    Attributes:
        index: its number in the file.
        name: as in the file, made unique.
        type: one of :data:`~headrace.frontends.formats.tflite.schema.TYPES`, or ``type<n>``.
        shape: sizes; -1 where the file leaves one open.
        data: the bytes of a constant, else None.
        quantization: for integer types that stand for reals.
        variable: it keeps its value from one run to the next.
        sparsity: how its bytes are spread over the tensor, where it is stored sparse.
    """

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    data: memoryview | None = None
    quantization: Quantization | None = None
    variable: bool = False
    sparsity: Sparsity | None = None

    def array(self) -> Array:
        """The constant as the file stores it, not copied unless it is sparse; its size was checked when it was read.

        Raises:
            DamagedError: it is sparse, and its indices do not fit its shape.
        """
        assert self.data is not None
        stored = np.frombuffer(self.data, NUMPY_TYPES[self.type])
        return stored.reshape(self.shape) if self.sparsity is None else dense(self.sparsity, self.shape, stored)


@dataclass
class Operator:
    """One operator; ``inputs`` and ``outputs`` are tensor numbers, -1 for an input that is absent."""

    index: int
    name: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Option] = field(default_factory=dict)


@dataclass
class Model:
    """A graph of a file, every reference in it checked; operators stand in the order they run.

    Attributes:
        where: the file.
        description: of the file.
        tensors: by their numbers.
        inputs, outputs: numbers of tensors.
        operators: in the order they run.
        graphs: all graphs of the file, the main one first; operators name others by their numbers.
        bytes: size of the file.
    """

    where: str
    description: str
    tensors: list[Tensor]
    inputs: list[int]
    outputs: list[int]
    operators: list[Operator]
    graphs: list[Model] = field(repr=False)
    bytes: int


def _bad(where: str, rule: str, got: object = "", need: str = "", *levers: str) -> Diagnostic:
    return corrupt("tflite", where, rule, got, need, *levers)


class _Reader:
    """State of one reading: the file, and the problems found so far."""

    def __init__(self, data: bytes, where: str) -> None:
        self.file = Buffer(data)
        self.data, self.where = data, where
        self.problems: list[Diagnostic] = []

    def problem(self, place: str, rule: str, got: object = "", need: str = "") -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(_bad(f"{self.where}, {place}", rule, got, need))

    # --- tensors -------------------------------------------------------------------------------------------------

    def buffers(self, model: Table) -> list[memoryview | None]:
        """The bytes of each buffer; None where it has none."""
        found: list[memoryview | None] = []
        for index, table in enumerate(model.tables(4, MAX_TENSORS, "buffers")):
            data = table.data(0)
            offset, size = table.integer(1, "u64"), table.integer(2, "u64")
            if offset > 1:  # data behind the FlatBuffer, as in files above 2 GiB
                if offset + size > len(self.data):
                    self.problem(f"buffer {index}", "its data lies outside of the file", f"{offset} + {size}")
                else:
                    data = memoryview(self.data)[offset : offset + size]
            found.append(data if data is not None and len(data) else None)
        return found

    def _quantization(self, table: Table | None, place: str, shape: tuple[int, ...]) -> Quantization | None:
        if table is None:
            return None
        scale = tuple(float(s) for s in table.numbers(2, "f32", MAX_CHANNELS))
        if not scale:
            return None
        zero = tuple(table.integers(3, MAX_CHANNELS, "i64")) or (0,) * len(scale)
        axis = table.integer(6, "i32")
        if len(zero) == 1:
            zero *= len(scale)
        fits = len(scale) == 1 or (0 <= axis < len(shape) and shape[axis] == len(scale))
        if len(zero) != len(scale) or not fits or not all(map(math.isfinite, scale)):
            self.problem(
                place, "its scales do not fit it", f"{len(scale)} scales, {len(zero)} zero points, axis {axis}"
            )
            return None
        return Quantization(scale, zero, axis)

    def tensor(self, table: Table, index: int, name: str, buffers: list[memoryview | None]) -> Tensor:
        place = f"tensor {name!r}"
        number = table.integer(1, "i8")
        kind = TYPES[number] if 0 <= number < len(TYPES) else f"type{number}"
        shape, signature = table.integers(0, MAX_RANK), table.integers(7, MAX_RANK)
        if any(s < 0 for s in shape) or math.prod(shape) > 1 << 31:
            self.problem(place, "its sizes are not valid", shape, "sizes ≥ 0, at most 2^31 elements")
            shape = [1]
        if signature and len(signature) == len(shape):
            shape = [-1 if s < 0 else n for n, s in zip(shape, signature, strict=True)]
        made = Tensor(index, name, kind, tuple(shape), variable=bool(table.integer(5, "bool")))
        made.quantization = self._quantization(table.table(4), place, made.shape)
        sparsity = table.table(6)
        if sparsity is not None:
            made.sparsity = read_sparsity(sparsity)
        buffer = table.integer(2, "u32")
        if buffer >= len(buffers):
            self.problem(place, "it names a buffer that does not exist", buffer, f"below {len(buffers)}")
        elif buffers[buffer] is not None:
            self._attach(made, buffers[buffer], place)
        elif buffer and 0 in made.shape:
            made.data = memoryview(b"")
        return made

    def _attach(self, tensor: Tensor, data: memoryview | None, place: str) -> None:
        """Give a tensor its constant, after checking that the sizes agree."""
        dtype = NUMPY_TYPES.get(tensor.type)
        if dtype is not None and tensor.sparsity is not None:
            if -1 in tensor.shape or data is None or len(data) % dtype.itemsize:
                self.problem(place, "its data does not fit its type", f"{len(data or b'')} bytes of {tensor.type}")
                return
        elif dtype is not None:
            need = math.prod(tensor.shape) * dtype.itemsize
            if -1 in tensor.shape or data is None or len(data) != need:
                got = f"{len(data or b'')} bytes for {list(tensor.shape)} of {tensor.type}"
                self.problem(place, "its data does not fit its type and shape", got, f"{need} bytes")
                return
        tensor.data = data

    def tensors(self, graph: Table, buffers: list[memoryview | None]) -> list[Tensor]:
        found: list[Tensor] = []
        used: set[str] = set()
        for index, table in enumerate(graph.tables(0, MAX_TENSORS, "tensors")):
            name = table.string(3) or f"tensor_{index}"
            if name in used:
                name = f"{name}#{index}"
            used.add(name)
            found.append(self.tensor(table, index, name, buffers))
        return found

    # --- operators -----------------------------------------------------------------------------------------------

    def codes(self, model: Table) -> list[str]:
        """The name of each operator code; custom ones are ``CUSTOM:<name>``."""
        names: list[str] = []
        for table in model.tables(1, MAX_OPERATORS, "operator codes"):
            number = max(table.integer(0, "i8"), table.integer(3, "i32"))
            name = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"OPERATOR_{number}"
            names.append(f"CUSTOM:{table.string(1)[:100]}" if name == "CUSTOM" else name)
        return names

    def _option(self, table: Table, spec: Field) -> Option:
        match spec.kind:
            case "i32s" | "i64s":
                return table.integers(spec.slot, MAX_RANK, spec.kind[:-1])
            case "f32s":
                return [float(v) for v in table.numbers(spec.slot, "f32", MAX_OPERANDS)]
            case "text":
                return table.string(spec.slot)
            case "padding" | "activation":
                names = PADDINGS if spec.kind == "padding" else ACTIVATIONS
                number = table.integer(spec.slot, "i8")
                if not 0 <= number < len(names):
                    raise DamagedError(f"{spec.kind} {number} is not one of {', '.join(names)}")
                return names[number]
            case "f32":
                return float(table.scalar(spec.slot, "f32", spec.default))
            case _:
                return table.integer(spec.slot, spec.kind, int(spec.default))

    def options(self, table: Table, name: str) -> dict[str, Option]:
        """The options of an operator; all defaults when it has no options table."""
        if name == DETECTION:
            data = table.data(5)
            return {**flexbuffer.numbers(bytes(data))} if data else {}
        if name in CUSTOM_OPTIONS:
            return self._custom_options(table, name)
        spec = OPTIONS.get(name)
        if spec is None:
            return {}
        slot = 11 if spec.second else 3
        number, options = table.integer(slot, "u8"), table.table(slot + 1)
        if options is None or number == 0:
            defaults: dict[str, Option] = {}
            for key, entry in spec.fields.items():
                words: dict[str, Option] = {"padding": PADDINGS[0], "activation": ACTIVATIONS[0], "i32s": []}
                words |= {"i64s": [], "f32s": [], "text": ""}
                defaults[key] = words.get(entry.kind, entry.default)
            return defaults
        if number != spec.number:
            raise DamagedError(f"its options are of kind {number}, not {spec.number}")
        return {key: self._option(options, entry) for key, entry in spec.fields.items()}

    @staticmethod
    def _custom_options(table: Table, name: str) -> dict[str, Option]:
        """The options of a custom operator that is known; padding 1 and 2 are SAME and VALID."""
        keys, data = CUSTOM_OPTIONS[name], table.data(5) or b""
        if len(data) < 4 * len(keys):
            raise DamagedError(f"its options have {len(data)} bytes; {4 * len(keys)} are needed")
        numbers = np.frombuffer(data, "<i4", len(keys)).tolist()
        options: dict[str, Option] = dict(zip(keys, numbers, strict=True))
        if "padding" in options:
            if options["padding"] not in (1, 2):
                raise DamagedError(f"padding {options['padding']} is not 1 (SAME) or 2 (VALID)")
            options["padding"] = PADDINGS[numbers[keys.index("padding")] - 1]
        return options

    def operators(self, graph: Table, codes: list[str], tensors: list[Tensor]) -> list[Operator]:
        found: list[Operator] = []
        for index, table in enumerate(graph.tables(3, MAX_OPERATORS, "operators")):
            code = table.integer(0, "u32")
            if code >= len(codes):
                self.problem(f"operator {index}", "it names an operator code that does not exist", code)
                continue
            name = codes[code]
            place = f"operator {index} ({name})"
            inputs, outputs = table.integers(1, MAX_OPERANDS), table.integers(2, MAX_OPERANDS)
            if any(not -1 <= i < len(tensors) for i in inputs) or any(not 0 <= i < len(tensors) for i in outputs):
                self.problem(place, "it names a tensor that does not exist", [*inputs, *outputs][:20])
                continue
            try:
                options = self.options(table, name)
            except DamagedError as error:
                self.problem(place, "its options are damaged", error)
                continue
            found.append(Operator(index, name, inputs, outputs, options))
        return found

    def check_order(self, model: Model) -> None:
        """Every tensor is defined once, before it is read."""
        tensors = model.tensors
        defined = [t.data is not None or t.variable for t in tensors]
        for index in model.inputs:
            if tensors[index].data is not None:
                self.problem(f"input {tensors[index].name!r}", "an input is a constant or is listed twice")
            elif defined[index] and not tensors[index].variable:
                self.problem(f"input {tensors[index].name!r}", "an input is listed twice")
            defined[index] = True
        for operator in model.operators:
            place = f"operator {operator.index} ({operator.name})"
            for index in operator.inputs:
                if index >= 0 and not defined[index]:
                    self.problem(place, "it reads a tensor that nothing before it defines", tensors[index].name)
            for index in operator.outputs:
                if defined[index]:
                    self.problem(place, "it writes a tensor that is defined already", tensors[index].name)
                defined[index] = True
        for index in model.outputs:
            if not defined[index]:
                self.problem(f"output {tensors[index].name!r}", "nothing defines this output")

    def model(self) -> Model:
        root = self.file.root()
        version = root.integer(0, "u32")
        if version != VERSION:
            raise DamagedError(f"its schema has version {version}; version {VERSION} is read")
        graphs = root.tables(2, MAX_OPERATORS, "subgraphs")
        if not graphs:
            raise DamagedError("it holds no graph")
        codes = self.codes(root)
        buffers, made, description = self.buffers(root), list[Model](), root.string(3)[:100]
        for graph in graphs:
            made.append(self.graph(graph, codes, buffers, description, made))
        if not made[0].outputs and not self.problems:
            raise DamagedError("the graph has no output")
        return made[0]

    def graph(
        self, table: Table, codes: list[str], buffers: list[memoryview | None], description: str, all_: list[Model]
    ) -> Model:
        """One graph of the file."""
        tensors = self.tensors(table, buffers)
        inputs, outputs = table.integers(1, MAX_OPERANDS), table.integers(2, MAX_OPERANDS)
        if any(not 0 <= i < len(tensors) for i in [*inputs, *outputs]):
            raise DamagedError("an input or output of the graph is a tensor that does not exist")
        operators = self.operators(table, codes, tensors)
        made = Model(self.where, description, tensors, inputs, outputs, operators, all_, len(self.data))
        if not self.problems:
            self.check_order(made)
        for tensor in tensors:
            if math.prod(max(s, 1) for s in tensor.shape) > MAX_TENSOR_ELEMENTS:
                self.problem(f"tensor {tensor.name!r}", "it is too large", list(tensor.shape))
        return made


def read_records(source: Source) -> Model:
    """Read a TFLite model.

    Raises:
        InputFileError: missing, not TFLite, damaged or inconsistent; all inconsistencies are listed.
    """
    where, data = source.where("TFLite model"), source.bytes("TFLite model", MAX_MODEL_BYTES)
    hint = "convert the model to TFLite again"
    check_not_a_pointer("tflite", data, where, "a TFLite model", hint)
    if data[4:8] != IDENTIFIER:
        raise InputFileError(
            _bad(where, "it is not a TFLite model", data[:16].hex(" "), "'TFL3' in bytes 4 to 7", hint)
        )
    reader = _Reader(data, where)
    try:
        model = reader.model()
    except DamagedError as error:
        raise InputFileError(
            [_bad(where, "the model is damaged", error, "a valid TFLite model", hint), *reader.problems]
        ) from None
    if reader.problems:
        raise InputFileError(reader.problems)
    return model


__all__ = ["Model", "Operator", "Option", "Quantization", "Tensor", "read_records"]
