# SPDX-License-Identifier: Apache-2.0
"""Whether a node is what the ONNX standard says its operator is: attributes by name and type, numbers of operands.

What a node states beyond that would be dropped, and with it a meaning that somebody wrote down.
"""

from __future__ import annotations

import functools

import onnx
import onnx_ir as ir

from headrace.errors import did_you_mean
from headrace.frontends.graph import Unsupported, attributes_read
from headrace.typeguards import is_tuple

_ANY = 1 << 30
#: Characters of an Einsum's equation: some operands of as many dimensions as there are letters.
LONGEST_EQUATION = 1024
_NAMES = {kind.number: kind.name for kind in onnx.AttributeProto.DESCRIPTOR.enum_types_by_name["AttributeType"].values}


@functools.lru_cache(maxsize=4096)
def schema_of(operator: str, opset: int) -> onnx.defs.OpSchema | None:
    """The standard's definition of an operator at an operator set; the newest where it came later; None if unknown."""
    for version in (opset, onnx.defs.onnx_opset_version()):
        try:
            return onnx.defs.get_schema(operator, version, "")
        except onnx.defs.SchemaError:
            continue
    return None


def nonconforming(node: onnx.NodeProto, opset: int) -> Unsupported | None:
    """What about a node of the default domain is not as the standard defines it, or None.

    Args:
        node: as the file has it.
        opset: the file's operator set.
    """
    schema = schema_of(node.op_type, opset)
    if schema is None or schema.deprecated:
        return None
    return _attributes(node, schema) or _operands(node, schema)


def _attributes(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> Unsupported | None:
    known = schema.attributes
    for attribute in node.attribute:
        if attribute.name not in known:
            close = did_you_mean(attribute.name, known)
            return Unsupported(
                f"it has an attribute {attribute.name[:80]!r}, which {node.op_type} of operator set "
                f"{schema.since_version} does not have",
                f"of {', '.join(sorted(known)) or 'none'}",
                (f"did you mean {' or '.join(repr(c) for c in close)}?",) if close else (),
            )
        wanted = int(known[attribute.name].type)  # pyright: ignore[reportArgumentType]
        if attribute.type != wanted:
            return Unsupported(
                f"attribute {attribute.name!r} is {_NAMES.get(attribute.type, attribute.type)}", _NAMES[wanted]
            )
    given = {a.name for a in node.attribute}
    missing = [name for name, a in sorted(known.items()) if a.required and name not in given]
    return (
        Unsupported(f"its attribute {missing[0]!r} is missing", "every attribute without a default")
        if missing
        else None
    )


def _operands(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> Unsupported | None:
    for what, names, least, most in (
        ("inputs", node.input, schema.min_input, schema.max_input),
        ("outputs", node.output, schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most:
            upper = "or more" if most >= _ANY else f"to {most}" if most > least else ""
            return Unsupported(f"it has {len(names)} {what}", f"{least} {upper}".rstrip())
    return None


#: Operators whose operands may be absent in practice where a version of the standard asks for them.
_LENIENT = frozenset({"Resize"})


def grows_without_limit(node: onnx.NodeProto) -> bool:
    """Whether the onnx package's inference would take time or memory by a number or a text that the node states."""
    if node.op_type == "Split":
        return any(a.name == "num_outputs" and a.i != len(node.output) for a in node.attribute)
    return node.op_type == "Einsum" and any(len(a.s) > LONGEST_EQUATION for a in node.attribute)


def has_negative_size(kind: onnx.TypeProto) -> bool:
    """Whether a tensor's type states a size below 0, as inference makes them of a window larger than what it is in.

    The onnx package's inference of Slice ends the process where it meets one.
    """
    return any(d.HasField("dim_value") and d.dim_value < 0 for d in kind.tensor_type.shape.dim)


def absent_operand(node: onnx.NodeProto, opset: int) -> int | None:
    """The first operand that the standard asks for and that has no name, or None.

    The onnx package's own shape inference and definitions read such an operand without looking, and end the process.

    Args:
        node: of the default domain.
        opset: the file's operator set.
    """
    schema = schema_of(node.op_type, opset)
    if schema is None or node.op_type in _LENIENT:
        return None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    named = zip(schema.inputs, node.input, strict=False)
    return next((i for i, (given, name) in enumerate(named) if given.option == single and not name), None)


#: Attributes that say nothing of the result, or nothing in the form in which the operator is translated.
_NEUTRAL: dict[str, frozenset[str]] = {
    "AveragePool": frozenset({"pads"}),  # beside auto_pad, which decides alone
    "BatchNormalization": frozenset({"momentum", "spatial"}),
    "Cast": frozenset({"saturate", "round_mode"}),
    "CastLike": frozenset({"saturate", "round_mode"}),
    "Concat": frozenset({"axis"}),  # of one input
    "Conv": frozenset({"pads"}),
    "ConvTranspose": frozenset({"pads"}),
    "DequantizeLinear": frozenset({"axis"}),  # of one scale for all
    "Dropout": frozenset({"ratio", "seed"}),
    "Gemm": frozenset({"beta"}),  # without a bias
    "GroupNormalization": frozenset({"stash_type"}),
    "LayerNormalization": frozenset({"stash_type"}),
    "MaxPool": frozenset({"pads"}),
    "RMSNormalization": frozenset({"stash_type"}),
    "Range": frozenset({"stash_type"}),
    "Resize": frozenset(
        {"cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy", "nearest_mode"}
    ),  # each read by the mode that it belongs to
}
_REDUCING = frozenset({"keepdims", "noop_with_empty_axes"})  # where nothing is reduced, and beside axes


def check_attributes_read(node: ir.Node) -> None:
    """After a node was translated: every attribute that it states was asked for, or means nothing.

    Raises:
        Unsupported: an attribute with another value than the default had no part in the translation.
    """
    read = attributes_read(node)
    neutral = _REDUCING if node.op_type.startswith("Reduce") else _NEUTRAL.get(node.op_type, frozenset())
    unread = sorted(name for name in node.attributes if name not in read and name not in neutral)
    if not unread or node.op_type == "Constant":
        return
    schema = schema_of(node.op_type, onnx.defs.onnx_opset_version())
    for name in unread:
        default = schema.attributes[name].default_value if schema is not None and name in schema.attributes else None
        if default is None or not _equal(node.attributes[name].value, default):
            raise Unsupported(f"attribute {name!r} is not acted on", f"{node.op_type} without it")


def _equal(value: object, default: onnx.AttributeProto) -> bool:
    if default.type == onnx.AttributeProto.UNDEFINED:
        return False
    standard = onnx.helper.get_attribute_value(default)
    if isinstance(standard, bytes):
        return value == standard.decode("utf-8", "replace")
    return list(value) == list(standard) if is_tuple(value) else value == standard
