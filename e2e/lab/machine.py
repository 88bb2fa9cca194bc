"""What makes a part of this machine look like a machine of its own: private mounts, a container runtime, a kubelet.

Used for the node of the management cluster and for edge machines. A mount namespace, held open by a `pause` process,
hides what is shared with the real machine: /run, /var and, at the edge, /etc. Changes there vanish with the namespace;
only what must be found from outside lies in the lab's folder. The settings are those measured to work in containers
and sandboxes: cgroup v1 or v2, no AppArmor, no right to lower an OOM score, no change to the kernel's own settings.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import yaml

from e2e.lab import cgroups
from e2e.lab.processes import Place, Ready, cgroup_of, is_current, start
from e2e.lab.programs import Programs
from e2e.lab.state import Journal, Process

CNI_PLUGINS = Path("/usr/lib/cni")
PAUSE_IMAGE = "hosted-cp.local/lab-pause:1"

#: The kubelet sets these unless it finds them so, and they are the whole machine's: it gets to see what it wants.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}  # fmt: skip


def mount_script(*, lab: Path, folder: Path, covered: Sequence[str], binds: Mapping[Path, str], pause: Path) -> str:
    """A shell script, run in a fresh mount namespace, that makes it private and then holds it open.

    `covered` folders ("/etc", "/var") keep their content and lose every change with the namespace; /run is empty.
    `binds` are folders of the lab that appear elsewhere. The lab's own folder stays visible where it is.
    """
    q = shlex.quote
    private = folder / "private"
    lines = [
        "set -e",
        "mount --make-rprivate /",
        "mount --make-rshared /",
        f"mkdir -p {q(str(private))} {' '.join(q(str(source)) for source in binds)}",
        f"mount -t tmpfs -o mode=755 lab {q(str(private))}",
        f"mkdir {q(str(private))}/lab {q(str(private))}/proc",
        f"mount --bind {q(str(lab))} {q(str(private))}/lab",
    ]
    for setting, value in KERNEL_SETTINGS.items():
        fake = f"{private}/proc/{setting.replace('/', '.')}"
        lines += [
            f"echo {value} > {q(fake)}",
            f"[ ! -e /proc/sys/{setting} ] || mount --bind {q(fake)} /proc/sys/{setting}",
        ]
    for each in covered:
        upper = f"{private}{each}"
        lines += [
            f"mkdir -p {q(upper)} {q(upper)}.work",
            f"mount -t overlay -o {q(f'lowerdir={each},upperdir={upper},workdir={upper}.work')} lab {q(each)}",
        ]
    # The folder of the pauses' sockets (/run/netns) is private as well: else dead `cni-*` files stay behind.
    lines += ["mount -t tmpfs -o mode=755 lab /run", "mkdir -p /run/netns /run/lock"]
    if any(lab.is_relative_to(each) for each in (*covered, "/run")):
        lines += [f"mkdir -p {q(str(lab))}", f"mount --bind {q(str(private))}/lab {q(str(lab))}"]
    for source, target in binds.items():
        lines += [f"mkdir -p {q(target)}", f"mount --bind {q(str(source))} {q(target)}"]
    return "\n".join([*lines, f"exec {q(str(pause))}", ""])


def make_private(journal: Journal, name: str, *, netns: str, folder: Path, script: str) -> Place:
    """A fresh mount namespace, held by the process `name`; returns how to get there, together with the network."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mounts.sh").write_text(script)
    holder = start(journal, name, _holder(folder), place=Place(netns=netns), inputs=[script],
                   ready=Ready(journal.folder, name))  # fmt: skip
    return place(journal, netns=netns, holder=holder)


def is_private(journal: Journal, name: str, *, folder: Path, script: str) -> bool:
    """Whether the mount namespace is there, made by this very script."""
    return is_current(journal, name, _holder(folder), [script])


def _holder(folder: Path) -> list[str | Path]:
    return ["unshare", "--mount", "--propagation", "unchanged", "/bin/sh", folder / "mounts.sh"]


def place(journal: Journal, *, netns: str, holder: Process) -> Place:
    """Where the processes of a machine run. Commands that are run there end with the machine."""
    return Place(netns=netns, mounts=holder, cgroup=cgroup_of(journal, holder.name))


def cri_settings(*, conf_dir: str, runc: Path | None = None) -> dict[str, Any]:
    """containerd's CRI plugins as they must be set here, for the node and (as a drop-in) for k0s's own containerd."""
    options: dict[str, Any] = {"SystemdCgroup": False}
    if runc is not None:
        options["BinaryName"] = str(runc)
    return {
        "io.containerd.cri.v1.images": {"snapshotter": "overlayfs", "pinned_images": {"sandbox": PAUSE_IMAGE}},
        "io.containerd.cri.v1.runtime": {
            "disable_apparmor": True, "restrict_oom_score_adj": True,
            "cni": {"bin_dirs": [str(CNI_PLUGINS)], "conf_dir": conf_dir},
            "containerd": {
                "default_runtime_name": "runc",
                "runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2", "options": options}},
            },
        },
        "io.containerd.nri.v1.nri": {"disable": True},
    }  # fmt: skip


def cri_settings_1(*, conf_dir: str, runc: Path) -> dict[str, Any]:
    """The same in the words of containerd 1 (configuration version 2), which a later containerd understands."""
    options: dict[str, Any] = {"SystemdCgroup": False, "BinaryName": str(runc)}
    return {
        "io.containerd.grpc.v1.cri": {
            "disable_apparmor": True, "restrict_oom_score_adj": True, "sandbox_image": PAUSE_IMAGE,
            "cni": {"bin_dir": str(CNI_PLUGINS), "conf_dir": conf_dir},
            "containerd": {
                "snapshotter": "overlayfs", "default_runtime_name": "runc",
                "runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2", "options": options}},
            },
        },
        "io.containerd.nri.v1.nri": {"disable": True},
    }  # fmt: skip


def toml(tree: Mapping[str, Any], *, prefix: str = "") -> str:
    """As much of TOML as a containerd configuration needs: nested tables of strings, numbers, booleans and lists."""
    plain = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            name = f"{prefix}.{json.dumps(key)}" if prefix else json.dumps(key)
            lines += ["", f"[{name}]", toml(value, prefix=name)]
    return "\n".join(lines)


def containerd_config(*, data: Path, run: Path, conf_dir: str, runc: Path) -> str:
    """The configuration of the management node's containerd."""
    return toml({
        "version": 3, "root": str(data), "state": str(run / "containerd"), "oom_score": 0,
        "grpc": {"address": str(run / "containerd.sock")}, "ttrpc": {"address": str(run / "containerd.ttrpc")},
        "plugins": cri_settings(conf_dir=conf_dir, runc=runc),
    }) + "\n"  # fmt: skip


def cni_config(*, pods: IPv4Network, masquerade: bool, state: str = "/var/lib/cni/networks") -> str:
    """A network for pods: each has a link of its own to the machine, which routes between them.

    Not a bridge: there, two pods of one machine would meet behind iptables' back (and replies of Services would miss
    their address translation) unless the kernel has br_netfilter, which not every one has.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": str(pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": state,
    }
    return json.dumps({
        "cniVersion": "1.0.0", "name": "lab",
        "plugins": [
            {"type": "ptp", "ipMasq": masquerade, "mtu": 1400, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }, indent=1)  # fmt: skip


def kubelet_config(
    *, cgroup_root: str, socket: Path, pki: Path, dns: IPv4Address, resolv_conf: Path, pods: IPv4Network
) -> str:
    """The kubelet's configuration of the management node."""
    return yaml.safe_dump({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "failCgroupV1": False, "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{cgroup_root}",
        "enforceNodeAllocatable": ["pods"], "oomScoreAdj": 0, "failSwapOn": False, "protectKernelDefaults": False,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": str(pki / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"), "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "clusterDNS": [str(dns)], "clusterDomain": "cluster.local", "resolvConf": str(resolv_conf),
        "podCIDR": str(pods),
        "nodeStatusUpdateFrequency": "1s", "syncFrequency": "10s", "fileCheckFrequency": "1h",
        "serializeImagePulls": False,
        "kubeAPIQPS": 200, "kubeAPIBurst": 400, "eventRecordQPS": 100, "maxPods": 250,
        "registerWithTaints": [], "shutdownGracePeriod": "0s",
        # Nothing is evicted, and no image collected, on account of what else fills this machine's disk.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
    }, sort_keys=False)  # fmt: skip


def start_containerd(journal: Journal, name: str, *, programs: Programs, config: Path, where: Place) -> None:
    """Start containerd; returns when it answers."""
    path = f"{programs.shim.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    start(journal, name, _containerd(programs, config), place=where, env={"PATH": path}, inputs=[config.read_text()],
          ready=Ready(journal.folder, name))  # fmt: skip


def has_containerd(journal: Journal, name: str, *, programs: Programs, config: Path, text: str) -> bool:
    """Whether containerd runs with this configuration."""
    return is_current(journal, name, _containerd(programs, config), [text])


def _containerd(programs: Programs, config: Path) -> list[str | Path]:
    return [programs.containerd, "--config", config]


def make_cgroup_root(name: str) -> str:
    """The cgroup below which a kubelet keeps its pods; it has to exist in every hierarchy before the kubelet starts."""
    cgroups.make(name)
    return name
