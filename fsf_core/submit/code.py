"""The code of this package: its digest, and what of it travels to a cluster that lacks it."""

import hashlib
from functools import cache
from pathlib import Path

import fsf_core

HOME = Path(fsf_core.__file__).parent

EXCLUDED = ["__pycache__", "*.pyc", "*.nbi", "*.nbc", "*.md", "*.safetensors"]
"""Patterns of files that are not sent: the loops compiled for this machine, above all."""


@cache
def code_digest() -> str:
    """Return a digest of all modules; equal where the same code is installed, from a wheel or a checkout."""
    digest = hashlib.sha256()
    for path in sorted(HOME.rglob("*.py"), key=lambda path: path.relative_to(HOME).parts):
        name = "/".join(path.relative_to(HOME).parts).encode()
        content = path.read_bytes()
        digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()[:16]
