"""The command line of etcd: what we decide, what a user may add, and which releases may run.

Flags differ between minors (3.6 renamed the experimental ones), so the image decides about them; an image whose tag
says nothing is taken for the catalogue's default release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.planning import quantity

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
DATA = "/var/lib/k0s/etcd"
PKI = "/var/lib/k0s/pki/etcd"
#: Common name of the peer certificate that we sign: the only one that may speak to the peer port.
PEER_COMMON_NAME = "etcd-peer"

MIB = 1024**2

Release = tuple[int, int, int]

_TAG = re.compile(r"[:](?:v?)(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-+.].*)?(?:@.*)?$", re.ASCII)

#: Flags of the user that would change who a member is, where it keeps its data, whom it trusts, what it listens on, or
#: how it begins, and those that make etcd print something and end. Each would break what the operator promises.
_DENIED = frozenset(
    {"name", "data-dir", "wal-dir", "config-file", "force-new-cluster", "strict-reconfig-check", "unsafe-no-fsync"}
    | {"client-cert-auth", "cert-file", "key-file", "client-cert-file", "client-key-file", "trusted-ca-file"}
    | {"advertise-client-urls", "auto-tls", "tls-min-version", "enable-pprof", "enable-v2", "help", "h", "version"}
)
_DENIED_PREFIXES = ("initial-", "listen-", "peer-", "discovery", "experimental-peer-", "socket-")


@lru_cache(maxsize=256)
def release(image: str) -> Release | None:
    """Major, minor and patch of an etcd image by its tag; None where the tag (or digest) does not tell."""
    found = _TAG.search(image)
    if not found:
        return None
    major, minor, patch = (int(part) for part in found.groups())
    return major, minor, patch


def release_problem(image: str, catalogue: Mapping[str, Any], *, field: str) -> Problem | None:
    """Why this image must not run: its release is below the floor of its minor, or of an unknown minor.

    The floors are the catalogue's (`etcd.floors`): older releases have known data loss or authorization defects.
    """
    found = release(image)
    if found is None:
        return None
    floors: Mapping[str, str] = catalogue["etcd"]["floors"]
    floor = floors.get(f"{found[0]}.{found[1]}")
    if floor is None:
        known = ", ".join(sorted(floors.values(), key=_numbers))
        return Problem(
            field=field,
            fault=f"etcd {_text(found)} is of a minor that this release of hosted-cp does not support",
            remedy=f"use one of {known} or a later patch of it, or leave the field out",
        )
    if found < _numbers(floor):
        return Problem(
            field=field,
            fault=f"etcd {_text(found)} has known defects that lose data or bypass authorization",
            remedy=f"use {floor} or later, or leave the field out",
        )
    return None


def change_problem(old: str, new: str, *, field: str) -> Problem | None:
    """Why a running etcd of image `old` cannot become one of image `new`: a downgrade, or a skipped minor."""
    before, after = release(old), release(new)
    if before is None or after is None or before[0] != after[0]:
        return None
    if after[1] < before[1]:
        return Problem(
            field=field,
            fault=f"etcd {_text(after)} cannot read data that {_text(before)} has written",
            remedy=f"use {_text(before)} or later",
        )
    if after[1] > before[1] + 1:
        return Problem(
            field=field,
            fault=f"etcd {_text(before)} cannot become {_text(after)} in one step",
            remedy=f"upgrade to the newest patch of {before[0]}.{before[1] + 1} first",
        )
    return None


def _numbers(text: str) -> Release:
    major, minor, patch = (int(part) for part in text.lstrip("v").split("."))
    return major, minor, patch


def _text(found: Release) -> str:
    return "v" + ".".join(str(part) for part in found)


def denied(args: Sequence[str], *, field: str = "spec.storage.etcd.args") -> list[tuple[int, Problem]]:
    """The arguments of the user that are refused, by index."""
    found = []
    for index, arg in enumerate(args):
        flag = arg.lstrip("-").split("=", 1)[0] if arg.startswith("-") else None
        if flag is None:
            continue  # the value of the flag before it; a stray word is refused by etcd itself
        if flag == "" or flag in _DENIED or flag.startswith(_DENIED_PREFIXES):
            problem = Problem(
                field=f"{field}[{index}]",
                fault=f"{arg.split('=', 1)[0][:64]} is the operator's to set, because it decides who the member is,"
                " where its data is or whom it trusts",
                remedy="leave it out",
            )
            found.append((index, problem))
    return found


def accepted(args: Sequence[str]) -> list[str]:
    """The arguments of the user that are passed on: all of them, or none if one is refused."""
    return [] if denied(args) else [_literal(arg) for arg in args]


def _literal(text: str) -> str:
    """`text` so that the kubelet's expansion of `$(NAME)` yields it unchanged."""
    return text.replace("$", "$$")


def quota(size: str) -> int:
    """Bytes that the database may have on a volume of this size.

    A defragmentation writes a second copy, and the write-ahead log takes up to six files of 64 MiB: so two fifths of
    what the log leaves. Never more than 8 GiB (etcd's own advice), and never so little that a cluster cannot begin.
    """
    usable = (quantity.parse(size) - 6 * 64 * MIB) * Fraction(2, 5)
    return int(min(max(usable, Fraction(128 * MIB)), Fraction(8 * 1024 * MIB)))


def argv(*, service: str, image_release: Release, members: int, size: str, peer_name: str | None) -> list[str]:
    """etcd and its flags. `$(POD_NAME)` is expanded by the kubelet; how to form a cluster comes from the environment.

    `peer_name` is the common name of the peer certificates. With it, a peer is who holds such a certificate; without
    it (None), etcd checks names and addresses against DNS, which lags behind pods that move.
    """
    own = f"$(POD_NAME).{service}"
    old_flags = image_release < (3, 6, 0)
    words = [
        "etcd",
        "--name=$(POD_NAME)",
        f"--data-dir={DATA}",
        f"--listen-client-urls=https://0.0.0.0:{CLIENT_PORT}",
        f"--listen-peer-urls=https://0.0.0.0:{PEER_PORT}",
        # Plain HTTP, because the kubelet has no client certificate. It serves /livez, /readyz, /health and /metrics
        # and nothing else: counters, sizes and versions, no keys and no values.
        f"--listen-metrics-urls=http://0.0.0.0:{METRICS_PORT}",
        f"--advertise-client-urls=https://{own}:{CLIENT_PORT}",
        f"--initial-advertise-peer-urls=https://{own}:{PEER_PORT}",
        "--client-cert-auth=true",
        f"--trusted-ca-file={PKI}/ca.crt",
        f"--cert-file={PKI}/server.crt",
        f"--key-file={PKI}/server.key",
        "--peer-client-cert-auth=true",
        f"--peer-trusted-ca-file={PKI}/ca.crt",
        f"--peer-cert-file={PKI}/peer.crt",
        f"--peer-key-file={PKI}/peer.key",
        "--tls-min-version=TLS1.2",
        "--enable-pprof=false",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        "--snapshot-count=10000",
        f"--quota-backend-bytes={quota(size)}",
    ]
    # Members that all start at once ask each other for hashes before any of them answers: 7 s for each that does not.
    # A member that comes back alone, and a first start, wait for nobody.
    if old_flags:
        words += ["--experimental-initial-corrupt-check=true", "--experimental-compact-hash-check-enabled=true"]
    else:
        words += ["--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true"]
    if peer_name is not None:
        skip = "experimental-peer-skip-client-san-verification" if old_flags else "peer-skip-client-san-verification"
        words += [f"--peer-cert-allowed-cn={_literal(peer_name)}", f"--{skip}=true"]
    if members == 1:
        # Nobody else can lead, so there is no reason to wait long for a leader: ready after 0.15-0.3 s instead of
        # 0.6-1.2 s, for the same CPU time when idle (shorter ticks would cost three times as much).
        words += ["--heartbeat-interval=50", "--election-timeout=250"]
    return words
