# SPDX-License-Identifier: Apache-2.0
"""Repository rules that no linter knows: licence lines, lengths, names of modules and of kinds of layers, portable C++,
no registry host names, no large files.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kind_rule

ROOT = Path(__file__).resolve().parent.parent
SPDX = "SPDX-License-Identifier: Apache-2.0"
SOURCE_SUFFIXES = {".py", ".cpp", ".hpp", ".h", ".sh", ".cmake", ".toml"}
MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 60
#: Functions over the limit at present. All exceptions may only shrink: one that is wider than what there is fails.
LONGER: dict[str, int] = {}
#: Names that say nothing of what a module holds.
EMPTY_NAMES = frozenset({"base.py", "utils.py", "util.py", "helpers.py", "misc.py", "common.py"})
UNNAMED: tuple[str, ...] = ()
MAX_FILE_BYTES = 512 * 1024
# Written in pieces, so that this file passes its own check.
REGISTRY_HOSTS = re.compile(
    "|".join(("py" r"pi\.org", "python" r"hosted\.org", "np" r"mjs\.org", "download\\.pytorch"))
)
# Words of one compiler or one system. compiler.hpp and the two files that ask for the processor say them for the rest;
# the C header stands alone in other people's builds.
COMPILER_WORDS = re.compile(
    r"__builtin_|__attribute__|__typeof|\btypeof\b|__int128|\basm\b|__asm|#pragma (?!once)|_Pragma|__declspec|"
    r"__extension__|(?<![\w>\])])\(\{|<(?:unistd|pthread|dlfcn|sched|intrin|cpuid|x86intrin)\.h>|<sys/|<asm/"
)
COMPILER_FILES = {
    "native/src/compiler.hpp",
    "native/src/cpu.cpp",
    "native/src/kernels/cpu_features.hpp",
    "native/include/headrace/headrace.h",
}


def tracked_files() -> list[Path]:
    """Every file that git tracks or would track, sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return [path for name in sorted(set(output.decode().split("\0"))) if name and (path := ROOT / name).is_file()]


def check(path: Path) -> list[str]:
    """What is wrong with one file, each as a sentence."""
    name = path.relative_to(ROOT).as_posix()
    data = path.read_bytes()
    problems: list[str] = []
    if len(data) > MAX_FILE_BYTES:
        problems.append(f"{name}: {len(data)} bytes, more than {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return problems
    lines = text.splitlines()
    is_source = path.suffix in SOURCE_SUFFIXES or path.name in {"Makefile", "CMakeLists.txt"}
    if is_source and text.strip() and not any(SPDX in line for line in lines[:3]):
        problems.append(f"{name}: no '{SPDX}' in its first lines")
    if name.startswith("src/") and path.suffix == ".py":
        problems += python_problems(name, text)
    portable = name.startswith("native/") and path.suffix in {".cpp", ".hpp", ".h"} and name not in COMPILER_FILES
    for number, line in enumerate(lines, 1):
        if REGISTRY_HOSTS.search(line):
            problems.append(f"{name}:{number}: names a registry host")
        if portable and (word := COMPILER_WORDS.search(line.partition("//")[0])):
            problems.append(f"{name}:{number}: {word[0]} is one compiler's or system's: native/src/compiler.hpp")
        if portable and not name.startswith("native/src/primitives/") and "Opcode::k" in line:
            problems.append(f"{name}:{number}: names an opcode: what is one primitive's stands in its own file")
    return problems


def python_problems(name: str, text: str) -> Iterator[str]:
    """What is wrong with one module of the package."""
    tree, count = ast.parse(text), len(text.splitlines())
    too_long = "more than {}: a concept is missing its name".format
    if count > MAX_MODULE_LINES:
        yield f"{name}: {count} lines, {too_long(MAX_MODULE_LINES)}"
    if name.rsplit("/", 1)[-1] in EMPTY_NAMES and name not in UNNAMED:
        yield f"{name}: the name says nothing of what the module holds"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length, allowed = node.end_lineno - node.lineno + 1, LONGER.get(f"{name}:{node.name}", MAX_FUNCTION_LINES)
            if length > allowed:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, {too_long(allowed)}"
    if not name.startswith(kind_rule.ALLOWED):
        for line, what in kind_rule.branches(tree, kind_rule.kinds_of(ROOT / "src" / "headrace" / "layers")):
            yield f"{name}:{line}: {what}: ask the operation (headrace.layers.Operation) or its type"


def stale_exceptions() -> Iterator[str]:
    """Exceptions that are not needed, or are wider than what there is."""
    lengths: dict[str, int] = {}
    for name in sorted({place.rsplit(":", 1)[0] for place in LONGER}):
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                place = f"{name}:{node.name}"
                lengths[place] = max(lengths.get(place, 0), node.end_lineno - node.lineno + 1)
    for place, allowed in LONGER.items():
        if lengths.get(place, 0) < allowed:
            yield f"tools/check_repository.py: {place} has {lengths.get(place, 0)} lines now, lower its exception"
    for name in UNNAMED:
        if not (ROOT / name).exists():
            yield f"tools/check_repository.py: {name} is no more, take its exception out"


def main() -> int:
    """Prints the problems; 1 when there is any."""
    files = tracked_files()
    problems = [*(problem for path in files for problem in check(path)), *stale_exceptions()]
    print("\n".join(problems) if problems else f"repository rules: {len(files)} files, no problem")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
