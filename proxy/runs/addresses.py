"""Whom a URL of a caller's may lead to: listed hosts, and behind their names no address of our own network.

A name is checked when it is asked for, the addresses behind it each time it is called. An address counts as public
only where the whole world routes it; forms that hide an IPv4 address in an IPv6 one never do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

from proxy.errors import ConfigError, Unprocessable

Address = IPv4Address | IPv6Address

PORTS = {"http": 80, "https": 443}
LONGEST_URL = 2048
LONGEST_SHOWN = 100
"""Characters of a caller's host that a message repeats."""

_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[\w-]+(?:\.[\w-]+)*)(?::(\d{1,5}))?([/?][^#]*)?(?:#.*)?", re.ASCII | re.I
)
_ENTRY = re.compile(r"(\*|\[[0-9a-f:.]+\]|(?:\*\.)?[\w-]+(?:\.[\w-]+)*)(?::(\d{1,5}))?", re.ASCII | re.I)
_NUMBER = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|\d+)", re.I)
"""What resolvers take for an IPv4 address, in whatever spelling."""

_PUBLIC_V6 = IPv6Network("2000::/3")
_HIDING = (IPv6Network("2002::/16"), IPv6Network("2001::/23"), IPv6Network("3fff::/20"))
"""6to4, Teredo and other special uses, documentation."""
_PRIVATE: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_METADATA = frozenset(
    ip_address(each)
    for each in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds tell a machine its secrets; one of them is a public address."""


class Target(Struct, frozen=True):
    """Where a URL leads. `host` is in lower case and without brackets, `path` is all behind the port."""

    scheme: str
    host: str
    port: int
    path: str
    named: bool
    """The host itself is on the list, not only a pattern that it fits."""

    @property
    def authority(self) -> str:
        """Host and port, as they may be shown and logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        return _address(self.host) is not None

    @property
    def local(self) -> bool:
        """The host is a name of this machine's."""
        return self.host == "localhost" or self.host.endswith(".localhost")


class Entry(Struct, frozen=True):
    """One entry of the list. Without a port, the usual one of the URL's scheme."""

    host: str
    port: int | None

    def admits(self, scheme: str, host: str, port: int) -> bool:
        if port != (PORTS[scheme] if self.port is None else self.port):
            return False
        return self.host in (host, "*") or (self.host.startswith("*.") and host.endswith(self.host[1:]))


class AllowList:
    """The hosts and addresses that may be called. Raises `ConfigError` for an entry that is none."""

    def __init__(self, entries: Sequence[str], *, place: str) -> None:
        self._place = place
        """Where the list stands in the config."""
        self._entries = [self._parsed(number, entry) for number, entry in enumerate(entries)]

    def _parsed(self, number: int, text: str) -> Entry:
        found = _ENTRY.fullmatch(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
        host = _plain(found[1]) if found else None
        port = int(found[2]) if found and found[2] else None
        if host is None or (port is not None and not 0 < port < 65536):
            raise ConfigError(
                f"`{self._place}[{number}]`: `{text[:LONGEST_SHOWN]}` is not a host; write it without scheme and path, "
                "as `hooks.example.com`, `*.example.com` or `127.0.0.1:9000`."
            )
        return Entry(host, port)

    def target(self, url: str) -> Target:
        """Where the URL leads, if that is allowed. Raises `Unprocessable` saying why not."""
        if not self._entries:
            raise _refused(f"Webhooks are off here: no host is listed under `{self._place}` in the server's config.")
        scheme, host, port, path = _taken_apart(url)
        admitting = [entry for entry in self._entries if entry.admits(scheme, host, port)]
        target = Target(scheme, host, port, path, named=any(entry.host == host for entry in admitting))
        if not admitting:
            raise _refused(
                f"`webhook`: `{target.authority[:LONGEST_SHOWN]}` may not be called; an operator can list it under "
                f"`{self._place}` in the server's config."
            )
        address = _address(host)
        if (target.local and not target.named) or (address is not None and not self._lets(target, address)):
            raise _refused(f"`webhook`: `{host}` is not a public address.")
        return target

    def checked(self, target: Target, addresses: Sequence[str]) -> list[str]:
        """The addresses behind the target's name, if each of them may be called. Raises `Unprocessable` if not."""
        for text in addresses:
            address = _address(text)
            if address is None or not self._lets(target, address):
                raise _refused(f"`webhook`: `{target.authority}` leads to an address that may not be called.")
        return list(addresses)

    def _lets(self, target: Target, address: Address) -> bool:
        """A listed name may lead into a private network, since operators name their own hosts; to this machine only
        the name that is made for that; to a cloud's metadata or to many at once, none."""
        if any(
            entry.host == str(address) and entry.admits(target.scheme, entry.host, target.port)
            for entry in self._entries
        ):
            return True
        if address in _METADATA:
            return False
        if address.is_loopback:
            return target.named and target.local
        if any(address in network for network in _PRIVATE):
            return target.named
        return _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address not in _PUBLIC_V6 or any(address in network for network in _HIDING)
    ):
        return False
    return address.is_global and not address.is_multicast


def _taken_apart(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path. Whatever two parsers could read differently is refused."""
    if len(url) > LONGEST_URL:
        raise _refused(f"`webhook`: the URL is longer than {LONGEST_URL} characters.")
    if not all("!" <= character <= "~" for character in url):
        raise _refused("`webhook`: the URL holds characters that have to be encoded (`%20`, or `xn--` in a host).")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in PORTS:
        raise _refused("`webhook`: the URL must begin with `https://` or `http://`.")
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        raise _refused("`webhook`: the URL must not hold a user name or a password.")
    found = _URL.fullmatch(url)
    host = _plain(found[2]) if found else None
    port = int(found[3] or PORTS[scheme.lower()]) if found else 0
    if found is None or host is None or not 0 < port < 65536:
        raise _refused("`webhook`: the URL has no valid host and port, as in `https://hooks.example.com:8443/path`.")
    path = found[4] or "/"
    return scheme.lower(), host, port, path if path.startswith("/") else f"/{path}"


def _plain(host: str) -> str | None:
    """A host in the one spelling that it is compared in; None for a number that is not an address in its usual form."""
    host = host.lower()
    if host.startswith("["):
        address = _address(host[1:-1])
        return str(address) if isinstance(address, IPv6Address) else None
    if _NUMBER.fullmatch(host):
        return host if _address(host) is not None else None
    return host if all(len(label) < 64 for label in host.split(".")) and len(host) < 254 else None


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _refused(message: str) -> Unprocessable:
    return Unprocessable(message, param="webhook")
