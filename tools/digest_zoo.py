#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Digests of everything that every stage makes of the zoo's networks, and the difference of two such lists.

Run it on two commits to show that a change of structure changed no number::

    .venv/bin/python tools/digest_zoo.py --out before.json            # on the commit before
    .venv/bin/python tools/digest_zoo.py --out after.json             # on the commit after
    .venv/bin/python tools/digest_zoo.py --compare before.json after.json

For each network: SHA-256 of every member of its HAR (HN, parameters, reports and HEF of each state), of the outputs of
the float emulator and of the device. ``--keep FOLDER`` leaves the members there, so that a difference can be read;
``--members BEFORE AFTER`` compares two such folders, HNs as this version reads and writes them, so that another text of
the same network is no difference. Digests use the public runner and the archive's bytes alone, so that they can be
made on commits whose insides differ.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

QUICK = ("direction_classifier", "resnet8", "resnet8_tflite", "mnist", "yunet", "face_landmark")
FLOAT_FRAMES, DEVICE_FRAMES = 2, 3


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def of_arrays(values: Any) -> str:
    arrays = values if isinstance(values, list) else [values]
    return digest(b"".join(str((a.dtype, a.shape)).encode() + np.ascontiguousarray(a).tobytes() for a in arrays))


def members(har: bytes) -> dict[str, bytes]:
    """The members of a HAR by name."""
    with tarfile.open(fileobj=io.BytesIO(har), mode="r:gz") as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # pyright: ignore[reportOptionalMemberAccess]


def digests(model: Any, zoo: Path, frames: int, keep: Path | None) -> dict[str, str]:
    """What every stage makes of one network."""
    from headrace.errors import HeadraceError
    from headrace.runner import InferenceContext
    from zoo_models import calibrated_frames, translate

    try:
        runner = translate(model, zoo)
        test = model.test(zoo)[0]
        native = runner.infer(InferenceContext.SDK_NATIVE, model.normalized(test[:FLOAT_FRAMES]))
        if model.script:
            runner.load_model_script(model.script)
        runner.optimize(None if model.stated else calibrated_frames(model, zoo, frames), min_snr=0)
        runner.compile()
        values = model.values(test[:DEVICE_FRAMES])
        device = runner.infer(InferenceContext.SDK_HAILO_HW, values, quantized_io=True)
    except HeadraceError as error:
        return {"stopped": f"{type(error).__name__}: {error.diagnostics[0].code} {error.diagnostics[0].where}"}
    parts = members(runner.dump_har())
    if keep is not None:
        for name, data in parts.items():
            (keep / model.name).mkdir(parents=True, exist_ok=True)
            (keep / model.name / name.removeprefix(f"{model.name}.")).write_bytes(data)
    found = {name.removeprefix(f"{model.name}."): digest(data) for name, data in parts.items()}
    return found | {"float outputs": of_arrays(native), "device outputs": of_arrays(device)}


def collect(out: Path, zoo: Path, names: list[str], frames: int, keep: Path | None) -> None:
    from zoo_models import ZOO

    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for model in ZOO.values():
        if (names and model.name not in names) or model.name in found:
            continue
        start = time.perf_counter()
        found[model.name] = digests(model, zoo, frames, keep)
        print(f"{model.name}: {len(found[model.name])} digests, {time.perf_counter() - start:.1f} s", flush=True)
        out.write_text(json.dumps(found, indent=1) + "\n")


def compare(before: Path, after: Path) -> int:
    """Print what differs; returns the number of digests that do."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    compared = different = 0
    for name in [n for n in old if n in new]:
        keys = [*old[name], *(k for k in new[name] if k not in old[name])]
        differing = [k for k in keys if old[name].get(k) != new[name].get(k)]
        compared += len(keys)
        different += len(differing)
        if differing:
            print(f"{name}: {', '.join(differing)}")
    print(f"{compared} digests of {len([n for n in old if n in new])} networks compared, {different} differ")
    return different


def as_read(path: Path) -> bytes:
    """A member; an HN as this version reads and writes it, with its parameters."""
    if path.suffix != ".hn":
        return path.read_bytes()
    from headrace.hn import json_format
    from headrace.hn.arrays import load_parameters

    network = json_format.loads(path.read_bytes(), str(path))
    arrays = path.with_suffix(".npz")
    network.params = load_parameters(arrays.read_bytes(), str(arrays), network)
    return json_format.dumps(network)


def compare_members(before: Path, after: Path) -> int:
    """Print what differs between two folders of members, of texts line by line; returns the number that do."""
    compared = different = 0
    lines: Counter[tuple[str, str]] = Counter()
    for path in sorted(p for p in before.glob("*/*") if (after / p.parent.name).exists()):
        other = after / path.relative_to(before)
        compared += 1
        old, new = as_read(path), as_read(other) if other.exists() else b""
        if old == new:
            continue
        different += 1
        print(f"{path.relative_to(before)}: {len(old)} and {len(new)} bytes")
        if path.suffix in (".hn", ".json", ".alls"):
            texts = [data.decode().splitlines() for data in (old, new)]
            lines.update((x.strip(), y.strip()) for x, y in zip(*texts, strict=False) if x != y)
    for (old_line, new_line), count in lines.most_common(20):
        print(f"  {count} times {old_line[:70]}  ->  {new_line[:70]}")
    print(f"{compared} members compared, {different} differ")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file of digests; networks that are in it already are left out")
    parser.add_argument("--only", nargs="*", default=[], help="names of networks")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--frames", type=int, default=16, help="calibration frames")
    parser.add_argument("--keep", type=Path, help="folder for the members of the HARs")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="files of digests")
    parser.add_argument("--members", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="folders of --keep")
    given = parser.parse_args()
    if given.compare:
        return 1 if compare(*given.compare) else 0
    if given.members:
        return 1 if compare_members(*given.members) else 0
    if given.out is None:
        parser.error("--out, --compare or --members is needed")
    zoo = Path(os.environ.get("HEADRACE_ZOO", ROOT.parent / "shared" / "zoo"))
    collect(given.out, zoo, list(QUICK) if given.quick else given.only, given.frames, given.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
