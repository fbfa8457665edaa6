# SPDX-License-Identifier: Apache-2.0
"""Every report as a type: what a stage found, as the JSON of a HAR, ``--json``, text and pages show it.

One module for each report, beside :mod:`headrace.reports.record`, which makes JSON of them and reads it back.
"""
