# SPDX-License-Identifier: Apache-2.0
"""The table of figures that moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zoo_metrics import GOLDEN, SNR_TOLERANCE, Metrics, moved, moved_text, read, write

NET = Metrics(
    layers=5, kernels=3, contexts=1, parameters=900, constant_bytes=1000, hef_bytes=2000, fps=1000.0,
    simulated_fps=990.0, latency_ms=2.5, simulated_latency_ms=2.6, snr_db={"output_layer1": 30.0},
)  # fmt: skip


def test_what_moves_is_told_with_both_figures() -> None:
    after = replace(NET, fps=1250.0, contexts=2, snr_db={"output_layer1": 29.5, "output_layer2": 3.0})
    assert moved(NET, after) == [
        ("contexts", 1, 2),
        ("fps", 1000.0, 1250.0),
        ("SNR output_layer1", 30.0, 29.5),
        ("SNR output_layer2", None, 3.0),
    ]
    lines = [line.split() for line in moved_text({"net": NET}, {"net": after}).splitlines()]
    assert ["net", "fps", "1,000.0", "1,250.0", "+25.00", "%"] in lines
    assert ["net", "SNR", "output_layer2", "-", "3.0", "-"] in lines
    assert moved(NET, NET) == [] and moved_text({"net": NET}, {"net": NET}) == "nothing moved in 1 networks"


def test_only_the_snr_has_a_tolerance() -> None:
    near = replace(NET, snr_db={"output_layer1": 30.0 + 0.9 * SNR_TOLERANCE})
    assert moved(NET, near) == []
    assert moved(NET, replace(near, snr_db={"output_layer1": 30.0 - 1.1 * SNR_TOLERANCE}))
    assert moved(NET, replace(NET, hef_bytes=2001)) == [("hef_bytes", 2000, 2001)]


def test_networks_that_come_and_go_are_told() -> None:
    assert len(moved(None, NET)) == len(moved(NET, None)) == 11
    assert "net" in moved_text({}, {"net": NET})


def test_the_file_reads_back(tmp_path: Path) -> None:
    write({"b": NET, "a": NET}, tmp_path / "m.json")
    assert read(tmp_path / "m.json") == {"a": NET, "b": NET}
    assert read(tmp_path / "absent.json") == {}
    # The golden file is as it is written, and holds the networks of the zoo that compile.
    golden = read()
    assert len(golden) >= 19
    write(golden, tmp_path / "golden.json")
    assert (tmp_path / "golden.json").read_bytes() == GOLDEN.read_bytes()
