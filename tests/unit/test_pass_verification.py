# SPDX-License-Identifier: Apache-2.0
"""Under ``HEADRACE_VERIFY_PASSES`` a pass that touches what it has to leave alone is found out, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from headrace.errors import InternalError
from headrace.hn import Network
from headrace.passes import Pass, run_passes, verification
from headrace.passes.remove_no_ops import RemoveNoOps
from hn_maker import Maker

Change = Callable[[Network], None]
RECORD = [{"layer": "n/c"}]


@dataclass(frozen=True)
class Wrong(Pass):
    name: ClassVar[str] = "wrong"
    change: Change = lambda network: None
    records: tuple[dict[str, Any], ...] = tuple(RECORD)

    def run(self, network: Network) -> list[dict[str, Any]]:
        self.change(network)
        return list(self.records)


def small() -> Network:
    return Maker().conv("c", "x", 4, 4).out("c")


def write_into_an_array(network: Network) -> None:
    network.params["n/c/kernel"][...] = 7.0


def other_name(network: Network) -> None:
    network.rename({"n/o0": "n/other"})


@pytest.mark.parametrize(
    ("change", "records", "needle"),
    [
        (write_into_an_array, RECORD, "the array n/c/kernel"),
        (other_name, RECORD, "the outputs"),
        (lambda network: setattr(network, "name", "m"), RECORD, "the network's name"),
        (lambda network: None, RECORD, "1 records and no change"),
        (lambda network: network.params.update({"n/c/bias": np.ones(4, np.float32)}), [], "0 records and a change"),
        (lambda network: network.net_params.update(stage="x"), [], "0 records and a change"),
    ],
)
def test_what_a_pass_has_to_leave_alone(change: Change, records: list[dict[str, Any]], needle: str) -> None:
    with pytest.raises(InternalError, match=needle) as caught:
        run_passes(small(), [Wrong(change, tuple(records))], verify=False)
    assert "pass wrong" in caught.value.diagnostics[0].where


def test_without_the_switch_only_the_network_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verification.is_on(), "tests/conftest.py turns it on"
    monkeypatch.setenv(verification.SWITCH, "0")
    assert run_passes(small(), [Wrong()]) == [{"pass": "wrong", **RECORD[0]}]


def test_a_pass_that_keeps_to_the_rules() -> None:
    assert run_passes(small(), [RemoveNoOps()]) == []
