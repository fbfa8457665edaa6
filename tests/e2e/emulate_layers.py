# SPDX-License-Identifier: Apache-2.0
"""Child process of the byte tests: every layer's codes by the quantized emulator, and the native modules it loaded.

usage: emulate_layers.py HAR FRAMES.npy OUT.npz BATCH
"""

import json
import sys

import numpy as np

from headrace.emulator import Executor
from headrace.hn import archive


def main(har: str, frames: str, out: str, batch: int) -> None:
    network = archive.load(har).quantized
    assert network is not None
    names = [layer.name for layer in network if layer.kind not in ("input_layer", "output_layer")]
    executor = Executor(network, "quantized")
    data = {network.input_layers[0].name: np.load(frames)}
    np.savez(out, **executor.run(data, names, batch_size=batch, dequantize=False))
    ours = [name for name in sys.modules if name.startswith("headrace") and "_native" in name]
    maps = [line.split()[-1] for line in open("/proc/self/maps") if "headrace" in line and ".so" in line]
    print(json.dumps({"modules": ours, "libraries": sorted(set(maps)), "batch": batch}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
