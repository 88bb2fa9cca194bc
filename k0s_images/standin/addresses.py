"""The IP addresses of this machine's interfaces, read from the kernel without any tool."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import ipaddress
import socket
from pathlib import Path


class _Sockaddr(ctypes.Structure):
    _fields_ = [("family", ctypes.c_ushort), ("data", ctypes.c_ubyte * 26)]


class _Ifaddrs(ctypes.Structure):
    pass


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("addr", ctypes.POINTER(_Sockaddr)),
    ("netmask", ctypes.POINTER(_Sockaddr)),
    ("union", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]


def interfaces() -> list[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    """Every (interface, address) pair, in the kernel's order."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.POINTER(_Ifaddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs")
    found: list[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]] = []
    try:
        item = head
        while item:
            entry = item.contents
            if entry.addr:
                raw = bytes(entry.addr.contents.data)
                name = entry.name.decode()
                if entry.addr.contents.family == socket.AF_INET:
                    found.append((name, ipaddress.IPv4Address(raw[2:6])))
                elif entry.addr.contents.family == socket.AF_INET6:
                    found.append((name, ipaddress.IPv6Address(raw[6:22])))
            item = entry.next
    finally:
        libc.freeifaddrs(head)
    return found


#: Interfaces that container software makes for itself.
_NOT_PUBLIC = ("docker", "cni", "kube-bridge", "vxlan", "dummyvip")


@functools.cache
def first_public() -> str:
    """The first address that others can reach (no loopback, no link-local, no bridge of containers), else 127.0.0.1."""
    usable = [
        a for name, a in interfaces()
        if not (a.is_loopback or a.is_link_local) and not name.startswith(_NOT_PUBLIC)
    ]  # fmt: skip
    usable.sort(key=lambda a: a.version)
    return str(usable[0]) if usable else "127.0.0.1"


def local() -> list[str]:
    """All addresses of this machine, including what its host name resolves to."""
    found = [str(a) for _, a in interfaces()]
    for name in ("localhost", socket.gethostname()):
        try:
            found += [str(info[4][0]) for info in socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)]
        except OSError:
            continue
    return sorted({a for a in found if "%" not in a})


def hostname() -> str:
    """The machine's name as Kubernetes wants node names: lower case."""
    name = socket.gethostname() or Path("/etc/hostname").read_text().strip()
    return name.lower()
