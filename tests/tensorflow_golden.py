# SPDX-License-Identifier: Apache-2.0
"""Run the graphs of a folder in TensorFlow and keep their results; see tensorflow_cases.py. Needs TensorFlow alone."""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main(folder: Path, target: Path) -> None:
    import numpy as np
    import tensorflow as tf

    index, values = [], []
    for path in sorted(folder.glob("*.pb"), key=lambda p: int(p.stem)):
        given = dict(np.load(path.with_suffix(".npz")))
        name = str(given.pop("name"))
        data = path.read_bytes()
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(tf.compat.v1.GraphDef.FromString(data), name="")
            with tf.compat.v1.Session(graph=graph) as session:
                made = session.run("y:0", {f"{k}:0": v for k, v in given.items()})
        index.append([name, zlib.crc32(data), list(made.shape)])
        values.append(made.astype(np.float32).reshape(-1))
    np.savez_compressed(target, index=np.array(json.dumps(index)), values=np.concatenate(values))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
