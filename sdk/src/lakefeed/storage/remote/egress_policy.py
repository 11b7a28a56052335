"""Targets to which no request may go: addresses that serve credentials of the machine, and denied hosts."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from lakefeed.errors import RefusedTargetError

DENIED_NETWORKS = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local; 169.254.169.254 serves cloud metadata, 169.254.170.2 container credentials
            "fe80::/10",
            "fd00:ec2::254/128",  # the same in IPv6
            "fd20:ce::254/128",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "168.63.129.16/32",
        ),
    )
)
METADATA_HOSTS = ("metadata.google.internal", "metadata.goog", "instance-data", "instance-data.*.internal")
IPV4_EMBEDDING = (ip_network("64:ff9b::/96"), ip_network("::/96"))
"""IPv6 networks whose last four bytes are an IPv4 address."""


def check_host(host: str, denied: Sequence[str]) -> None:
    """Raises RefusedTargetError if the name of a host is denied.

    Example:
        >>> check_host("files.example.com", ["*.example.com"])
        Traceback (most recent call last):
        lakefeed.errors.RefusedTargetError: requests to 'files.example.com' are refused: files.deny_hosts \
    has '*.example.com'
    """
    name = host.strip("[]").rstrip(".").lower()
    rule = next((rule for rule in denied if fnmatchcase(name, rule.rstrip(".").lower())), None)
    if rule is not None:
        raise RefusedTargetError(f"requests to {name!r} are refused: files.deny_hosts has {rule!r}")
    if any(fnmatchcase(name, rule) for rule in METADATA_HOSTS):
        raise _metadata_refusal(name)
    try:
        check_address(name)
    except ValueError:
        return  # a name, whose addresses are checked when it is resolved


def check_address(address: str) -> None:
    """Raises RefusedTargetError for an address of link-local networks or cloud metadata.

    Raises ValueError for a name.

    Example:
        >>> check_address("::ffff:169.254.169.254")
        Traceback (most recent call last):
        lakefeed.errors.RefusedTargetError: requests to '::ffff:169.254.169.254' are refused: link-local \
    addresses serve credentials of the machine, not files
    """
    parsed = ip_address(address.partition("%")[0])
    if any(
        form in network
        for form in _equivalent_addresses(parsed)
        for network in DENIED_NETWORKS
        if form.version == network.version
    ):
        raise _metadata_refusal(address)


def resolve(host: str, port: int, denied: Sequence[str]) -> list[str]:
    """Returns the addresses of a host after checking each of them.

    Connect to the addresses, not to the name: a second lookup of the name could give another address.

    Raises:
        RefusedTargetError: one of the addresses is denied.
        OSError: the name cannot be resolved.
    """
    check_host(host, denied)
    entries = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    for address in addresses:
        check_address(address)
        check_host(address, denied)
    return addresses


def _equivalent_addresses(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Returns the address and the IPv4 addresses that it embeds."""
    forms = [address]
    if isinstance(address, IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour]
        if any(address in network for network in IPV4_EMBEDDING):
            inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
        forms += [form for form in inner if form is not None]
    return forms


def _metadata_refusal(target: str) -> RefusedTargetError:
    return RefusedTargetError(
        f"requests to {target!r} are refused: link-local addresses serve credentials of the machine, not files"
    )
