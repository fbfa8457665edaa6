# SPDX-License-Identifier: Apache-2.0
"""The calibration frames that count, and what they say of the inputs' codes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.data.calibration import check_frames
from headrace.data.dtypes import as_values
from headrace.errors import DataError, Diagnostic
from headrace.hn import Array, Network
from headrace.layers import Normalization
from headrace.optimize.options import OptimizeOptions
from headrace.optimize.statistics.collect import Ranges


def selected(
    network: Network, calibration: Mapping[str, Array], options: OptimizeOptions
) -> tuple[dict[str, Array], int]:
    """The frames that count, by input layer, and how many they are.

    Raises:
        DataError: the data do not fit the network, or there are none.
    """
    data = check_frames(network, calibration)
    # The emulator would take them for codes.
    data = {name: as_values(value) if value.dtype == np.uint16 else value for name, value in data.items()}
    frames = min((len(v) for v in data.values()), default=0)
    if not data or frames < 1:
        raise DataError(
            Diagnostic(
                "E-DATA-EMPTY", network.name, "there is no calibration data", "0 frames", "at least 1 frame, better 64"
            )
        )
    if options.calibration_size is not None:
        frames = min(frames, options.calibration_size)
    return {name: value[:frames] for name, value in data.items()}, frames


def is_raw_image(network: Network, name: str, data: Array, ranges: Ranges) -> bool:
    """Whether an input is a raw image: its uint8 codes are the data, scale 1 and zero point 0.

    So it is when the data are uint8, or when they are integers 0 … 255 and the input's users are normalizations.
    """
    low, high = ranges.output[name]
    if data.dtype == np.uint8:
        return True
    users = network.users(name)
    if low < 0 or high > 255 or not users or not all(isinstance(user.operation, Normalization) for user in users):
        return False
    return all(bool(np.all(np.rint(part) == part)) for part in (data[i : i + 64] for i in range(0, len(data), 64)))


__all__ = ["is_raw_image", "selected"]
