# SPDX-License-Identifier: Apache-2.0
"""The type of numpy arrays whose element type is known only when the program runs."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_array(value: object) -> TypeGuard[Array]:
    """A numpy array of any element type."""
    return isinstance(value, np.ndarray)
