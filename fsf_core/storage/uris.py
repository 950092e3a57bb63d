"""Addresses of files: their schemes, joining and parting, and hiding the credentials in them.

Knows text alone; opens nothing.
"""

import re
from pathlib import Path

from fsf_core.errors import FetchError

RETRYING_STORES = frozenset(("gs", "gcs", "az", "abfs", "abfss", "hf"))
"""Stores whose libraries try again themselves, and cannot be kept from it."""

OBJECT_STORES = frozenset(("s3", "s3a", *RETRYING_STORES)) - {"hf"}

SPAN = re.compile(r"span://(\d+)\+(\d+)/(.+)", re.DOTALL)

_HELD = re.compile(r"(?:span://\d+\+\d+|cell://\d+\.\d+/[^/]+)/(.+)", re.DOTALL)

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.\-]+)://")

# user:password@, the slashes and at signs that people leave unescaped in a password included; a numeric port is none.
_PASSWORD = re.compile(r"(?<=://)[^/@:\s]+:(?!\d*/)[^@\s\"']*@(?:[^/@\s\"']*@)*")

# http:// and https://; elsewhere a name before @ is no secret (abfss://container@account).
_TOKEN = re.compile(r"(?i)(?<=http://|ttps://)[^/@\s]+@")

_TRAILING = re.compile(r"(?<=[^:/])/+$")

_SIGNED = re.compile(
    r"(?i)([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|signature|sig|token|secret"
    r"|access_token|api_?key|password)=)[^&#\s\"']+"
)

HIDDEN = "***"
"""What stands in the place of a credential."""

SHORTEST_PASSWORD = 4
"""A shorter one is hidden in its place before the @ only, lest it be found inside every other word."""


def scheme(uri: str) -> str:
    """The scheme of a URI in lower case; `file` for a plain path."""
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else "file"


def is_local(uri: str) -> bool:
    """Whether the URI names a path on this machine."""
    return scheme(uri) == "file"


def local_path(uri: str) -> Path:
    """The path behind a local URI; percent signs are literal, as in fsspec."""
    return Path(uri[7:] if uri[:7].lower() == "file://" else uri)


def redact(uri: str) -> str:
    """The URI, or a text with URIs in it, without credentials: fit for logs, tables and errors."""
    if "://" not in uri or not ("@" in uri or "?" in uri):
        return uri
    return _SIGNED.sub(rf"\1{HIDDEN}", _TOKEN.sub(f"{HIDDEN}@", _PASSWORD.sub(f"{HIDDEN}@", uri)))


def is_redacted(uri: str) -> bool:
    """Whether `redact` took a credential out of it."""
    return f"://{HIDDEN}@" in uri or f"={HIDDEN}" in uri


def absolute(uri: str, base: str = "") -> str:
    """The URI as every process understands it; relative paths count from `base`, or from the working directory."""
    if _SCHEME.match(uri):
        return uri
    if uri == "~" or uri.startswith("~/"):
        uri = str(Path(uri).expanduser())
    if uri.startswith("/") or not base:
        return str(Path(uri).absolute()) if is_local(uri) else uri
    return join(base, uri)


def join(base: str, *names: str) -> str:
    """Names below a folder, whatever the store."""
    stem = _TRAILING.sub("", base)
    return stem + ("" if stem.endswith("/") else "/") + "/".join(name.strip("/") for name in names)


def parent(uri: str) -> str:
    """The folder that holds the file; ends with :// where that is the root of a store."""
    path = without_query(uri).rstrip("/")
    if path[: path.rfind("/") + 1].endswith("://"):
        return path[: path.rfind("/") + 1]
    head, _, _ = path.rpartition("/")
    return f"{head}/" if head in {"", "file://"} and "/" in path else head or "."


def byte_range(uri: str, offset: int, length: int) -> str:
    """The URI of some bytes of a file, which is opened as if it were a file of its own."""
    return f"span://{offset}+{length}/{uri}"


def container_of(uri: str) -> str:
    """The file that holds what a URI names: of a span or a cell, the file it is part of; else the file itself."""
    match = _HELD.fullmatch(uri)
    return match[1] if match else uri


def without_query(uri: str) -> str:
    """The URI up to its path: on the web a question mark begins the query, elsewhere it is part of a name."""
    return uri.split("?", 1)[0] if scheme(uri) in {"http", "https"} else uri


def require_scheme(uri: str, allowed: tuple[str, ...]) -> None:
    """Refuse a URI whose scheme is not on the list.

    Raises:
        FetchError: found / expected / do.
    """
    found = scheme(container_of(uri))
    if found not in map(str.lower, allowed):
        raise FetchError(
            f"{redact(uri)} has the scheme {found!r}, allowed are {', '.join(allowed)}; pass --schemes to allow it"
        )


def secrets_of(uri: str) -> list[str]:
    """What `redact` hides in a URI, the longest first; a password alone where it cannot be part of a word."""
    logins = [match[0].removesuffix("@") for match in (*_PASSWORD.finditer(uri), *_TOKEN.finditer(uri))]
    found = {*logins, *(match[0].removeprefix(match[1]) for match in _SIGNED.finditer(uri))}
    found |= {login.partition(":")[2] for login in logins if len(login.partition(":")[2]) >= SHORTEST_PASSWORD}
    return sorted(filter(None, found), key=len, reverse=True)
