# SPDX-License-Identifier: Apache-2.0
"""The commands of the language, a file for each part of it. Each file lists its commands in ``FORMS``.

A command that acts is one frozen dataclass here. What it decides is an effect, which sets an option of its stage; an
effect that several commands have stands in :mod:`headrace.script.effects`, any other beside its command.
"""
