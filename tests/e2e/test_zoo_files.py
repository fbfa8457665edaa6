# SPDX-License-Identifier: Apache-2.0
"""Every model file of the zoo, of every family, by itself through every stage; `make results` prints the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import zoo_path
from zoo_files import FileRow, measure_file, zoo_files

pytest.importorskip("headrace.runtime._native")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

#: One of each family, small.
FEW = ("derived_tf/resnet8/tf1_checkpoint", "mlperf_tiny/kws_saved_model", "mlperf_tiny/ic_resnet8_int8.tflite")
#: Files that may end in a report.
REPORTED = ("silero_vad/", "style_transfer/", "tf_ml_kws_pb/LSTM_S")
_ZOO = zoo_path()
#: Words in a path → how far native results may be from the runtime's: steps of a file's own codes.
CODED = ("int8", "quant", "kws_dscnn_float")
#: Part of the range. Seen at most: 0.082, uint8 MobileNetV1 on noise, where the device has the runtime's own codes.
CODED_BOUND = 0.1


def judge(row: FileRow) -> None:
    print(row)
    if row.stopped and row.file.startswith(REPORTED):
        assert ": E-" in row.stopped
        return
    assert not row.stopped, row.stopped
    assert row.native is None or row.native <= (CODED_BOUND if any(word in row.file for word in CODED) else 1e-3)
    assert row.peak is not None and row.peak <= 3 * row.file_size + 300


@pytest.mark.parametrize("file", FEW)
def test_a_file_of_each_family(zoo: Path, file: str) -> None:
    judge(measure_file(zoo, file, quick=True))


@pytest.mark.slow
@pytest.mark.parametrize("file", [] if _ZOO is None else zoo_files(_ZOO))
def test_every_file(zoo: Path, file: str) -> None:
    row = measure_file(zoo, file)
    judge(row)
    assert row.stopped or (row.different == 0 and row.compared)
