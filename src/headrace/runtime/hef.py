# SPDX-License-Identifier: Apache-2.0
"""``HEF``: a compiled network, looked at without a device."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.errors import Diagnostic, InputFileError, unknown_name
from headrace.hef.container import Hef, HefDescription, StreamDescription, read_hef, read_hef_bytes
from headrace.hn.nms import NmsConfiguration
from headrace.runtime.enums import Status
from headrace.runtime.exceptions import HailoRTNotFoundException, device_error, hef_error
from headrace.runtime.infos import NetworkGroupInfo, StreamInfo, VStreamInfo, stream_info, vstream_info
from headrace.typeguards import is_path


class HEF:
    """A HEF file or its bytes. Needs neither the native library nor a device.

    Args:
        hef_source: path of the file, or its bytes.

    Raises:
        HailoRTInvalidHEFException: the file is missing or not a HEF of ours; also an ``InputFileError``.
    """

    def __init__(self, hef_source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> None:
        self._path: str | None = None
        try:
            if isinstance(hef_source, (bytes, bytearray, memoryview)):
                self._data = bytes(hef_source)
                self._hef = read_hef(self._data)
            elif is_path(hef_source):
                self._path = os.fspath(hef_source)
                self._data = read_hef_bytes(Path(self._path))
                self._hef = read_hef(self._data, self._path)
            else:
                kind = type(hef_source).__name__
                problem = Diagnostic("E-HEF-SOURCE", "HEF", "this is no source of a HEF", kind, "a path or bytes")
                raise device_error(Status.INVALID_ARGUMENT, problem)
        except InputFileError as error:
            raise hef_error(error) from error

    @property
    def path(self) -> str | None:
        """The path it was read from; None when it came as bytes."""
        return self._path

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self._data

    @property
    def description(self) -> HefDescription:
        return self._hef.description

    @property
    def contents(self) -> Hef:
        """Description, microcode and raw facts."""
        return self._hef

    def nms(self) -> NmsConfiguration | None:
        """What makes boxes of the outputs; None where the HEF has no detection head.

        Raises:
            HailoRTInvalidHEFException: it is damaged.
        """
        try:
            return self._hef.nms()
        except InputFileError as error:
            raise hef_error(error) from error

    def hash(self) -> str:
        """The header's CRC-32, as lower-case hexadecimal."""
        return f"{self._hef.facts.crc32:08x}"

    def get_network_group_names(self) -> list[str]:
        return [self.description.network_name]

    def get_networks_names(self, network_group_name: str | None = None) -> list[str]:
        self._check(network_group_name)
        return [self._network]

    def get_network_groups_infos(self) -> list[NetworkGroupInfo]:
        return [NetworkGroupInfo(self.description.network_name, self.description.contexts > 1)]

    def get_input_vstream_infos(self, name: str | None = None) -> list[VStreamInfo]:
        self._check(name)
        return [vstream_info(s, self._network) for s in self.description.inputs]

    def get_output_vstream_infos(self, name: str | None = None) -> list[VStreamInfo]:
        self._check(name)
        return [vstream_info(s, self._network) for s in self.description.outputs]

    def get_all_vstream_infos(self, name: str | None = None) -> list[VStreamInfo]:
        return self.get_input_vstream_infos(name) + self.get_output_vstream_infos(name)

    def get_input_stream_infos(self, name: str | None = None) -> list[StreamInfo]:
        self._check(name)
        return [stream_info(s, self.description) for s in self.description.inputs]

    def get_output_stream_infos(self, name: str | None = None) -> list[StreamInfo]:
        self._check(name)
        return [stream_info(s, self.description) for s in self.description.outputs]

    def get_all_stream_infos(self, name: str | None = None) -> list[StreamInfo]:
        return self.get_input_stream_infos(name) + self.get_output_stream_infos(name)

    def get_sorted_output_names(self, network_group_name: str | None = None) -> list[str]:
        self._check(network_group_name)
        return [s.name for s in self.description.outputs]

    def bottleneck_fps(self, network_group_name: str | None = None) -> float:
        """Frames per second the compiler expects (closed form)."""
        self._check(network_group_name)
        return self.description.bottleneck_fps

    def get_vstream_name_from_original_name(self, original_name: str, network_group_name: str | None = None) -> str:
        self._check(network_group_name)
        found = [s.name for s in self.description.streams if original_name in s.original_names]
        if found:
            return found[0]
        known = [name for s in self.description.streams for name in s.original_names]
        raise self._unknown("original name", original_name, known)

    def get_original_names_from_vstream_name(
        self, vstream_name: str, network_group_name: str | None = None
    ) -> list[str]:
        self._check(network_group_name)
        return list(self._stream(vstream_name).original_names)

    def get_vstream_names_from_stream_name(self, stream_name: str, network_group_name: str | None = None) -> list[str]:
        self._check(network_group_name)
        return [self._stream(stream_name).name]

    def get_stream_names_from_vstream_name(self, vstream_name: str, network_group_name: str | None = None) -> list[str]:
        self._check(network_group_name)
        return [self._stream(vstream_name).name]

    @property
    def _network(self) -> str:
        return f"{self.description.network_name}/{self.description.network_name}"

    def _stream(self, name: str) -> StreamDescription:
        for stream in self.description.streams:
            if stream.name == name:
                return stream
        raise self._unknown("stream", name, [s.name for s in self.description.streams])

    def _check(self, name: str | None) -> None:
        known = [self.description.network_name, self._network]
        if name and name not in known:
            raise self._unknown("network", name, known)

    def _unknown(self, what: str, name: str, known: list[str]) -> HailoRTNotFoundException:
        where = self._path or "HEF"
        return HailoRTNotFoundException(unknown_name("E-HEF-NAME", what, name, known, where), Status.NOT_FOUND)
