# SPDX-License-Identifier: Apache-2.0
"""Kernels, an allocation and a target into a program, and the HEF around it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from headrace.compiler.graph import Lowered, Stream
from headrace.hef.description import HefDescription, StreamDescription
from headrace.hef.kernel import Kernel
from headrace.hef.microcode import (
    NONE,
    BufferRecord,
    ContextRecord,
    KernelRecord,
    Program,
    StageRecord,
    TargetRecord,
    TensorRecord,
    TensorRole,
)
from headrace.mapping import AllocatedStage, Partition
from headrace.mapping.resources import MEMORY
from headrace.numerics.quantization import TensorQuantization
from headrace.targets import Target


def generate(lowered: Lowered, plan: Partition, target: Target) -> Program:
    """The program of one or several contexts.

    Args:
        lowered: the host's side of the network.
        plan: its stages, as they run.
        target: the device.
    """
    program = Program(target=TargetRecord())
    _target(program, target)
    index: dict[str, int] = {}
    outputs = {s.tensor: s.quantization for s in lowered.outputs}
    for stream in lowered.inputs:
        _tensor(program, index, stream.tensor, stream.shape, stream.quantization, TensorRole.INPUT)
    stages = [stage for context in plan.contexts for stage in context.allocation.stages]
    for stage in stages:
        kernel = stage.stage.lowered
        role = TensorRole.OUTPUT if kernel.name in outputs else TensorRole.INTERNAL
        _tensor(program, index, kernel.name, kernel.shape, outputs.get(kernel.name, kernel.output), role)
    position = {stage.name: i for i, stage in enumerate(stages)}
    for number, context in enumerate(plan.contexts):
        for stage in context.allocation.stages:
            program.kernels.append(_kernel(program, index, stage.stage.lowered, number))
        program.contexts.append(
            ContextRecord(
                first_kernel=context.first,
                kernel_count=context.last - context.first,
                weight_bytes=context.weight_bytes,
                cut_input_bytes=context.cut_input_bytes,
                cut_output_bytes=context.cut_output_bytes,
                batch=plan.batch,
            )
        )
        program.stages += [_stage(stage, context.first, i) for i, stage in enumerate(context.allocation.stages)]
        for buffer in context.allocation.buffers:
            consumer = NONE if buffer.consumer is None else position[buffer.consumer]
            program.buffers.append(BufferRecord(index[buffer.tensor], consumer, buffer.operand, buffer.rows))
    return program


def _target(program: Program, target: Target) -> None:
    program.set_target_texts(target.name, target.runs)
    for item in fields(TargetRecord):
        if not item.name.endswith(("_offset", "_length")):
            setattr(program.target, item.name, getattr(target, item.name))


def _tensor(
    program: Program,
    index: dict[str, int],
    name: str,
    shape: tuple[int, int, int],
    quantization: TensorQuantization,
    role: TensorRole,
) -> None:
    offset, length = program.add_string(name)
    index[name] = len(program.tensors)
    record = TensorRecord(
        offset,
        length,
        shape[0],
        shape[1],
        shape[2],
        quantization.bits // 8,
        int(role),
        zero_point=quantization.zero_point,
        scale=quantization.scale,
    )
    if role == TensorRole.OUTPUT and not quantization.uniform:
        # Inside, such codes are only copied, and nobody asks for their scales.
        record.scales_offset = program.add_constant(np.array(quantization.scales, np.float32))
        record.zeros_offset = program.add_constant(np.array(quantization.zero_points, np.int32))
    program.tensors.append(record)


def _kernel(program: Program, index: dict[str, int], kernel: Kernel, context: int) -> KernelRecord:
    offset, length = program.add_string(kernel.name)
    record = KernelRecord(
        offset, length, int(kernel.opcode), context, len(program.operands), len(kernel.inputs), index[kernel.name]
    )
    program.operands += [index[name] for name in kernel.inputs]
    kernel.write(record)
    for constant in kernel.constants:
        constant.role.write(record, program.add_constant(constant.array))
    return record


def _stage(stage: AllocatedStage, first: int, place: int) -> StageRecord:
    """The record of the stage at a place of a context that begins at stage ``first``."""
    option, use = stage.option, stage.use
    return StageRecord(
        kernel=first + place,
        cluster=stage.placed_on,
        controllers=use[0],
        shares=place - stage.root,
        subclusters=use[1],
        memory_units=use[MEMORY],
        column_slices=option.column_slices,
        feature_slices=option.feature_slices,
        subclusters_per_slice=option.subclusters_per_slice,
        rows=option.rows,
        engine_cycles_per_row=option.engine,
        input_bytes_per_frame=option.input_bytes,
        output_bytes_per_frame=option.output_bytes,
        join_bytes_per_frame=option.join_bytes,
    )


def describe(
    lowered: Lowered, contexts: int, fps: float, latency_ms: float, random_calibration: int = 0
) -> HefDescription:
    """The HEF's description; the figures are the closed form's. ``random_calibration``: frames of noise, if any."""
    streams = [_stream(s, "input") for s in lowered.inputs] + [_stream(s, "output") for s in lowered.outputs]
    return HefDescription(
        lowered.name,
        tuple(streams),
        contexts=contexts,
        bottleneck_fps=fps,
        latency_ms=latency_ms,
        random_calibration=random_calibration,
    )


def _stream(stream: Stream, direction: str) -> StreamDescription:
    vector = len(stream.layer.output_shape) == 2
    names = stream.layer.original_names or [n for n in [stream.layer.boundary.source_name] if n]
    return StreamDescription(
        name=stream.tensor,
        direction="input" if direction == "input" else "output",
        height=stream.shape[0],
        width=stream.shape[1],
        features=stream.shape[2],
        data_bytes=stream.quantization.bits // 8,
        scale=stream.quantization.scale,
        zero_point=stream.quantization.zero_point,
        limvals=stream.layer.output.calibrated if direction == "input" else None,
        original_names=tuple(names),
        order="NC" if vector else "NHWC",
        channel_scales=stream.quantization.scales,
        channel_zero_points=stream.quantization.zero_points,
    )
