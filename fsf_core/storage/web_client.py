"""The web client that fetches items: it connects to no host that `Access` refuses, wherever it is redirected to.

What is checked is what is connected to: each request of a chain of redirects, and each address that a name resolves to.
The only module that imports aiohttp.
"""

import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import DefaultResolver

from fsf_core.storage.access import Access, is_public

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult


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
    return aiohttp.ClientSession(connector=_GuardedConnector(access, proxies), **settings)


def timeouts(*, connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    """Return the longest time to connect, and between two bytes of a response."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=read_s)


class _GuardedConnector(aiohttp.TCPConnector):
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
