"""Packages of Node for tests, from their lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.alone import alone


def needed(*programs: str) -> None:
    """Skip where one of these programs is not there; on CI they must be."""
    missing = [program for program in programs if not shutil.which(program)]
    assert not missing or "CI" not in os.environ, f"missing: {missing}"
    if missing:
        pytest.skip(f"missing: {missing}")


def fetched(folder: Path) -> None:
    """The locked packages of this folder, installed when the lock has changed."""
    needed("node", "npm")
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".lock"
    with alone(f"npm-{folder.name}"):
        if not stamp.exists() or stamp.read_text() != lock:
            command = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-progress", "--loglevel=error"]
            subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
            stamp.write_text(lock)
