"""Which addresses of items may be opened: a list may come from a stranger. Opens nothing, and resolves no names."""

import fnmatch
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from fsf_core.errors import FetchError
from fsf_core.safe_text import redact
from fsf_core.storage.uris import CONTAINED_SCHEMES, container_of, scheme

WEB = frozenset(("http", "https"))

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Schemes and web hosts that items may have."""

    schemes: tuple[str, ...]
    http_hosts: tuple[str, ...] = ()
    """Patterns of hosts (*.example.com), which may have private addresses; if there is none, every public host."""

    def require(self, uri: str) -> None:
        """Check the address of an item as far as its text tells; names are checked when they are resolved.

        Raises:
            FetchError: its scheme or its host is not allowed.
        """
        whole = container_of(uri)
        used = scheme(whole)
        if used in CONTAINED_SCHEMES:
            raise FetchError(
                f"{redact(uri)} names a part of a file, which lists may not do; list the file itself, or pass the tar "
                "archive or Parquet table as --manifest"
            )
        if used not in map(str.lower, self.schemes):
            raise FetchError(
                f"{redact(uri)} has the scheme {used!r}, expected one of {', '.join(self.schemes)}; pass --schemes to "
                "allow it"
            )
        if used in WEB:
            self.require_host(_host_of(whole))

    def require_host(self, host: str) -> None:
        """Check a web host as it is written.

        Raises:
            FetchError: it is not listed, or is a private address.
        """
        if self.lists(host):
            return
        if self.http_hosts:
            raise FetchError(f"the host {host!r} is none of {', '.join(self.http_hosts)}; add it to --http-hosts")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        if not is_public(address):
            raise self.refusal(host)

    def refusal(self, host: str) -> FetchError:
        """Return the error of a host whose address is not public."""
        return FetchError(
            f"the host {host!r} has a private, local or reserved address, expected a public one; pass --http-hosts "
            f"{host} if its content may be read"
        )

    def lists(self, host: str) -> bool:
        """Return whether a pattern names the host."""
        name = host.lower().rstrip(".")
        return any(fnmatch.fnmatchcase(name, pattern.lower().rstrip(".")) for pattern in self.http_hosts)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address is reachable from the internet, also if it is an IPv4 address inside an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _host_of(uri: str) -> str:
    """Return the host of a web address.

    Raises:
        FetchError: it has none.
    """
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        host = None
    if not host:
        raise FetchError(f"{redact(uri)} has no host, expected http://host/path; correct the address")
    return host
