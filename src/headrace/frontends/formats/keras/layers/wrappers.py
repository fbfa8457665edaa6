# SPDX-License-Identifier: Apache-2.0
"""TimeDistributed: a layer of each step by itself."""

from __future__ import annotations

from headrace.frontends.formats.keras.build import LayerCall, Tensor, converts
from headrace.frontends.formats.keras.config import read_wrapped
from headrace.frontends.graph import Unsupported

#: Steps that are written out, for layers that do not take them all at once.
MAX_STEPS = 64
#: Layers that see the last dimension only, whatever stands before it.
_LAST = frozenset({
    "Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Dropout", "GaussianNoise", "GaussianDropout", "Identity",
    "Rescaling",
})  # fmt: skip


@converts("TimeDistributed")
def time_distributed(call: LayerCall) -> Tensor:
    call.no_arguments("mask")
    x = call.x
    inner = read_wrapped(call.option("layer"), call.label, call.label)
    weights = call.weights.part(("layer",))
    if x.rank < 3:
        raise Unsupported(f"its input has rank {x.rank}", "rank 3 or more")
    last = inner.config.get("axis") in (-1, [-1]) and inner.kind in ("LayerNormalization", "BatchNormalization")
    if inner.kind in _LAST or last:
        return call.builder.apply(inner, weights, call.label, [x])[0]
    steps = x.size(1)
    if steps > MAX_STEPS:
        raise Unsupported(f"{inner.kind} of {steps} steps", f"at most {MAX_STEPS}, which are written out")
    parts = [x.value]
    if steps > 1:
        parts = list(call.emit_all("Split", [x.value, call.list([1] * steps)], {"axis": 1}, steps))
    axis, made = call.list([1]), list[Tensor]()
    for part in parts:
        step = Tensor(call.emit("Squeeze", [part, axis], glue=True), (x.shape[0], *x.shape[2:]))
        made += call.builder.apply(inner, weights, call.label, [step])[:1]
    rows = [call.emit("Unsqueeze", [t.value, axis], glue=True) for t in made]
    value = rows[0] if steps == 1 else call.emit("Concat", rows, {"axis": 1})
    return Tensor(value, (None, steps, *made[0].shape[1:]))


@converts("SpectralNormalization")
def spectral_normalization(call: LayerCall) -> Tensor:
    """What training stores is the kernel as it was divided last; nothing is divided again."""
    call.ignore("power_iterations")
    inner = read_wrapped(call.option("layer"), call.label, call.label)
    return call.builder.apply(inner, call.weights.part(("layer",)), call.label, call.tensors)[0]
