#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Creates a virtual environment with the pinned packages and builds Headrace with its native library into it.
# usage: tools/setup.sh VENV       (PYTHON names the interpreter, JOBS the compiler processes)
set -euo pipefail

venv=${1:?usage: tools/setup.sh VENV}
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "no '$python' found; need Python 3.11 or newer" \
    "Debian and Ubuntu: apt-get install python3 python3-venv; or: make setup PYTHON=/path/to/python3.11"
"$python" - <<'PY' || fail "'$python' is $("$python" -V 2>&1); need Python 3.11 or newer" \
    "point at one: make setup PYTHON=/path/to/python3.11"
import sys
sys.exit(sys.version_info < (3, 11))
PY
if [ -n "${CXX:-}" ]; then
    command -v "$CXX" >/dev/null 2>&1 || fail "CXX is '$CXX', which is not a program"
else
    command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 || \
        fail "no C++ compiler found; need one with C++17" \
             "Debian and Ubuntu: apt-get install g++; macOS: xcode-select --install"
fi

if [ ! -x "$venv/bin/python" ]; then
    say "creating $venv"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "'$python' has no venv module" \
        "Debian and Ubuntu: apt-get install python3-venv"
    "$python" -m venv "$venv"
fi
py="$venv/bin/python"

# cmake and ninja come from the package index where the machine has none that is new enough.
tools=(scikit-build-core nanobind)
if ! cmake --version 2>/dev/null | "$py" -c '
import re, sys
found = re.search(r"version (\d+)\.(\d+)", sys.stdin.read())
sys.exit(not found or tuple(map(int, found.groups())) < (3, 20))'; then
    tools+=(cmake)
fi
command -v ninja >/dev/null 2>&1 || tools+=(ninja)

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT="$root/constraints.txt"
say "installing build tools: ${tools[*]}"
"$py" -m pip install --quiet --quiet "${tools[@]}"
say "building the native library and installing headrace with its packages (a few minutes the first time)"
PATH="$(cd "$venv/bin" && pwd):$PATH" CMAKE_BUILD_PARALLEL_LEVEL="${JOBS:-2}" \
    "$py" -m pip install --quiet --quiet --no-build-isolation --editable ".[sdk,host,test]"
"$py" -m compileall -q src >/dev/null || true
say "ready: $("$py" -c 'import headrace; print("headrace", headrace.__version__)') in $venv"
