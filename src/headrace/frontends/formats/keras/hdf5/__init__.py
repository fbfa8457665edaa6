# SPDX-License-Identifier: Apache-2.0
"""HDF5 as Keras writes it, read without the HDF5 library: bounds-checked, with bounded work and memory."""

from headrace.frontends.formats.keras.hdf5.buffer import DamagedError, UnreadableError
from headrace.frontends.formats.keras.hdf5.file import Dataset, File, Group

__all__ = ["DamagedError", "Dataset", "File", "Group", "UnreadableError"]
