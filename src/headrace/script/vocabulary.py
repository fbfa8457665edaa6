# SPDX-License-Identifier: Apache-2.0
"""Every command of the language, and what becomes of each of its values: collected from the commands themselves.

A command that chooses its feature by the first value (``pre_quantization_optimization(equalization, ...)``) has one
form per feature, written ``command(feature)``.
"""

from __future__ import annotations

from collections.abc import Iterator

from headrace.script.commands import compilation, detection, modification, placement, policies, quantization
from headrace.script.fates import OTHER, Fate
from headrace.script.forms import Form


def _in_order() -> Iterator[Form]:
    """In the order in which they act: before quantization, at it, after it."""
    before = [form for form in policies.FORMS if form.name.startswith("pre_")]
    after = [form for form in policies.FORMS if not form.name.startswith("pre_")]
    compiling = (*detection.FORMS, *compilation.FORMS, *placement.FORMS)
    yield from (*modification.FORMS, *before, *quantization.FORMS, *after, *compiling)


FORMS: dict[str, Form] = {form.row: form for form in _in_order()}

#: Commands whose first value names the feature, and the features.
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(sorted(form.feature for form in FORMS.values() if form.name == family and form.feature))
    for family in sorted({form.name for form in FORMS.values() if form.feature})
}

#: Every name that may stand before a parenthesis.
COMMANDS: tuple[str, ...] = tuple(sorted({form.name for form in FORMS.values()}))

#: Commands of a handle: `context_0.place(...)`.
METHODS: dict[str, Form] = {form.row: form for form in placement.METHODS}

#: Commands that change what the network computes, or how precisely; all others steer the compiler, or nothing.
NUMBERS = frozenset(form.name for form in FORMS.values() if form.changes_numbers)
#: Commands that make layers.
MAKERS = frozenset(form.name for form in FORMS.values() if form.makes_layers)


def fate_table() -> Iterator[tuple[str, str, Fate]]:
    """(command, key=value or "", fate), every row that the documentation shows; a policy counts as a value."""
    for row, form in FORMS.items():
        if not form.by_keys:
            yield row, "", form.fate
        if form.keys is None and form.off is not None:
            yield row, "policy=disabled", form.off
        for key, one in (form.keys or {}).items():
            if form.off is not None and key in form.off_keys and form.off is not form.fate:
                yield row, f"{key}=disabled", form.off
            named = {word: fate for word, fate in one.fates.items() if fate is not form.fate or form.by_keys}
            for word, fate in named.items():
                yield row, key if word == OTHER else f"{key}={word}", fate
            if form.by_keys and not one.fates:
                yield row, key, form.fate
