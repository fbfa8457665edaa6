# SPDX-License-Identifier: Apache-2.0
"""The accuracy gate: which outputs, parts and layers lose too much, and what in the network makes them lose it.

Every output and every part of one must reach ``min_snr`` about the mean. Beside that nothing may be dead: one or two
codes where float varies, at less than 10 dB (a mask of two values has two codes and loses nothing). A layer inside the
network that is dead fails where what it lost is predicted to put an output below 20 dB by itself; one that hardly
matters, such as a ReLU that is nearly always zero, does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from headrace.errors import AccuracyError, Diagnostic
from headrace.hn import Network
from headrace.hn.value import Wish
from headrace.layers import Activated, ScaleRule
from headrace.optimize.measure.noise import FEW_CODES, MASK_DB, PartNoise
from headrace.optimize.measure.output_parts import place_text
from headrace.optimize.measure.sensitivity import Sensitivity
from headrace.optimize.measure.snr import Comparison, Measured
from headrace.optimize.options import OptimizeResult
from headrace.optimize.scales.ranges import ScaleGroups, has_meant_range
from headrace.optimize.trial import Trial

#: A dead layer fails where its loss alone is predicted to give the outputs this noise-to-signal ratio (20 dB).
MATTERS = 0.01
#: Layers with dead codes that are named.
MOST_NAMED = 5
#: A function's codes reach this many times further than the data: they never show what it is for (a detector's scores
#: without an object).
SELDOM = 20.0
#: A layer's range lies far from zero where its middle is this many times its width away.
FAR = 2.0


@dataclass
class Gate:
    """What is judged.

    Attributes:
        trial: the network that was chosen.
        measured: it, against float.
        groups: tensors that share a scale.
    """

    trial: Trial
    measured: Measured
    groups: ScaleGroups

    @property
    def suspects(self) -> list[str]:
        """Layers that compute and have one or two codes where float varies and loses by it."""
        return [
            name
            for name, comparison in self.measured.layers.items()
            if self._computes(name) and not self._decides(name) and dead(comparison)
        ]

    def dead_layers(self, found: Mapping[str, Sensitivity]) -> dict[str, float]:
        """Dead layers that matter → predicted noise-to-signal ratio at the outputs.

        Args:
            found: sensitivities of the float network; needed where there are :attr:`suspects`.
        """
        result: dict[str, float] = {}
        for name in self.suspects:
            whole = self.measured.layers[name].whole
            if name in found:
                ratio = float(found[name].channels.sum()) * whole.noise / max(whole.count, 1.0)
                if ratio >= MATTERS:
                    result[name] = ratio
        return result

    def problems(self, min_snr: float, dead_layers: Mapping[str, float]) -> list[Diagnostic]:
        """What is not accurate enough; with ``min_snr`` 0, only what is dead."""
        found: list[Diagnostic] = []
        for name, output in self.measured.outputs.items():
            parts = output.measured()
            bad = [part for part in parts if part.dead or part.judged_db < min_snr]
            found += [self._part_problem(part, len(parts) > 1, min_snr) for part in bad]
            whole = output.snr_db
            if not bad and whole is not None and whole < min_snr:
                rule = "the quantized output is too far from float"
                found.append(Diagnostic("E-OPTIMIZE-SNR", name, rule, f"{whole:.1f} dB", f"≥ {min_snr:g} dB"))
        first = [name for name in dead_layers if not dead_layers.keys() & _before(self.trial.prepared, name)]
        found += [self._layer_problem(name, dead_layers[name]) for name in first[:MOST_NAMED]]
        return found

    def _part_problem(self, part: PartNoise, several: bool, min_snr: float) -> Diagnostic:
        shape = self.measured.outputs[part.output].cells.shape
        place = place_text(part.part, shape)
        where = f"{part.output}, part {part.part.name}{f' {place}' if place else ''}" if several else part.output
        snr = f"{part.judged_db:.1f} dB"
        if part.dead:
            codes = "one code is" if part.codes == 1 else f"{part.codes} codes are"
            rule = f"{codes} left of values that vary by {part.whole.spread:.3g}"
        elif not part.varies:
            rule = "a constant part of the output is too far from float"
        else:
            rule = "the quantized output is too far from float" + (" in this part" if several else "")
        need = f"≥ {min_snr:g} dB about the mean" if min_snr > 0 else "more than two codes"
        cause, levers = self._cause(part)
        return Diagnostic("E-OPTIMIZE-SNR", where, rule, f"{snr}; {cause}", need, levers)

    def _layer_problem(self, name: str, ratio: float) -> Diagnostic:
        comparison = self.measured.layers[name]
        codes = "one code is" if comparison.distinct_codes == 1 else f"{comparison.distinct_codes} codes are"
        rule = f"{codes} left of a layer that varies by {comparison.whole.spread:.3g} and decides the outputs"
        got = f"its loss alone makes {100 * ratio:.0f} % noise at the outputs; {self._scale_text(name)}"
        return Diagnostic("E-OPTIMIZE-DEAD", name, rule, got, "more than two codes", self._levers(name))

    def _cause(self, part: PartNoise) -> tuple[str, tuple[str, ...]]:
        """The layer at which most is lost on the way to a part, and levers."""
        layers = self.measured.layers
        name = _most_lost(self.trial.prepared, layers, part.part.layer)
        at_output = self.trial.tensors[part.output]
        step = float(np.max(at_output.steps))
        own = layers[part.part.layer].whole.snr_db if part.part.layer in layers else None
        if name is None or (own is not None and part.judged_db < own - 6.0):
            low, high = part.whole.low, part.whole.high
            text = f"the part's range is [{low:.4g}, {high:.4g}], the output's codes are {step:.3g} wide"
            return text, self._levers(part.output)
        lost = layers[name].whole.snr_db
        return f"most is lost at {name} ({lost:.1f} dB there): {self._scale_text(name)}", self._levers(name)

    def _scale_text(self, name: str) -> str:
        """The scale of a layer's tensor and the ranges it serves."""
        ranges = self.trial.statistics.ranges.output
        tensor = self.trial.tensors[name]
        own = ranges[name]
        text = f"its range is [{own[0]:.4g}, {own[1]:.4g}], its codes are {float(np.max(tensor.steps)):.3g} wide"
        width = own[1] - own[0]
        wider = [
            other
            for other in self._group(name)
            if other != name and self._computes(other) and ranges[other][1] - ranges[other][0] > 2 * width
        ]
        if wider:
            listed = ", ".join(f"{n} [{ranges[n][0]:.4g}, {ranges[n][1]:.4g}]" for n in wider[:3])
            text += f" because it shares them with {listed}"
        return text

    def _levers(self, name: str) -> tuple[str, ...]:
        low, high = self.trial.statistics.ranges.output[name]
        levers: list[str] = []
        network = self.trial.prepared
        covered = self.trial.tensors[name].limits
        if name in network.layers and has_meant_range(network, network[name]) and covered[1] > SELDOM * high > 0:
            levers.append(
                f"its codes reach to {covered[1]:.3g}, the data to {high:.3g}: give calibration data that fill it"
            )
        elif low * high > 0 and min(abs(low), abs(high)) > FAR * (high - low):
            near = min(abs(low), abs(high)) * (1 if low > 0 else -1)
            levers.append(f"take the constant {near:.4g} out of the model here, and add it to its outputs on the host")
        levers.append("`headrace profile` on the HAR shows the SNR of every layer")
        levers.append("--min-snr 0 accepts any accuracy")
        return tuple(levers)

    def _group(self, name: str) -> list[str]:
        return self.groups.members().get(self.groups.find(name), [])

    def _computes(self, name: str) -> bool:
        network = self.trial.prepared
        if name not in network.layers or network[name].operation.scale_rule is not ScaleRule.OWN:
            return False
        return not _counts(network[name].output.wish)

    def _decides(self, name: str) -> bool:
        """Whether a layer tells values apart (a comparison, a rounding): it has two codes by its meaning, and no
        derivative predicts what a wrong one does; the outputs, which are measured, do.
        """
        operation = self.trial.prepared[name].operation
        return isinstance(operation, Activated) and operation.function.jumps


def _counts(wish: Wish | None) -> bool:
    """Whether the codes of a tensor are whole numbers that it holds, few or many: places, bytes."""
    if wish is None or wish.bits is None or wish.range is None:
        return False
    return wish.range[1] - wish.range[0] == (1 << wish.bits) - 1


def dead(comparison: Comparison) -> bool:
    """Whether one or two codes are left of a layer that varies, and they are not all there is."""
    whole = comparison.whole
    snr = whole.snr_db
    few = min(comparison.distinct_codes, whole.codes) <= FEW_CODES
    return few and whole.basis != "constant" and snr is not None and snr < MASK_DB


def _most_lost(network: Network, layers: Mapping[str, Comparison], end: str) -> str | None:
    """Among a layer and those before it, the one whose SNR lies furthest below that of its noisiest input."""

    def snr(name: str) -> float:
        value = layers[name].whole.snr_db if name in layers else None
        return 120.0 if value is None else value

    seen = {end, *_before(network, end)} if end in network.layers else set[str]()
    best: tuple[float, str] | None = None
    for layer in network:
        if layer.name in seen and layer.name in layers and layer.inputs:
            drop = min((snr(name) for name in layer.inputs), default=120.0) - snr(layer.name)
            if best is None or drop > best[0]:
                best = drop, layer.name
    return None if best is None or best[0] <= 0 else best[1]


def _before(network: Network, name: str) -> set[str]:
    """All layers that a layer's value depends on."""
    waiting, seen = [name], set[str]()
    while waiting:
        for one in network[waiting.pop()].inputs:
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return seen


def check(gate: Gate, result: OptimizeResult, min_snr: float) -> OptimizeResult:
    """The result, with what is dead among its report's warnings where ``min_snr`` is 0.

    Of a quantized file all problems are warnings: its codes were chosen by whoever made it, and the device keeps to
    them; what they lose against float is the file's own.

    Raises:
        AccuracyError: something is not accurate enough and ``min_snr`` is not 0; the result is attached.
    """
    problems = gate.problems(min_snr, result.report.dead_layers)
    stated = result.report.from_file is not None
    if min_snr <= 0 or stated:
        advice = "; the file states these codes, --requantize chooses others" if stated else ""
        warnings = [f"{p.where}: {p.rule} ({p.got}{advice})" for p in problems]
        return replace(result, report=replace(result.report, warnings=(*result.report.warnings, *warnings)))
    if problems:
        raise AccuracyError(problems, result)
    return result


__all__ = ["Gate", "check", "dead"]
