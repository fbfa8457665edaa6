# SPDX-License-Identifier: Apache-2.0
"""One stage in a process of its own: prints seconds and peak memory as JSON.

usage: stage.py parse|optimize|compile MODEL FOLDER
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from conftest import zoo_path  # noqa: E402
from headrace.runner import ClientRunner  # noqa: E402
from zoo_models import ZOO, text_images, translate  # noqa: E402


def main(stage: str, name: str, folder: Path) -> None:
    model, zoo = ZOO[name], zoo_path()
    assert zoo is not None
    har = {"parse": None, "optimize": "native.har", "compile": "quantized.har"}[stage]
    runner = None if har is None else ClientRunner(hw_arch="hailo8", har=folder / har)
    frames = text_images(512, 11)[0] if stage == "optimize" and name == "direction_classifier" else None
    if stage == "optimize" and frames is None:
        frames = model.calibration(zoo)
    start = time.perf_counter()
    if runner is None:
        runner = translate(model, zoo)
    elif stage == "optimize":
        if model.script:
            runner.load_model_script(model.script)
        runner.optimize(frames, min_snr=0)
    else:
        runner.compile()
    seconds = time.perf_counter() - start
    runner.save_har(folder / {"parse": "native.har", "optimize": "quantized.har", "compile": "compiled.har"}[stage])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "frames": 0 if frames is None else len(frames)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
