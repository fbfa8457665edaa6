# SPDX-License-Identifier: Apache-2.0
"""The model-script language: text into statements.

::

    script    := { statement newline }
    statement := [ targets "=" ] command
    targets   := name { "," name } | "{" [ name { "," name } ] "}"
    command   := [ handle "." ] name "(" [ argument { "," argument } [ "," ] ] ")"
    argument  := value | key "=" value          (values first, then keys)
    value     := number | True | False | None | name | "text" | "[" [ value { "," value } ] "]" | "{" patterns "}"

The parser knows no command: what a command means, and which arguments it has, is in :mod:`headrace.script.commands`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TypeAlias

from headrace.errors import Diagnostic, ScriptError
from headrace.script.tokens import MAX_SCRIPT_BYTES, ScriptSyntaxError, SourceText, Token, Tokenizer
from headrace.text import printable

MAX_COMMANDS = 100_000
MAX_PROBLEMS = 20
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "None": None}


class Name(str):
    """A bare word: a layer name or an enumeration value. (A quoted text is a plain ``str``.)"""

    __slots__ = ()


@dataclass(frozen=True)
class Patterns:
    """A set in braces: patterns over layer names (``*``, ``?``, ``[0-9]``); may be empty."""

    items: tuple[str, ...]


Value: TypeAlias = "int | float | bool | str | Name | Patterns | tuple[Value, ...] | None"


@dataclass(frozen=True)
class Statement:
    """One statement of a script.

    Attributes:
        name: what to do, e.g. ``normalization``.
        method_of: the handle before the dot (``context_0.place``), else "".
        targets: names given to what the command makes (left of ``=``).
        positional: values without a key, in order.
        keyword: values with a key, in order of appearance.
        line: line of the statement, from 1.
        column: column of the command's name, from 1.
        argument_columns: (line, column) of each key, for diagnostics.
        value_columns: (line, column) of each value without a key, for diagnostics.
        source: the script it stands in.
    """

    name: str
    method_of: str = ""
    targets: tuple[str, ...] = ()
    positional: tuple[Value, ...] = ()
    keyword: dict[str, Value] = field(default_factory=dict[str, "Value"])
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)
    argument_columns: dict[str, tuple[int, int]] = field(
        default_factory=dict[str, tuple[int, int]], compare=False, repr=False
    )
    value_columns: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    source: SourceText | None = field(default=None, compare=False, repr=False)

    def diagnostic(
        self,
        rule: str,
        need: str = "",
        levers: tuple[str, ...] = (),
        code: str = "E-SCRIPT-VALUE",
        at: tuple[int, int] | None = None,
    ) -> Diagnostic:
        """A problem at the command, or at a place inside it (line, column)."""
        line, column = at or (self.line, self.column)
        return (self.source or SourceText("", "model script")).diagnostic(line, column, rule, need, levers, code)

    def where(self, key: str = "") -> str:
        """``file:line:column`` of the command, or of one of its keys."""
        line, column = self.argument_columns.get(key, (self.line, self.column))
        return f"{self.source.name if self.source else 'model script'}:{line}:{column}"

    def place_of(self, word: str, value: int | str) -> tuple[int, int]:
        """(line, column) of a word inside one of the command's values: the number of a value, or its key."""
        if isinstance(value, str):
            line, column = self.argument_columns.get(value, (self.line, self.column))
        else:
            line, column = self.value_columns[value] if value < len(self.value_columns) else (self.line, self.column)
        found = self.source.find(word, line, column) if self.source else None
        return found or (line, column)


@dataclass(frozen=True)
class Script:
    """A parsed script: its statements in order and its source, for messages."""

    source: SourceText = field(compare=False, repr=False)
    statements: tuple[Statement, ...] = ()

    def followed_by(self, other: Script) -> Script:
        """Both scripts as one; statements keep the places they have in their own files."""
        text = f"{self.source.text.rstrip()}\n{other.source.text}" if self.statements else other.source.text
        return Script(SourceText(text, other.source.name), self.statements + other.statements)


def parse_script(text: str, name: str = "model script") -> Script:
    """Parses a model script.

    Args:
        text: the script. Untrusted: its size, nesting and numbers are bounded.
        name: what messages call it, usually the file name.

    Raises:
        ScriptError: with every statement that does not parse (the first 20), each with line, column and caret.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_SCRIPT_BYTES:
        got = f"{len(text)} characters"
        raise ScriptError(
            Diagnostic("E-SCRIPT-SIZE", name, "the model script is too large", got, f"at most {MAX_SCRIPT_BYTES} bytes")
        )
    source = SourceText(text, name)
    statements: list[Statement] = []
    problems: list[Diagnostic] = []
    tokenizer = Tokenizer(source)
    while True:
        try:
            statement = _StatementParser(source, tokenizer).parse()
            if statement is None:
                break
            if len(statements) >= MAX_COMMANDS:
                raise source.problem(statement.line, 1, "the script has too many commands", f"at most {MAX_COMMANDS}")
            statements.append(statement)
        except ScriptSyntaxError as problem:
            problems.append(problem.diagnostic)
            tokenizer.skip_statement()
            if len(problems) >= MAX_PROBLEMS or len(statements) >= MAX_COMMANDS:
                break
    if problems:
        raise ScriptError(problems)
    return Script(source, tuple(statements))


class _StatementParser:
    """Parses one statement, consuming tokens up to and including its line end."""

    def __init__(self, source: SourceText, tokenizer: Tokenizer) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._token = tokenizer.next_token()

    def parse(self) -> Statement | None:
        while (start := self._token).kind == "newline":
            self._advance()
        if start.kind == "end":
            return None
        targets, called = self._targets()
        statement = self._command(start.line, targets, called)
        if self._token.kind != "newline":
            raise self._problem("the statement goes on after its closing ')'", "one statement per line")
        return statement

    def _advance(self) -> Token:
        token, self._token = self._token, self._tokenizer.next_token()
        return token

    def _at(self, text: str) -> bool:
        return self._token.kind == "punctuation" and self._token.text == text

    def _expect(self, text: str, rule: str) -> None:
        if not self._at(text):
            raise self._problem(rule, repr(text))
        self._advance()

    def _problem(
        self, rule: str, need: str = "", levers: tuple[str, ...] = (), at: Token | None = None
    ) -> ScriptSyntaxError:
        token = at or self._token
        opened = self._tokenizer.innermost_open()
        if opened is not None and opened.line < token.line:
            levers = (*levers, f"{opened.text!r} of line {opened.line} is still open here: is its end missing?")
        return self._source.problem(token.line, token.column, rule, need, levers)

    def _targets(self) -> tuple[tuple[str, ...], Token]:
        """The names before ``=`` (none without one), and the token that names the command."""
        if self._token.kind == "set":
            names = _split_patterns(self._advance().text)
            self._expect("=", "a set in braces begins a statement only as the names of what a command makes")
            return names, self._called()
        first = self._called()
        if self._at("("):
            return (), first
        names = (first.text,)
        while self._at(","):
            self._advance()
            if self._token.kind != "word":
                raise self._problem("a comma left of '=' is followed by another name", "name1, name2 = command(...)")
            names = (*names, self._advance().text)
        self._expect("=", f"{printable(names[-1])!r} is neither called nor assigned")
        return names, self._called()

    def _called(self) -> Token:
        if self._token.kind != "word":
            raise self._problem("a command is missing here", "command(arguments), or name = command(arguments)")
        return self._advance()

    def _command(self, line: int, targets: tuple[str, ...], called: Token) -> Statement:
        handle, _, name = called.text.rpartition(".")
        if not _KEY.fullmatch(name):
            raise self._problem("this is not the name of a command", "letters, digits and '_'", at=called)
        self._expect("(", f"the command {name!r} has no arguments in parentheses")
        positional: list[Value] = []
        keyword: dict[str, Value] = {}
        places: dict[str, tuple[int, int]] = {}
        columns: list[tuple[int, int]] = []
        while not self._at(")"):
            columns.append((self._token.line, self._token.column))
            self._argument(positional, keyword, places)
            if self._at(","):
                self._advance()
            elif not self._at(")"):
                raise self._problem("two arguments have no comma between them", "',' or ')'")
        self._advance()
        column = called.column + len(called.text) - len(name)
        # Values without a key stand first.
        values = tuple(columns[: len(positional)])
        source = self._source
        return Statement(name, handle, targets, tuple(positional), keyword, line, column, places, values, source)

    def _argument(self, positional: list[Value], keyword: dict[str, Value], places: dict[str, tuple[int, int]]) -> None:
        token = self._token
        if token.kind == "word":
            self._advance()
            if not self._at("="):
                value = self._word_value(token)
                self._add_positional(value, positional, keyword, token)
                return
            if not _KEY.fullmatch(token.text):
                raise self._problem("this cannot be the name of an argument", "key=value", at=token)
            if token.text in keyword:
                raise self._problem(f"the argument {token.text!r} is given twice", at=token)
            self._advance()
            places[token.text] = (token.line, token.column)
            keyword[token.text] = self._value()
            return
        self._add_positional(self._value(), positional, keyword, token)

    def _add_positional(self, value: Value, positional: list[Value], keyword: dict[str, Value], token: Token) -> None:
        if keyword:
            raise self._problem(
                "a value without a key follows one with a key", "values first, then key=value", at=token
            )
        positional.append(value)

    def _value(self) -> Value:
        token = self._token
        if token.kind == "string":
            return self._advance().text
        if token.kind == "set":
            return Patterns(_split_patterns(self._advance().text))
        if token.kind == "word":
            self._advance()
            return self._word_value(token)
        if self._at("["):
            return self._list()
        raise self._problem("a value is missing here", "a number, a name, a text, a [list] or a {set}")

    def _list(self) -> tuple[Value, ...]:
        # Depth is bounded by the tokenizer (MAX_NESTING), so this recursion is too.
        self._advance()
        items: list[Value] = []
        while not self._at("]"):
            items.append(self._value())
            if self._at(","):
                self._advance()
            elif not self._at("]"):
                raise self._problem("two items of a list have no comma between them", "',' or ']'")
        self._advance()
        return tuple(items)

    def _word_value(self, token: Token) -> Value:
        text = token.text
        if _INTEGER.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self._problem("the number is too large", "a finite number", at=token)
            return number
        folded = text if text == "None" else text.lower()
        return _WORDS[folded] if folded in _WORDS else Name(text)


def _split_patterns(text: str) -> tuple[str, ...]:
    """Patterns between commas; a comma inside ``[...]`` belongs to its pattern."""
    items: list[str] = []
    depth = 0
    current: list[str] = []
    for character in text:
        if character == "," and depth == 0:
            items.append("".join(current).strip())
            current = []
            continue
        depth += (character == "[") - (character == "]" and depth > 0)
        current.append(character)
    items.append("".join(current).strip())
    return tuple(item for item in items if item)
