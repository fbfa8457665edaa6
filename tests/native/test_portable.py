# SPDX-License-Identifier: Apache-2.0
"""What is one compiler's or one primitive's stands in its own file.

What stands in where a compiler lacks something gives the same.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from native.conftest import ROOT

SOURCE = r"""
#include <cstdio>
#include <cstdlib>
#include <random>

#include "wide.hpp"

using headrace::TwoWords;
using Own = unsigned __int128;

static TwoWords two(Own v) {
  return TwoWords(static_cast<uint64_t>(v >> 64)) * TwoWords(uint64_t{1} << 32) * TwoWords(uint64_t{1} << 32) +
         TwoWords(static_cast<uint64_t>(v));
}
static bool same(TwoWords a, Own b) {
  const TwoWords word = TwoWords(uint64_t{1} << 32) * TwoWords(uint64_t{1} << 32);
  return static_cast<uint64_t>(a) == static_cast<uint64_t>(b) &&
         static_cast<uint64_t>(a / word) == static_cast<uint64_t>(b >> 64);
}
int main() {
  std::mt19937_64 random(1);
  const auto number = [&] { return ((static_cast<Own>(random()) << 64) | random()) >> (random() % 128); };
  for (int i = 0; i < 100000; ++i) {
    const Own a = number(), b = number();
    const bool good = same(two(a), a) && same(two(a) + two(b), a + b) && same(two(a) - two(b), a - b) &&
                      same(two(a) * two(b), a * b) && (b == 0 || same(two(a) / two(b), a / b)) &&
                      (two(a) < two(b)) == (a < b) && (two(a) > two(b)) == (a > b);
    if (!good) return 1;
  }
  std::puts("same");
}
"""


def test_two_words_are_a_number_of_128_bits(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no compiler")
    (tmp_path / "main.cpp").write_text(SOURCE)
    include = f"-I{ROOT / 'native' / 'src'}"
    command = [compiler, "-std=c++17", "-O2", include, str(tmp_path / "main.cpp"), "-o", str(tmp_path / "main")]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([str(tmp_path / "main")], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "same"


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("const int n = __builtin_clz(x);", False),
        ("__attribute__((noinline)) void f();", False),
        ("const int n = ({ int m = 1; m; });", False),
        ("using Wide = unsigned __int128;", False),
        ("#pragma GCC unroll 1", False),
        ("#include <unistd.h>", False),
        ('asm("" : "+r"(x));', False),
        ("#pragma once", True),
        ("all.push_back({1, 2});  // not __builtin_clz", True),
        ("HEADRACE_NOINLINE void f();", True),
        ("case Opcode::kSlice:", False),
    ],
)
def test_lint_finds_what_stands_in_the_wrong_file(
    line: str, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("check_repository", ROOT / "tools" / "check_repository.py")
    assert spec is not None and spec.loader is not None
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    monkeypatch.setattr(rules, "ROOT", tmp_path)
    own = "native/src/primitives/slice.cpp" if "Opcode" in line else "native/src/compiler.hpp"
    for place in ("native/src/some.cpp", own):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// {rules.SPDX}\n{line}\n")
        found = rules.check(path)
        assert bool(found) == (not good and place.endswith("some.cpp")), found
