"""The web client that fetches items: it connects to no host that `Access` refuses, wherever it is redirected to.

What is checked is what is connected to: each request of a chain of redirects, and each address that a name resolves to.
Addresses are sent byte for byte, as their signatures demand. The only module that imports aiohttp.
"""

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver
from yarl import URL

from fsf_core.storage.access import Access, is_public

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult


_NOT_IN_ADDRESSES = re.compile(r"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]|%(?![0-9A-Fa-f]{2})")
"""What RFC 3986 allows in no address; square brackets are sent as they are, as curl and browsers do."""

_ADDRESS = re.compile(r"(https?://[^/?#]*)([^?#]*)([^#]*)", re.IGNORECASE | re.DOTALL)


def exact_url(address: str) -> URL:
    """Return the URL that is sent for an address: the same bytes, which a signature may cover.

    Characters that no address may hold are percent-encoded, and the segments . and .. are resolved, as curl does.
    """
    match = _ADDRESS.match(address)
    if match is None:
        return URL(address)
    host, path, query = match.groups()
    if re.search(r"/\.\.?(/|$)", path):
        path = _without_dots(path)
    return URL(str(URL(host)).rstrip("/") + _NOT_IN_ADDRESSES.sub(_encoded, path + query), encoded=True)


def _without_dots(path: str) -> str:
    """Return a path without its segments . and .. (RFC 3986, 5.2.4); empty segments stay."""
    kept: list[str] = []
    names = path.split("/")[1:]
    for name in names:
        if name == "..":
            del kept[-1:]
        elif name != ".":
            kept.append(name)
    return "/" + "/".join([*kept, ""] if names[-1] in {".", ".."} and kept else kept)


def _encoded(match: re.Match[str]) -> str:
    return quote(match[0], safe="", errors="surrogateescape")


async def session(**settings: Any) -> aiohttp.ClientSession:
    """Return a client for any host, for addresses of the user's own.

    Args:
        settings: of aiohttp.ClientSession.
    """
    return aiohttp.ClientSession(connector=_ExactConnector(), requote_redirect_url=False, **settings)


async def guarded_session(access: Access, **settings: Any) -> aiohttp.ClientSession:
    """Return a client that is limited to the hosts of `access`.

    Args:
        access: hosts that may be connected to.
        settings: of aiohttp.ClientSession. Proxies are only used if these say so (trust_env, proxy); a proxy resolves
            names itself, so that only listed hosts are passed to it.
    """
    urls = [*getproxies().values()] if settings.get("trust_env") else []
    urls += [str(settings["proxy"])] if settings.get("proxy") else []
    proxies = frozenset(filter(None, (urlsplit(url).hostname for url in urls)))
    return aiohttp.ClientSession(connector=_GuardedConnector(access, proxies), requote_redirect_url=False, **settings)


def timeouts(*, connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    """Return the longest time to connect, and between two bytes of a response."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=read_s)


class _ExactConnector(aiohttp.TCPConnector):
    """Sends addresses as `exact_url` gives them, also those that a server redirects to."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's signature
        if _NOT_IN_ADDRESSES.search(req.url.raw_path_qs):
            req.url = exact_url(str(req.url))
        return await super().connect(req, traces, timeout)


class _GuardedConnector(_ExactConnector):
    """Connects to allowed hosts only; aiohttp asks it once per request, redirected ones included."""

    def __init__(self, access: Access, proxies: frozenset[str]) -> None:
        super().__init__(resolver=_GuardedResolver(access, proxies))
        self._access = access
        self._proxies = proxies

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's signature
        host = req.url.host or ""
        self._access.require_host(host)
        if (req.proxy or host in self._proxies) and not self._access.lists(host):
            raise self._access.refusal(host)
        return await super().connect(req, traces, timeout)


class _GuardedResolver(AbstractResolver):
    """Resolves names to public addresses only, but for listed hosts and the proxies."""

    def __init__(self, access: Access, proxies: frozenset[str]) -> None:
        self._access = access
        self._proxies = proxies
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> "list[ResolveResult]":
        found = await self._resolver.resolve(host, port, family)
        if self._access.lists(host) or host in self._proxies:
            return found
        public = [one for one in found if is_public(ipaddress.ip_address(one["host"].partition("%")[0]))]
        if not public:
            raise self._access.refusal(host)
        return public

    async def close(self) -> None:
        await self._resolver.close()
