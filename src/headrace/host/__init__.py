# SPDX-License-Identifier: Apache-2.0
"""The whole model: the device's network and the steps of the host before and behind it (``docs/guide/host.md``).

Networks of the host are run by onnxruntime (extra ``[host]``), which is imported when one is run and not before.
"""

from __future__ import annotations

from headrace.host.inputs import model_inputs
from headrace.host.run import Device, WholeRun

__all__ = ["Device", "WholeRun", "model_inputs"]
