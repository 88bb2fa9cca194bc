"""Network namespaces, links and packet rules of a lab. Every step can be repeated; what exists as wanted is left alone.

Namespaces are files in the lab's own folder, not in /run/netns: nothing outside the folder has to be made for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from e2e.lab.network import Addresses, LabError, short_id
from e2e.lab.processes import Place, call
from e2e.lab.state import Journal, Thing

#: On the node's address: files for edge machines.
DOWNLOADS_PORT = 8470

# A namespace's own settings. Refusals are not rationed: each is somebody's answer.
_ROUTER = """cd /proc/sys/net/ipv4
echo 1 > ip_forward; echo 0 > icmp_ratelimit; echo 0 > conf/all/send_redirects; echo 0 > conf/eth0/send_redirects"""


def namespace_file(folder: Path, name: str) -> Path:
    """Where the network namespace of a machine (`node`, `edge-NAME`) is found; `nsenter --net=FILE` goes there."""
    return folder / "run" / f"net-{name}"


def machine_link(lab: str) -> str:
    """The interface on this machine that leads to the node."""
    return f"hcl{short_id(lab)}"


def routes_in_use() -> list[IPv4Network]:
    """All IPv4 networks this machine has a route to."""
    listed = json.loads(call(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    return [IPv4Network(each["dst"], strict=False) for each in listed if each["dst"] != "default"]


def ensure_namespace(journal: Journal, name: str) -> bool:
    """Make the namespace of a machine, with its loopback up. True if it was not there before."""
    file = namespace_file(journal.folder, name)
    journal.expect(Thing(kind="netns", name=name))
    if _is_namespace(file):
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    call(["unshare", f"--net={file}", "ip", "link", "set", "lo", "up"])
    return True


def _is_namespace(file: Path) -> bool:
    return file.exists() and os.stat(file).st_dev != os.stat(file.parent).st_dev


def remove_namespace(folder: Path, name: str) -> None:
    """Take the namespace away; its interfaces go with it as soon as no process is in it."""
    file = namespace_file(folder, name)
    while _is_namespace(file):
        call(["umount", "--lazy", file])
    file.unlink(missing_ok=True)


def link_exists(name: str) -> bool:
    """Whether this machine (not one of the namespaces) has the interface."""
    return Path("/sys/class/net", name).exists()


def ensure_machine_link(journal: Journal, addresses: Addresses, *, fresh: bool) -> None:
    """The link between this machine and the node, with all routes on both sides. The node gets no default route.

    `fresh` says that the node's namespace is new, so that a link of ours that is still there leads to a former one.

    Routes are of the link's: they vanish with it and need no record of their own.
    """
    link = machine_link(journal.state.name)
    thing = Thing(kind="link", name=link)
    new = journal.expect(thing)
    node = namespace_file(journal.folder, "node")
    if link_exists(link):
        if new:
            journal.forget(thing)
            raise LabError(f"there is an interface {link} already that this lab did not make: remove it")
        if fresh:
            call(["ip", "link", "delete", link])
    if not link_exists(link):
        call(["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", node])
    width = addresses.links.prefixlen
    _ip(f"""
        address replace {addresses.machine}/{width} dev {link}
        link set {link} up
        route replace {addresses.block} via {addresses.node} dev {link}
    """)
    # The node itself reaches Services by a route too: it is looked up before kube-proxy's rules change the address.
    _ip(f"""
        address replace {addresses.node}/{width} dev eth0
        link set eth0 up
        route replace {addresses.balancers} via {addresses.machine} dev eth0
        route replace {addresses.services} via {addresses.machine} dev eth0
    """, netns=node)  # fmt: skip
    inside = Place(netns=str(node))
    call(["sh", "-c", _ROUTER], place=inside)
    present = call(["iptables-save"], place=inside).splitlines()
    call(["iptables-restore", "--noflush", "--wait"], input=node_rules(addresses, present=present), place=inside)


def node_rules(addresses: Addresses, *, present: Collection[str]) -> str:
    """The node's packet filter, for `iptables-restore --noflush`, given the rules that are `present` (`iptables-save`).

    * Nothing from the management side opens a connection to an edge machine. (In a table before
      kube-proxy's.)
    * An edge machine reaches only what is published: LoadBalancer addresses and node ports, both of which kube-proxy
      translates (state DNAT), and files to download (`downloads`). Pods, the API server and other edge machines are
      closed to it.
    * An address of the service or LoadBalancer network that nobody has is refused, and does not circle between node and
      machine.
    """
    chains = {"mangle": ("FORWARD", "OUTPUT"), "filter": ("INPUT", "FORWARD", "OUTPUT")}
    rules = {
        "mangle": [f"-A LAB-{chain} -o edge+ -m conntrack --ctstate NEW -j DROP" for chain in chains["mangle"]],
        "filter": [
            f"-A LAB-{chain} -o eth0 -d {network} {refusal}"
            for chain in ("FORWARD", "OUTPUT") for network in (addresses.services, addresses.balancers)
            for refusal in _REFUSALS
        ] + [f"-A LAB-INPUT -i edge+ -p tcp -d {addresses.node} --dport {DOWNLOADS_PORT} -j RETURN"] + [
            f"-A LAB-{chain} -i edge+ {action}"
            for chain in ("INPUT", "FORWARD")
            for action in ("-m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j RETURN", *_REFUSALS)
        ],
    }  # fmt: skip
    lines: list[str] = []
    for table, hooks in chains.items():
        lines += [f"*{table}", *(f":LAB-{hook} - [0:0]" for hook in hooks)]
        lines += [f"-I {hook} -j LAB-{hook}" for hook in hooks if f"-A {hook} -j LAB-{hook}" not in present]
        lines += [*rules[table], "COMMIT"]
    return "\n".join([*lines, ""])


_REFUSALS = ("-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with icmp-host-unreachable")


def ensure_edge_link(
    folder: Path, addresses: Addresses, *, name: str, number: int, foreign: Iterable[IPv4Network], fresh: bool
) -> None:
    """The link between the node and an edge machine: the machine's only way out, and only to what is published.

    `foreign` are networks that exist only on the edge machine (its tenant's Services): it needs a route to them before
    its own kube-proxy changes the address, and no packet of theirs gets past the node. `fresh` as above.
    """
    node, edge = Place(netns=str(namespace_file(folder, "node"))), namespace_file(folder, f"edge-{name}")
    near = _edge_link(number)
    own, gateway = edge_address(addresses, number), addresses.edge_gateway
    if fresh:
        remove_edge_link(folder, number)
    if near not in _links(node):
        call(["ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", edge], place=node)
    _ip(f"""
        address replace {gateway}/32 dev {near}
        link set {near} up
        route replace {own}/32 dev {near}
    """, netns=namespace_file(folder, "node"))  # fmt: skip
    lines = [f"address replace {own}/32 dev eth0", "link set eth0 up", f"route replace {gateway}/32 dev eth0"]
    for network in (addresses.balancers, IPv4Network(addresses.node), *foreign):
        lines.append(f"route replace {network} via {gateway} dev eth0 src {own}")
    _ip("\n".join(lines), netns=edge)
    call(["sh", "-c", _ROUTER], place=Place(netns=str(edge)))


def remove_edge_link(folder: Path, number: int) -> None:
    """Take away the link to an edge machine. (Left to itself it goes some time after the machine's last process.)"""
    node = Place(netns=str(namespace_file(folder, "node")))
    if _edge_link(number) in _links(node):
        call(["ip", "link", "delete", _edge_link(number)], place=node)


def _edge_link(number: int) -> str:
    return f"edge{number}"


def _links(place: Place) -> set[str]:
    return {each["ifname"] for each in json.loads(call(["ip", "-json", "link", "show"], place=place))}


def edge_address(addresses: Addresses, number: int) -> IPv4Address:
    """The address of edge machine `number` (from 1)."""
    return addresses.edges[number + 1]


def _ip(batch: str, *, netns: Path | None = None) -> None:
    lines = "\n".join(line.strip() for line in batch.splitlines() if line.strip()) + "\n"
    call(["ip", "-batch", "-"], input=lines, place=Place(netns=str(netns)) if netns else None)
