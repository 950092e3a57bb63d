"""What a job must know and nobody may read: sealed to a key that the job makes, and sent over the dashboard's port.

The job makes a key pair and prints the public key in its log. The client seals the settings to it (libsodium's sealed
box: X25519, XSalsa20, Poly1305) and uploads them under a name that follows from the key. The job takes them out of the
memory of the head and opens them. The log, the jobs API and the head only ever have the public key and the sealed box.
"""

import base64
import binascii
import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from fsf_core.errors import ResumableError

PREFIX = "fsf-submit "
"""Begins a line of the log by which the job talks to the client."""

RECEIVE_S = 300.0
"""How long a job waits for its settings."""

POLL_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What a job gets in addition to its command line."""

    job_id: str
    words: tuple[str, ...]
    """The command line, with its secrets."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Store settings, and options of the command."""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Variable to the content of the file that it names."""
    attached: Mapping[str, bytes] = field(default_factory=dict)
    """Relative path to the content of a file that the command line names."""
    paths: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Path on the client to what is to be found at the same path on the cluster."""


def seal(handover: Handover, key: str) -> tuple[str, bytes]:
    """Return the name and the content of an upload that only the owner of the key can read.

    Raises:
        ValueError: it is no key.
    """
    from nacl.public import PublicKey, SealedBox

    public = base64.urlsafe_b64decode(key)
    document = {
        "job_id": handover.job_id,
        "words": handover.words,
        "variables": dict(handover.variables),
        "files": {name: base64.b64encode(content).decode() for name, content in handover.files.items()},
        "attached": {name: base64.b64encode(content).decode() for name, content in handover.attached.items()},
        "paths": dict(handover.paths),
    }
    return package_name(public), bytes(SealedBox(PublicKey(public)).encrypt(json.dumps(document).encode()))


def package_name(public_key: bytes) -> str:
    """Return the name under which the settings for a key are uploaded."""
    return f"_ray_pkg_fsf_{hashlib.sha256(public_key).hexdigest()[:32]}.zip"


def receive(job_id: str | None, *, timeout_s: float = RECEIVE_S) -> Handover:
    """Print a key to the log, wait for the settings, and return them.

    Raises:
        ResumableError: none arrive in time, or they are for another job.
    """
    from nacl.exceptions import CryptoError
    from nacl.public import PrivateKey, SealedBox

    key = PrivateKey.generate()
    public = bytes(key.public_key)
    announce("settings_awaited", key=base64.urlsafe_b64encode(public).decode())
    sealed = _take(f"gcs://{package_name(public)}".encode(), timeout_s)
    if sealed is None:
        raise ResumableError(
            f"no settings arrived within {timeout_s:g} s, expected them from the client that submitted this job; it "
            "was lost, start the same command again"
        )
    try:
        document = json.loads(SealedBox(key).decrypt(sealed))
    except CryptoError as error:
        raise ResumableError(
            "the settings of this job were altered on their way; start the same command again"
        ) from error
    if document["job_id"] != job_id:
        raise ResumableError("the settings are those of another job; start the same command again")
    announce("settings_received")
    return Handover(
        job_id=document["job_id"],
        words=tuple(document["words"]),
        variables=document["variables"],
        files={name: base64.b64decode(content) for name, content in document["files"].items()},
        attached={name: base64.b64decode(content) for name, content in document["attached"].items()},
        paths=document["paths"],
    )


def _take(key: bytes, timeout_s: float) -> bytes | None:
    """Take an upload out of the memory of the head; None if there is none in time."""
    from ray import _raylet
    from ray.exceptions import RayError

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(RayError, RuntimeError, ConnectionError):  # the head is busy
            client: Any = _raylet.GcsClient(address=os.environ["RAY_ADDRESS"])  # type: ignore[attr-defined] # not in the stubs
            while (content := client.internal_kv_get(key, None)) is None and time.monotonic() < deadline:
                time.sleep(POLL_S)
            if content is not None:
                client.internal_kv_del(key, False, None)
                return bytes(content)
        time.sleep(POLL_S)
    return None


def announce(event: str, text: str = "", *, to: TextIO | None = None, **facts: object) -> None:
    """Print one line for the client."""
    words = [f"event={event}", *(f"{name}={value}" for name, value in facts.items()), *([text] if text else [])]
    stream = to or sys.stdout
    stream.write(f"{PREFIX}{' '.join(words)}\n")
    stream.flush()


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A line of the log that `announce` printed."""

    event: str
    facts: dict[str, str]
    text: str


def parse_announcement(line: str) -> Announcement | None:
    """Return the announcement of a line of the log, or None if it is another line."""
    match = re.fullmatch(rf"{PREFIX}event=(\w+)((?: \w+=\S*)*)(?: (\{{.*))?", line)
    if match is None:
        return None
    facts = dict(fact.split("=", 1) for fact in match[2].split())
    if "key" in facts:
        try:
            base64.urlsafe_b64decode(facts["key"])
        except binascii.Error:
            return None
    return Announcement(event=match[1], facts=facts, text=match[3] or "")
