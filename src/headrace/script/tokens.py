# SPDX-License-Identifier: Apache-2.0
"""Text of a model script into tokens.

A statement ends with its line unless a bracket is open. ``#`` starts a comment. A word is a layer name, an
enumeration value or a number: names hold ``/`` (scope), ``.`` (``net_1.6gf/conv79``) and ``-``. A set in braces,
``{conv*, dw[0-9]}``, holds name patterns and is one token, because its characters mean something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from headrace.errors import Diagnostic
from headrace.text import printable

MAX_SCRIPT_BYTES = 8 * 1024 * 1024
MAX_TOKEN_LENGTH = 4096
MAX_SET_LENGTH = 65536
MAX_NESTING = 16
_CONTEXT_COLUMNS = 72
_LINES_SEARCHED = 64

Kind = Literal["word", "string", "set", "punctuation", "newline", "end"]
_WORD_EXTRA = frozenset("_./-+:$")
_OPENING = {"(": ")", "[": "]"}
_PATTERN_EXTRA = frozenset("_./-+:$*?[]!^,")


@dataclass(frozen=True)
class Token:
    """One token; ``line`` and ``column`` count from 1. ``text`` of a string is its value, of a set its inside."""

    kind: Kind
    text: str
    line: int
    column: int


class ScriptSyntaxError(Exception):
    """Carries one diagnostic out of the tokenizer or parser to the statement loop, which collects them."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic


class SourceText:
    """The script's lines and its name: what a diagnostic needs to show the place."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.lines = text.split("\n")

    def diagnostic(
        self, line: int, column: int, rule: str, need: str = "", levers: tuple[str, ...] = (), code: str = ""
    ) -> Diagnostic:
        """A problem at a place, showing the line (or the part of it around the place) with a caret below it."""
        # A tab takes one column here, so that the caret stands below its place.
        content = printable(self.lines[line - 1].rstrip("\r").replace("\t", " ")) if 0 < line <= len(self.lines) else ""
        start = max(0, column - 1 - _CONTEXT_COLUMNS // 2) if len(content) > _CONTEXT_COLUMNS else 0
        part = content[start : start + _CONTEXT_COLUMNS]
        before, after = "…" if start else "", "…" if start + _CONTEXT_COLUMNS < len(content) else ""
        # Continuation lines of `got` are indented to stand below its first line.
        caret = " " * (8 + len(before) + column - 1 - start) + "^"
        got = f"{before}{part}{after}\n{caret}"
        return Diagnostic(code or "E-SCRIPT-SYNTAX", f"{self.name}:{line}:{column}", rule, got, need, levers)

    def find(self, word: str, line: int, column: int) -> tuple[int, int] | None:
        """Where a word stands next, from a place on and within a few lines; None when it does not."""
        pattern = re.compile(rf"(?<![\w./-]){re.escape(word)}(?![\w/])")
        for number in range(line, min(line + _LINES_SEARCHED, len(self.lines) + 1)):
            found = pattern.search(self.lines[number - 1], column - 1 if number == line else 0)
            if found:
                return number, found.start() + 1
        return None

    def problem(
        self, line: int, column: int, rule: str, need: str = "", levers: tuple[str, ...] = ()
    ) -> ScriptSyntaxError:
        """The exception for :meth:`diagnostic`."""
        return ScriptSyntaxError(self.diagnostic(line, column, rule, need, levers))


class Tokenizer:
    """Walks over the text once; whether a bracket is open decides whether a line break ends a statement."""

    def __init__(self, source: SourceText) -> None:
        self._source = source
        self._text = source.text
        self._position = 0
        self._line = 1
        self._line_start = 0
        self._open: list[Token] = []
        self._ended = False
        self._at_statement_start = True

    def next_token(self) -> Token:
        """The next token; after the last line a newline and then "end" for ever.

        Raises:
            ScriptSyntaxError: the text here is no token; go on with :meth:`skip_statement`.
        """
        self._at_statement_start = False
        while self._position < len(self._text):
            token = self._next()
            if token is not None:
                self._at_statement_start = token.kind == "newline"
                return token
        if self._open:
            opened = self._open.pop()
            self._open.clear()
            need = f"a matching {_OPENING[opened.text]!r}"
            raise self._source.problem(opened.line, opened.column, f"{opened.text!r} is never closed", need)
        kind: Kind = "end" if self._ended else "newline"
        self._ended = True
        return self._token(kind, "")

    def innermost_open(self) -> Token | None:
        """The bracket that the current place is inside of."""
        return self._open[-1] if self._open else None

    def skip_statement(self) -> None:
        """After a problem: forget open brackets and go on at the next line."""
        self._open.clear()
        if not self._at_statement_start:
            end = self._text.find("\n", self._position)
            self._position = len(self._text) if end < 0 else end

    def _token(self, kind: Kind, text: str, position: int | None = None) -> Token:
        at = self._position if position is None else position
        return Token(kind, text, self._line, at - self._line_start + 1)

    def _problem(self, rule: str, position: int, need: str = "", levers: tuple[str, ...] = ()) -> ScriptSyntaxError:
        return self._source.problem(self._line, position - self._line_start + 1, rule, need, levers)

    def _next(self) -> Token | None:
        character = self._text[self._position]
        if character == "\n":
            token = None if self._open else self._token("newline", "")
            self._newline()
            return token
        if character in " \t\r\ufeff":
            self._position += 1
            return None
        if character == "#":
            end = self._text.find("\n", self._position)
            self._position = len(self._text) if end < 0 else end
            return None
        if character in "\"'":
            return self._string(character)
        if character == "{":
            return self._set()
        if character in "()[],=":
            return self._punctuation(character)
        return self._word()

    def _newline(self) -> None:
        self._position += 1
        self._line += 1
        self._line_start = self._position

    def _punctuation(self, character: str) -> Token:
        token = self._token("punctuation", character)
        if character in _OPENING:
            if len(self._open) >= MAX_NESTING:
                raise self._problem("brackets are nested too deeply", self._position, f"at most {MAX_NESTING} levels")
            self._open.append(token)
        elif character in ")]":
            if not self._open or _OPENING[self._open[-1].text] != character:
                need = f"{_OPENING[self._open[-1].text]!r} first" if self._open else "an opening bracket before it"
                raise self._problem(f"{character!r} closes nothing", self._position, need)
            self._open.pop()
        self._position += 1
        return token

    def _word(self) -> Token:
        start = self._position
        while self._position < len(self._text) and (
            self._text[self._position].isalnum() or self._text[self._position] in _WORD_EXTRA
        ):
            self._position += 1
        if self._position == start:
            character = self._text[start]
            levers: tuple[str, ...] = ()
            if character in "*?":
                levers = ("a pattern over layer names stands in braces: {conv*}",)
            elif character == "}":
                levers = ("remove it, or open the set with '{'",)
            raise self._problem(f"the character {printable(character)!r} cannot stand here", start, levers=levers)
        return self._limited("word", self._text[start : self._position], start)

    def _limited(self, kind: Kind, text: str, start: int) -> Token:
        if len(text) > MAX_TOKEN_LENGTH:
            raise self._problem("a name or text is too long", start, f"at most {MAX_TOKEN_LENGTH} characters")
        return self._token(kind, text, start)

    def _string(self, quote: str) -> Token:
        start = self._position
        value: list[str] = []
        position = start + 1
        while position < len(self._text):
            character = self._text[position]
            # Only quotes and backslashes can be escaped, so that Windows paths may be written as they are.
            if character == "\\" and self._text[position + 1 : position + 2] in ('"', "'", "\\"):
                value.append(self._text[position + 1])
                position += 2
                continue
            if character == quote:
                self._position = position + 1
                return self._limited("string", "".join(value), start)
            if character == "\n" or not (character.isprintable() or character == "\t"):
                break
            value.append(character)
            position += 1
        self._position = position
        raise self._problem("the quoted text does not end on its line", start, f"a closing {quote}")

    def _set(self) -> Token:
        start, line, column = self._position, self._line, self._position - self._line_start + 1
        inside: list[str] = []
        self._position += 1
        while self._position < len(self._text):
            character = self._text[self._position]
            if character == "}":
                self._position += 1
                text = "".join(inside)
                if len(text) > MAX_SET_LENGTH:
                    raise self._source.problem(
                        line, column, "the set is too long", f"at most {MAX_SET_LENGTH} characters"
                    )
                return Token("set", text, line, column)
            if character == "\n":
                inside.append(" ")
                self._newline()
                continue
            if character == "#":
                end = self._text.find("\n", self._position)
                self._position = len(self._text) if end < 0 else end
                continue
            if not (character.isalnum() or character in _PATTERN_EXTRA or character in " \t\r"):
                raise self._problem(
                    f"the character {printable(character)!r} cannot stand in a set of names",
                    self._position,
                    "names and patterns separated by commas: {conv*, dw[0-9]}",
                )
            inside.append(character)
            self._position += 1
        self._position = max(self._position, start + 1)
        raise self._source.problem(line, column, "'{' is never closed", "a matching '}'")
