# SPDX-License-Identifier: Apache-2.0
"""Repository rules that no linter knows: licence lines, module length, portable C++, no registry host names, no large
files.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPDX = "SPDX-License-Identifier: Apache-2.0"
SOURCE_SUFFIXES = {".py", ".cpp", ".hpp", ".h", ".sh", ".cmake", ".toml"}
MAX_MODULE_LINES = 620
MAX_FUNCTION_LINES = 70
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
        if len(lines) > MAX_MODULE_LINES:
            problems.append(f"{name}: {len(lines)} lines, more than {MAX_MODULE_LINES}: a concept is missing its name")
        problems += long_functions(name, text)
    portable = name.startswith("native/") and path.suffix in {".cpp", ".hpp", ".h"} and name not in COMPILER_FILES
    for number, line in enumerate(lines, 1):
        if REGISTRY_HOSTS.search(line):
            problems.append(f"{name}:{number}: names a registry host")
        if portable and (word := COMPILER_WORDS.search(line.partition("//")[0])):
            problems.append(f"{name}:{number}: {word[0]} is one compiler's or system's: native/src/compiler.hpp")
    return problems


def long_functions(name: str, text: str) -> list[str]:
    """Functions longer than the limit."""
    problems: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                problems.append(f"{name}:{node.lineno}: {node.name} has {length} lines, more than {MAX_FUNCTION_LINES}")
    return problems


def main() -> int:
    """Prints the problems; 1 when there is any."""
    files = tracked_files()
    problems = [problem for path in files for problem in check(path)]
    print("\n".join(problems) if problems else f"repository rules: {len(files)} files, no problem")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
