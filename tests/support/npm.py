"""Programs and scripts from npm, installed once per version in a folder of the user."""

import shutil
import subprocess
from pathlib import Path

import pytest


def installed(package: str, version: str, file: str, *, name: str) -> Path:
    """Return a file of a package, installed first where it is missing; skip the test where npm cannot do that.

    Args:
        package: its name in npm.
        version: exactly this one.
        file: path inside the package.
        name: what a person calls it.
    """
    home = Path.home() / ".cache" / "fsf-tests" / f"{package}-{version}"
    found = home / "node_modules" / package / file
    if not found.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"{name} comes from npm, and npm is not installed")
        home.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), f"{package}@{version}"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        if result.returncode:
            pytest.skip(f"{name} cannot be installed: {result.stderr[-300:]}")
    return found
