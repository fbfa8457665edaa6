# SPDX-License-Identifier: Apache-2.0
"""Types of native/bindings/module.cpp; a test compares them with the module."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

class Problem(NamedTuple):
    """One problem of a failed call, as data; a text is empty where there is nothing to say."""

    code: str
    where: str
    rule: str
    got: str
    need: str
    lever: str

class NativeError(RuntimeError):
    """A failed call of the native library: ``status`` is its number, ``problems`` say what, where, got and need."""

    status: int
    problems: tuple[Problem, ...]
    def __init__(self, status: int, problems: tuple[Problem, ...]) -> None: ...

class StreamInfo(TypedDict):
    name: str
    height: int
    width: int
    channels: int
    element_bytes: int
    order: str
    scale: float
    zero_point: int
    channel_scales: tuple[float, ...]
    channel_zero_points: tuple[int, ...]

class LayerInfo(TypedDict):
    name: str
    shape: tuple[int, int, int]
    element_bytes: int
    opcode: int

class HostProfile(TypedDict):
    frames: int
    nanoseconds: list[int]

class ContextTiming(TypedDict):
    reload_cycles: int
    switch_cycles: int
    first_frame_cycles: int
    run_cycles: int
    link_busy_cycles: int
    ahead_cycles: int
    overrun_cycles: int

class StageTiming(TypedDict):
    name: str
    rows: int
    busy_cycles: int
    engine_cycles: int
    input_port_cycles: int
    output_port_cycles: int
    cycles_per_frame: int
    stall_input_cycles: int
    stall_output_cycles: int

class Timing(TypedDict):
    fps: float
    latency_ms: float
    cycles_per_frame: int
    latency_cycles: int
    clock_hz: int
    link_busy_cycles: int
    frames_simulated: int
    steady: bool
    batch: int
    contexts: list[ContextTiming]
    bottleneck: str
    stages: list[StageTiming]

class Device:
    def __init__(
        self, arch: str | None = None, threads: int = 0, kernels: str | None = None, runs: str | None = None
    ) -> None: ...
    @property
    def arch(self) -> str: ...
    @property
    def kernels(self) -> str: ...
    @property
    def threads(self) -> int: ...
    def load(self, hef: bytes) -> Network: ...

class Network:
    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> list[StreamInfo]: ...
    @property
    def outputs(self) -> list[StreamInfo]: ...
    @property
    def layers(self) -> list[LayerInfo]: ...
    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]: ...
    def infer_float(self, inputs: dict[str, Array]) -> dict[str, Array]: ...
    def infer_all(self, inputs: dict[str, Array]) -> dict[str, Array]: ...
    def submit(
        self,
        inputs: dict[str, Array],
        floats: bool,
        done: Callable[[int, tuple[Problem, ...], dict[str, Array]], object],
    ) -> None:
        """Run later; done(status, problems, outputs) is called once, from another thread."""
    def set_queue_size(self, frames: int) -> None: ...
    def cancel_all(self) -> None: ...
    def set_host_profiling(self, enabled: bool) -> None:
        """Count this computer's time by layer from zero, or stop counting."""
    def host_profile(self) -> HostProfile:
        """Frames counted, and nanoseconds of each layer in the order of `layers`."""
    def timing(self) -> Timing: ...

class PostprocessInfo(TypedDict):
    family: str
    classes: int
    image: tuple[int, int]
    max_per_class: int
    max_total: int
    by_class_floats: int
    score_threshold: float
    iou_threshold: float
    masks: bool
    angle: bool
    key_points: int

class Objects:
    def boxes(self, frame: int) -> Array:
        """(boxes, 6) float32, as Postprocess.detect gives them."""
    def turned(self, frame: int) -> Array | None:
        """(boxes, 5) float32: x, y, width, height, angle; or None."""
    def key_points(self, frame: int) -> Array | None:
        """(boxes, points, 3) float32: x, y, score; or None."""
    def mask(self, frame: int, index: int) -> tuple[int, int, Array]:
        """Top and left pixel of the mask, and the mask itself: uint8, 1 inside."""

class Postprocess:
    def __init__(self, json: bytes) -> None: ...
    @property
    def info(self) -> PostprocessInfo: ...
    def detect(self, tensors: dict[str, Array]) -> list[Array]:
        """Boxes of each frame, best first: (boxes, 6) float32 of top, left, bottom, right, score, class."""
    def find(self, tensors: dict[str, Array]) -> Objects:
        """The same boxes as objects, with masks, key points and angles."""
    def set_limits(
        self, score_threshold: float, iou_threshold: float, max_per_class: int = 0, max_total: int = 0
    ) -> None:
        """Thresholds, and numbers of boxes where they are not 0."""

def library_version() -> str: ...
def kernel_sets() -> list[str]:
    """Kernel sets this CPU has, slowest first."""

def verify(hef: bytes) -> None:
    """Check a HEF as a device would; raises NativeError."""
