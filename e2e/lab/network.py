"""Which addresses a lab uses: one /16 of its own, cut the same way in every lab. Pure.

The block is derived from the lab's name, so that a lab keeps its addresses from run to run, and moved on until it meets
nothing that this machine already routes, so that several labs and the machine's own networks live side by side.
Blocks are taken from 10.160.0.0 to 10.239.255.255, clear of what k0s gives its tenants by default (10.96.0.0/12,
10.244.0.0/16): an edge machine sees both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

_FIRST, _COUNT = 160, 80
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")


class LabError(RuntimeError):
    """The lab cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The networks and addresses of one lab."""

    block: IPv4Network
    machine: IPv4Address
    """This machine's side of the link to the node."""
    node: IPv4Address
    links: IPv4Network
    """The link between this machine and the node."""
    balancers: IPv4Network
    """LoadBalancer addresses."""
    edges: IPv4Network
    pods: IPv4Network
    services: IPv4Network

    @property
    def edge_gateway(self) -> IPv4Address:
        """The node's address towards the edge machines."""
        return self.edges[1]

    @property
    def kubernetes(self) -> IPv4Address:
        """The cluster address of the API server's Service: always the first of the service network."""
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        """The cluster address of the DNS Service."""
        return self.services[10]


def check_name(name: str) -> str:
    """The name, if interfaces, cgroups and files can be named after it; otherwise `LabError`."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot be a name: 1 to 20 of a-z, 0-9 and '-', not at an end")
    return name


def short_id(*parts: str) -> str:
    """Six hex digits for names that the kernel keeps short (interfaces: 15 characters)."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:6]


def choose_block(name: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first free /16 for a lab of this name, given the networks in use. `LabError` if there is none."""
    used = [network for network in taken if network.prefixlen > 0]
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % _COUNT
    for step in range(_COUNT):
        block = IPv4Network(f"10.{_FIRST + (start + step) % _COUNT}.0.0/16")
        if not any(block.overlaps(other) for other in used):
            return block
    raise LabError(f"no free network in 10.{_FIRST}.0.0 to 10.{_FIRST + _COUNT - 1}.255.255: remove a route or a lab")


def addresses(block: IPv4Network) -> Addresses:
    """How a lab's /16 is used."""
    if block.prefixlen != 16:
        raise ValueError(f"{block} is not a /16")
    slices = list(block.subnets(new_prefix=24))
    quarters = list(block.subnets(new_prefix=18))
    return Addresses(
        block=block, machine=slices[0][1], node=slices[0][2], links=slices[0], balancers=slices[1], edges=slices[2],
        pods=quarters[1], services=quarters[2],
    )  # fmt: skip
