"""URIs of files as text: schemes, joining and splitting. Opens nothing."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from fsf_core.safe_text import CREDENTIAL_PARAMETERS, without_login

RETRYING_STORES = frozenset(("gs", "gcs", "az", "abfs", "abfss", "hf"))
"""Stores whose libraries retry by themselves; that cannot be switched off."""

OBJECT_STORES = frozenset(("s3", "s3a", *RETRYING_STORES)) - {"hf"}

SPAN_PATTERN = re.compile(r"span://(\d+)\+(\d+)(?:![^/]*)?/(.+)", re.DOTALL)

CONTAINED_SCHEMES = frozenset(("span", "cell"))
"""Schemes of parts of files, which only this program makes: members of tar archives and cells of Parquet tables."""

_CONTAINED = re.compile(r"(?:span://\d+\+\d+(?:![^/]*)?|cell://\d+\.\d+/[^/]+)/(.+)", re.DOTALL)

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.\-]+)://")

_FILE = re.compile(r"(?i)^file:(?://(?:localhost(?=/))?|(?=/))")
"""The part of a local address before its path (RFC 8089): file:/a, file:///a, file://localhost/a."""

_TRAILING = re.compile(r"(?<=[^:/])/+$")

_SIGNING_PARAMETER = re.compile(
    rf"(?i)x-(amz|goog|oss|cos|ms)-.+|(aws|oss)?accesskeyid|googleaccessid|key-pair-id|security-token|{CREDENTIAL_PARAMETERS}"
)
"""Query parameters that grant access to a file and do not select one; `redact` hides some of them."""

_BESIDE_SIGNATURE = {
    "signature": frozenset(("expires", "policy", "hash-algorithm")),  # S3, GCS and OSS version 2, CloudFront
    "sig": frozenset(  # Azure
        ("sv", "ss", "srt", "sp", "se", "st", "spr", "sip", "sr", "si", "skoid", "sktid", "skt", "ske", "sks", "skv")
    )
    | {"saoid", "suoid", "scid", "sdd", "ses"},
}
"""Parameter to others that belong to the signature only where it is present."""


def scheme(uri: str) -> str:
    """Return the scheme of a URI in lower case; `file` for a plain path."""
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else "file"


def is_local(uri: str) -> bool:
    """Return whether the URI names a path on this machine."""
    return scheme(uri) == "file"


def local_path(uri: str) -> Path:
    """Return the path of a local URI; that of a `file:` address as it is written, or decoded if only that exists."""
    path = written_path(uri)
    if path == uri or "%" not in path:
        return Path(path)
    decoded = os.fsdecode(unquote_to_bytes(path))
    return Path(decoded if os.path.lexists(decoded) and not os.path.lexists(path) else path)


def written_path(uri: str) -> str:
    """Return the path of a local URI as it is written there, with its percent signs."""
    return _FILE.sub("", uri)


def without_credentials(uri: str) -> str:
    """Return a URI without login and signature, which may change while the file stays; a redacted URI gives the same.

    Signatures are removed with what belongs to them, such as their date: X-Amz-*, X-Goog-*, Azure's SAS, CloudFront's.
    """
    uri = without_login(uri)
    address, mark, query = uri.partition("?")
    if not mark or is_local(uri):
        return uri
    parameters = [(parameter, parameter.partition("=")[0].lower()) for parameter in query.split("&")]
    names = {name for _, name in parameters}
    others = {name for signature, beside in _BESIDE_SIGNATURE.items() if signature in names for name in beside}
    kept = [text for text, name in parameters if name not in others and not _SIGNING_PARAMETER.fullmatch(name)]
    return f"{address}?{'&'.join(kept)}" if kept else address


def canonical(uri: str) -> str:
    """Return the same text for every way to write an address: relative, with links, with `file://`, signed."""
    uri = absolute(uri)
    if is_local(uri):
        return "/" + os.path.realpath(local_path(uri)).lstrip("/")
    return _TRAILING.sub("", without_credentials(uri))


def absolute(uri: str, base: str = "") -> str:
    """Return the URI in absolute form, with its scheme in lower case; `file:` remains only with a base.

    Args:
        uri: any.
        base: folder that relative paths count from; without it, the working directory.
    """
    if match := _SCHEME.match(uri):
        name = match[1].lower()
        if name != "file":  # SPAN:// and CELL:// are names that lists made up
            return uri if name in CONTAINED_SCHEMES else name + uri[len(name) :]
    if _FILE.match(uri):
        path = written_path(uri)
        if path.startswith("/"):
            return f"file://{path}" if base else str(local_path(uri).absolute())
        uri = path  # file://photos
    if uri == "~" or uri.startswith("~/"):
        uri = str(Path(uri).expanduser())
    if uri.startswith("/") or not base:
        return str(Path(uri).absolute())
    return join(base, uri)


def join(base: str, *names: str) -> str:
    """Append names to the URI of a folder."""
    stem = _TRAILING.sub("", base)
    return stem + ("" if stem.endswith("/") else "/") + "/".join(name.strip("/") for name in names)


def parent(uri: str) -> str:
    """Return the folder of a file; it ends with :// where it is the root of a store."""
    path = without_query(uri).rstrip("/")
    if path[: path.rfind("/") + 1].endswith("://"):
        return path[: path.rfind("/") + 1]
    head, _, _ = path.rpartition("/")
    return f"{head}/" if head in {"", "file://"} and "/" in path else head or "."


def byte_range(uri: str, offset: int, length: int, *, name: str = "") -> str:
    """Return the URI of a range of bytes of a file; it can be opened like a file.

    Args:
        uri: the file.
        offset: of the first byte.
        length: in bytes.
        name: what the range holds, for readers of the URI.
    """
    shown = re.sub(r"[%/@:?#\x00-\x1f]", lambda match: f"%{ord(match[0]):02X}", name)
    return f"span://{offset}+{length}{'!' if shown else ''}{shown}/{uri}"


def name_of_range(uri: str) -> str:
    """Return the name that byte_range was given; the URI itself if it was none."""
    match = re.match(r"span://\d+\+\d+!([^/]*)/", uri)
    return unquote(match[1]) if match else uri


def container_of(uri: str) -> str:
    """Return the file that a span or a cell is part of; for any other URI, the URI itself."""
    match = _CONTAINED.fullmatch(uri)
    return match[1] if match else uri


def without_query(uri: str) -> str:
    """Return the URI without its query; only on the web does a question mark begin one."""
    return uri.split("?", 1)[0] if scheme(uri) in {"http", "https"} else uri


def as_listed(uri: str) -> str:
    """Return the address of a list's row in a form that is never opened as a part of a file: SPAN:// and CELL://."""
    name, separator, rest = uri.partition("://")
    return name.upper() + separator + rest if scheme(uri) in CONTAINED_SCHEMES else uri
