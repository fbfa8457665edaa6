# SPDX-License-Identifier: Apache-2.0
"""Tables for people fit a terminal of 100 columns, and lose no number and no path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.text import WIDTH, printable, shortened, table

words = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters=" /_"), max_size=90)
numbers = st.integers(-(10**9), 10**9).map(lambda n: f"{n:,}")


def test_columns_are_aligned() -> None:
    assert table([["a", "1"], ["bbb", "22"]]) == "a     1\nbbb  22"
    assert table([["a", "x"]], ["one", "two"], left=1, rule=True) == "one  two\n---  ---\na      x"
    assert table([]) == ""


@given(st.lists(st.tuples(words, words, numbers, numbers), min_size=1, max_size=6))
def test_a_table_fits_and_keeps_every_number(rows: list[tuple[str, str, str, str]]) -> None:
    text = table(rows, ["first", "second", "third", "fourth"], left=2)
    assert all(len(line) <= WIDTH for line in text.splitlines())
    for line, row in zip(text.splitlines()[1:], rows, strict=True):
        assert line.split()[-2:] == list(row[2:])


@given(st.lists(st.tuples(st.sampled_from(["wrote", "output"]), words), min_size=1, max_size=6))
def test_long_last_cells_continue_and_lose_no_word(rows: list[tuple[str, str]]) -> None:
    text = table(rows)
    assert text.split() == " ".join(" ".join(row) for row in rows).split()


def test_a_long_path_stays_whole() -> None:
    path = "/" + "/".join(["folder"] * 30)
    assert path in table([["wrote", path], ["short", "x y " * 40]])


@given(words, st.integers(3, 90))
def test_shortened_keeps_both_ends(text: str, width: int) -> None:
    short = shortened(text, width)
    assert len(short) <= width
    if len(text) > width:
        head, tail = short.split("…")
        assert text.startswith(head)
        assert tail and text.endswith(tail)


def test_control_characters_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202e", kept="\n") == "a\ufffd[2Jb\nc\ufffd"
    assert printable("one\nline\t\udcff") == "one\ufffdline\ufffd\ufffd"
