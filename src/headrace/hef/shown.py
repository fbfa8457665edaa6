# SPDX-License-Identifier: Apache-2.0
"""What a HEF holds, as data and as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.hef import microcode as isa
from headrace.hef.container import Hef, StreamDescription
from headrace.hef.disassembler import printable_name
from headrace.hn import nms
from headrace.typeguards import is_list

MAX_SHOWN_RUNS = 16


def hef_info(hef: Hef) -> dict[str, Any]:
    """Everything ``headrace hef info`` shows, ready for JSON."""
    description, facts = hef.description, hef.facts
    program = hef.program()
    header = isa.ProgramHeader.unpack(hef.microcode[: isa.ProgramHeader.struct().size])
    return {
        "network": description.network_name,
        "compatible_for": printable_name(program, program.target.name_offset, program.target.name_length),
        "contexts": description.contexts,
        "bottleneck_fps": description.bottleneck_fps,
        "latency_ms": description.latency_ms,
        "sdk_version": description.sdk_version,
        "random_calibration_frames": description.random_calibration,
        "streams": [_stream_info(s) for s in description.streams],
        **({"nms": nms.to_dict(found)} if (found := hef.nms()) is not None else {}),
        "microcode": {
            "version": f"{header.version_major}.{header.version_minor}",
            "bytes": len(hef.microcode),
            "kernels": len(program.kernels),
            "tensors": len(program.tensors),
            "constant_bytes": len(program.constants),
            "target_hash": isa.target_digest(program).hex(),
        },
        "container": {
            "file_bytes": facts.file_bytes,
            "description_bytes": facts.proto_bytes,
            "configuration_bytes": facts.configuration_bytes,
            "crc32": f"{facts.crc32:08x}",
            "hw_arch": facts.hw_arch,
            "format_version": facts.format_version,
            "cfg_channels_count": facts.cfg_channels_count,
            "extensions": list(facts.extensions),
            "resources": [{"name": n, "offset": o, "bytes": s} for n, o, s in facts.resources],
        },
    }


def _stream_info(stream: StreamDescription) -> dict[str, Any]:
    return {
        "name": stream.name,
        "direction": stream.direction,
        "shape": list(stream.shape),
        "order": stream.order,
        "type": "UINT8" if stream.data_bytes == 1 else "UINT16",
        "frame_bytes": stream.frame_bytes,
        "scale": list(stream.channel_scales) or stream.scale,
        "zero_point": list(stream.channel_zero_points) or stream.zero_point,
        "limvals": list(stream.limvals or ()),
        "original_names": list(stream.original_names),
    }


def describe(hef: Hef) -> str:
    """The same as text, for people; the first lines are those ``parse-hef`` users know."""
    info = hef_info(hef)
    contexts = info["contexts"]
    shown = "Single Context" if contexts == 1 else f"Multi Context - Number of contexts: {contexts}"
    lines = [
        f"Architecture HEF was compiled for: {info['compatible_for']} (virtual device)",
        f"Network group name: {info['network']}, {shown}",
        f"    Network name: {info['network']}/{info['network']}",
        "        VStream infos:",
    ]
    for stream in info["streams"]:
        sizes = "x".join(str(v) for v in stream["shape"])
        lines.append(
            f"            {stream['direction'].capitalize():<6} {stream['name']} {stream['type']}, "
            f"{stream['order']}({sizes}), {_scales_text(stream)}"
        )
    if "nms" in info:
        lines += ["    " + line for line in describe_nms(info["nms"])]
    code = info["microcode"]
    latency = f", {info['latency_ms']:.3f} ms" if info["latency_ms"] else ""
    if info["random_calibration_frames"]:
        frames = info["random_calibration_frames"]
        lines.append(f"    CALIBRATED WITH RANDOM NOISE ({frames} frames): THE ACCURACY OF THE NETWORK IS MEANINGLESS")
    lines += [
        f"    Microcode: version {code['version']}, {code['bytes']} bytes, {code['kernels']} kernels, "
        f"{code['constant_bytes']} bytes of constants",
        f"    Expected: {info['bottleneck_fps']:.1f} fps{latency} (closed form)",
        f"    Written by: {info['sdk_version']}, CRC-32 {info['container']['crc32']}",
    ]
    return "\n".join(lines) + "\n"


def describe_nms(found: Mapping[str, Any]) -> list[str]:
    """What makes boxes, for people."""
    strides = ", ".join(f"{one.get('stride') or one.get('strides')}" for one in found["bbox_decoders"])
    return [
        f"Boxes: {found['meta_arch']}, {found['classes']} classes, strides {strides}, picture "
        f"{'x'.join(map(str, found['image_dims']))}",
        f"    score threshold {found['nms_scores_th']:g}, IoU threshold {found['nms_iou_th']:g}, at most "
        f"{found['max_proposals_per_class']} boxes per class and {found['max_total_proposals']} in all",
    ]


def _scales_text(stream: dict[str, Any]) -> str:
    """Scale and zero point for people; of runs of channels where they differ."""
    scales, zeros = stream["scale"], stream["zero_point"]
    if not is_list(scales):
        return f"scale {scales:.9g}, zero point {zeros}"
    pairs = list(zip(scales, zeros, strict=True))
    starts = [i for i in range(len(pairs)) if i == 0 or pairs[i] != pairs[i - 1]]
    shown = [
        f"channels {a}-{b - 1}: scale {pairs[a][0]:.9g}, zero point {pairs[a][1]}"
        for a, b in zip(starts, [*starts[1:], len(pairs)], strict=True)
    ]
    rest = f"; {len(shown) - MAX_SHOWN_RUNS} more" if len(shown) > MAX_SHOWN_RUNS else ""
    return "; ".join(shown[:MAX_SHOWN_RUNS]) + rest
