# SPDX-License-Identifier: Apache-2.0
"""The quantized emulator in a process of its own, chunk by chunk: byte comparisons of large networks fit in memory.

As a program it reads one JSON request a line (``har``, ``frames``, ``batch``, ``out``) and answers each with a JSON
line that names every native library of ours it has loaded: there must be none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class EmulatorProcess:
    """A child process that emulates HARs; use as a context manager."""

    def __enter__(self) -> EmulatorProcess:
        self._folder = tempfile.TemporaryDirectory()
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *unused: object) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(timeout=60)
        self._child.stdout.close()
        self._folder.cleanup()

    def layers(self, har: Path, frames: Array, batch: int) -> dict[str, Array]:
        """Codes of every layer for uint8 frames ``[N, H, W, C]``, by layer name."""
        assert self._child.stdin is not None and self._child.stdout is not None
        folder = Path(self._folder.name)
        np.save(folder / "frames.npy", frames)
        request = {
            "har": str(har),
            "frames": str(folder / "frames.npy"),
            "batch": batch,
            "out": str(folder / "layers.npz"),
        }
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("the emulator process died")
        facts = json.loads(line)
        assert facts["native"] == [], f"the emulator loaded our native library: {facts['native']}"
        with np.load(folder / "layers.npz") as data:
            return {name: data[name] for name in data.files}


def _serve() -> None:
    from headrace.emulator import Executor
    from headrace.hn import archive

    current: str | None = None
    executor: Any = None
    names: list[str] = []
    entry = ""
    for line in sys.stdin:
        request = json.loads(line)
        if request["har"] != current:
            network = archive.load(request["har"]).quantized
            assert network is not None
            current, executor = request["har"], Executor(network, "quantized")
            names = [layer.name for layer in network if layer.kind not in ("input_layer", "output_layer")]
            entry = network.input_layers[0].name
        frames = np.load(request["frames"])
        np.savez(request["out"], **executor.run({entry: frames}, names, batch_size=request["batch"], dequantize=False))
        loaded = {name for name in sys.modules if name.startswith("headrace") and "_native" in name}
        if Path("/proc/self/maps").exists():
            maps = Path("/proc/self/maps").read_text().splitlines()
            loaded |= {entry.split()[-1] for entry in maps if "headrace" in entry and ".so" in entry}
        print(json.dumps({"native": sorted(loaded)}), flush=True)


if __name__ == "__main__":
    _serve()
