r"""Text that may be shown: credentials are replaced, and characters that act on a terminal are escaped.

Knows how credentials appear in addresses and messages, and which variables hold them. Opens nothing.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
"""Replaces a credential."""

SHORTEST_PASSWORD = 4
"""Characters; a shorter password is hidden only before the @, because it may occur inside other words."""

SHORTEST_SECRET = 6
"""Characters of a variable's value; a shorter one may occur inside other words."""

# user:password@, including slashes and at signs that people leave unescaped in a password; a numeric port is none.
_PASSWORD = re.compile(r"(?<=://)[^/@:\s]*:(?!\d*/)[^@\s\"']*@(?:[^/@\s\"']*@)*")

# http:// and https://; elsewhere a name before @ is no secret (abfss://container@account).
_TOKEN = re.compile(r"(?i)(?<=http://|ttps://)[^/@\s]+@")

CREDENTIAL_PARAMETERS = (
    "x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|signature|sig|token|secret|access_token"
    "|refresh_token|id_token|auth_token|client_secret|secret_key|access_key|api_?key|x-api-key|jwt|password|passwd|pwd"
)
"""Pattern of the query parameters that hold a credential."""

_SIGNED = re.compile(rf"(?i)([?&](?:{CREDENTIAL_PARAMETERS})=)[^&#\s\"']+")

# In messages only: an address without its scheme, headers, connection strings and settings that libraries quote.
_LOGIN = re.compile(r"(?<![\w/.%+-])[^\s/:@'\"()]{1,128}:[^\s/@'\"()]{1,256}@(?=[\w.-]+(?::\d|/))")
_HEADER = re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:[a-z]+\s+)?|\bbearer\s+)[\w.~+/=-]{8,}")
_SETTING = re.compile(
    r"(?i)(\b(?:aws_)?(?:secret_access_key|session_token)|account_?key|sharedaccesssignature|sas_token|client_secret"
    r"|password|passwd)(['\"]?\s*[=:]\s*['\"]?)([^\s;&'\",}]+)"
)

_SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:secret|token|password|passwd|secret_access_key|account_?key|storage_key|api_?key|private_key|sas"
    r"|connection_string)s?(?:_|$)"
)
_NO_SECRET_NAME = re.compile(r"(?i)_(?:file|path|dir|id|uri|url|endpoint|name|mode|type)$")
_CONNECTION_PART = re.compile(r"(?i)(?:accountkey|sharedaccesssignature)=([^;]+)")

# Control characters, line and paragraph separators, bidirectional and other invisible formatting, lone surrogates.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def redact(uri: str) -> str:
    """Return a URI, or a text with URIs in it, without credentials; the same in every environment."""
    if "://" not in uri or not ("@" in uri or "?" in uri):
        return uri
    return _SIGNED.sub(rf"\1{HIDDEN}", _TOKEN.sub(f"{HIDDEN}@", _PASSWORD.sub(f"{HIDDEN}@", uri)))


def is_redacted(uri: str) -> bool:
    """Return whether `redact` removed a credential from the URI."""
    return f"://{HIDDEN}@" in uri or f"={HIDDEN}" in uri


def without_login(uri: str) -> str:
    """Return a URI without the login before its host, also where `redact` has replaced it."""
    return _TOKEN.sub("", _PASSWORD.sub("", uri.replace(f"://{HIDDEN}@", "://")))


def secrets_of(uri: str) -> list[str]:
    """Return what `redact` hides in a URI, longest first; also passwords alone, unless too short."""
    logins = [match[0].removesuffix("@") for match in (*_PASSWORD.finditer(uri), *_TOKEN.finditer(uri))]
    found = {*logins, *(match[0].removeprefix(match[1]) for match in _SIGNED.finditer(uri))}
    found |= {login.partition(":")[2] for login in logins if len(login.partition(":")[2]) >= SHORTEST_PASSWORD}
    found |= {unquote(secret) for secret in found}
    return sorted(filter(None, found), key=len, reverse=True)


def redact_message(text: str) -> str:
    """Return a message without credentials: those of its URIs, and those of this process wherever they occur.

    Credentials of the process are the values of its secret variables, and the passwords and signatures of addresses in
    its variables and on its command line.
    """
    for secret in _process_secrets():
        text = text.replace(secret, HIDDEN)
    text = _SIGNED.sub(rf"\1{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", redact(text)))
    return _SETTING.sub(rf"\1\2{HIDDEN}", _HEADER.sub(rf"\1{HIDDEN}", text))


def redact_document(value: Any) -> Any:
    """Return a JSON document with every text in it redacted as a message, keys included."""
    if isinstance(value, str):
        return redact_message(value)
    if isinstance(value, dict):
        return {redact_message(str(key)): redact_document(item) for key, item in value.items()}
    return [*map(redact_document, value)] if isinstance(value, list | tuple) else value


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text whose control, separator and bidirectional characters are escaped as in JSON (\u001b).

    Args:
        text: any.
        lines: whether to keep line breaks and tabs, for text of several lines.
    """
    return _ACTING.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escape(match[0]), text)


def json_line(document: Any) -> str:
    """Return a document without credentials as JSON on one line that is safe to print."""
    return printable(json.dumps(redact_document(document), ensure_ascii=False))


def _escape(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _process_secrets() -> tuple[str, ...]:
    """Return the credentials in the variables and on the command line of this process, longest first."""
    variables = frozenset(getattr(os.environ, "_data", os.environ).items())  # encoded, which is fast to read
    return _secrets_in(variables, tuple(sys.argv))


@lru_cache(maxsize=1)
def _secrets_in(variables: frozenset[tuple[str | bytes, str | bytes]], words: tuple[str, ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for name, value in (map(os.fsdecode, pair) for pair in variables):
        if "://" in value:
            found.update(secrets_of(value))
        if _SECRET_NAME.search(name) and not _NO_SECRET_NAME.search(name):
            found.update((value, *_CONNECTION_PART.findall(value)))
        elif name.startswith("FSSPEC_"):
            found.update(_secrets_in_json(value))
    for word in words:
        if "://" in word:
            found.update(secrets_of(word))
    return tuple(sorted((secret for secret in found if len(secret) >= SHORTEST_SECRET), key=len, reverse=True))


def _secrets_in_json(text: str) -> Iterator[str]:
    """Yield the values of secret names in a JSON document; none if it is no JSON."""
    try:
        waiting = [json.loads(text)]
    except ValueError:
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            for name, secret in value.items():
                if isinstance(secret, str) and _SECRET_NAME.search(name):
                    yield secret
                    yield from _CONNECTION_PART.findall(secret)
