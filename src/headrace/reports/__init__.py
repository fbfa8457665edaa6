# SPDX-License-Identifier: Apache-2.0
"""Every report as a type: what a stage found, as the JSON of a HAR, ``--json``, text and pages show it.

One module for each report, beside :mod:`headrace.reports.record`, which makes JSON of them and reads it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.reports.archived import ArchivedReports, HasReports


def of(archive: HasReports) -> ArchivedReports:
    """The reports of an archive: ``reports.of(archive).optimize``."""
    # Imported here, because a command that shows one report needs one module.
    from headrace.reports.archived import ArchivedReports

    return ArchivedReports(archive)


__all__ = ["of"]
