# SPDX-License-Identifier: Apache-2.0
"""Whether two networks are one up to the names of their layers: pairs found from the outputs backwards."""

from __future__ import annotations

import hashlib
import json

import numpy as np

#: Operations that do not mind the order of what they read.
COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum"})


def facts(layer):
    """What a layer is: kind, attributes that are not about its file, and shape."""
    own = {k: rounded(v) for k, v in layer.attributes.items() if not k.startswith("source_")}
    return layer.kind, json.dumps(own, sort_keys=True, default=str), tuple(layer.output_shape)


def rounded(value):
    """Numbers of a file's float32 arithmetic to six digits, also in lists and objects."""
    if isinstance(value, float):
        return float(f"{value:.5e}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def _fingerprints(network):
    """Layer → a hash of it and of all before it, whatever the names."""
    found = {}
    for layer in network:  # in topological order
        before = [found[name] for name in layer.inputs]
        if layer.kind in COMMUTATIVE:
            before.sort()
        found[layer.name] = hashlib.sha256(repr((facts(layer), before)).encode()).hexdigest()
    return found


def _by_outputs(first, second, marks):
    """The outputs of both in pairs: as they stand, or by what they are where the files list them otherwise."""
    ours, theirs = (n.net_params["output_layers_order"] for n in (first, second))
    if len(ours) != len(theirs):
        return None
    if [marks[0][n] for n in ours] == [marks[1][n] for n in theirs]:
        return list(zip(ours, theirs, strict=True))
    left, pairs = list(theirs), []
    for name in ours:
        match = next((n for n in left if marks[1][n] == marks[0][name]), None)
        if match is None:
            return list(zip(ours, theirs, strict=True))
        left.remove(match)
        pairs.append((name, match))
    return pairs


def pairs_of(first, second):
    """(pairs of layers, differences): the layers of two networks that stand for each other, and where that fails."""
    marks = _fingerprints(first), _fingerprints(second)
    waiting = _by_outputs(first, second, marks)
    if waiting is None:
        return {}, ["they have different numbers of outputs"]
    found, taken, problems = {}, set(), []
    while waiting and len(problems) < 10:
        a, b = waiting.pop()
        if found.get(a) == b:
            continue
        if a in found or b in taken:
            problems.append(f"{a} stands for {found.get(a)} and for {b}")
            continue
        found[a] = b
        taken.add(b)
        mine, other = first[a], second[b]
        if facts(mine) != facts(other) or len(mine.inputs) != len(other.inputs):
            problems.append(f"{a} {facts(mine)} ({mine.original_names}) / {b} {facts(other)} ({other.original_names})")
            continue
        inputs = list(other.inputs)
        if mine.kind in COMMUTATIVE:
            inputs = _aligned(mine.inputs, inputs, marks)
        waiting += zip(mine.inputs, inputs, strict=True)
    for network, names in ((first, set(found)), (second, taken)):
        missing = [layer.name for layer in network if layer.name not in names]
        if missing and not problems:
            problems.append(f"layers without a partner: {missing[:10]}")
    return found, problems


def _aligned(mine, others, marks):
    left, made = list(others), []
    for name in mine:
        match = next((n for n in left if marks[1][n] == marks[0][name]), left[0])
        left.remove(match)
        made.append(match)
    return made


def differences(first, second, tolerance=1e-5):
    """Everything in which two networks differ but names; parameters may differ by rounding.

    Args:
        first, second: native networks.
        tolerance: of parameters, as a part of the largest of an array.
    """
    pairs, problems = pairs_of(first, second)
    for a, b in pairs.items():
        mine, theirs = first[a].params, second[b].params
        if sorted(mine) != sorted(theirs):
            problems.append(f"{a} has parameters {sorted(mine)}, {b} {sorted(theirs)}")
            continue
        for key, array in mine.items():
            if array.shape != theirs[key].shape:
                problems.append(f"{a}.{key} has shape {array.shape}, {b}'s {theirs[key].shape}")
            elif array.size and np.abs(array - theirs[key]).max() > tolerance * max(np.abs(array).max(), 1e-30):
                problems.append(f"{a}.{key} and {b}'s differ by {np.abs(array - theirs[key]).max():.2g}")
    return problems
