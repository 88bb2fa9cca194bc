"""The start of an edge machine that boots: a root file system of its own, and Debian's systemd and cloud-init in it.

What a machine sees is this machine's own disk, read-only, with every folder that software writes to covered by an
overlay; a /dev with the devices that everybody has and no others; its own cgroups as if they were all there are. So
whatever a machine's user data does, it does to that machine. Pure: texts only, see `boot` for what happens with them.

systemd is started with one target: the basic system, and cloud-init as Debian's units start it. Everything else that
Debian would start is left out or, where it would reach out for the kernel, masked.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from e2e.lab.machine import KERNEL_SETTINGS

#: Where the user data says that its work is done (bootstrap contract of Cluster API).
SENTINEL = "/run/cluster-api/bootstrap-success.complete"
#: What cloud-init says of itself in the end.
RESULT = "/run/cloud-init/result.json"

_TARGET = "lab.target"
_GENERATOR_FILE = "/etc/systemd/system-generators/lab"
# Where cloud-init finds its data on a machine without a cloud.
_SEED = "/var/lib/cloud/seed/nocloud"
USER_DATA = f"{_SEED}/user-data"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Folders that software writes to. (Without /usr itself: its programs are what a machine has of Debian.)
WRITTEN = ("/etc", "/home", "/opt", "/root", "/srv", "/usr/local", "/var")
_DEVICES = ("full", "kmsg", "null", "random", "tty", "urandom", "zero")
_CLOUD_INIT = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")

#: They would change the kernel's settings, look for hardware, or wait for a network that is there already.
_MASKED = (
    "apt-daily-upgrade.timer", "apt-daily.timer", "console-getty.service", "dev-hugepages.mount", "dev-mqueue.mount",
    "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "getty.target", "kmod-static-nodes.service",
    "man-db.timer", "networking.service", "proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-binfmt.service",
    "systemd-firstboot.service", "systemd-journald-audit.socket", "systemd-logind.service",
    "systemd-modules-load.service", "systemd-random-seed.service", "systemd-remount-fs.service",
    "systemd-sysctl.service", "systemd-timesyncd.service", "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-trigger.service", "systemd-udevd.service", "systemd-update-utmp.service", "tmp.mount",
)  # fmt: skip

_CLOUD_CONFIG = """\
datasource_list: [NoCloud]
disable_root: false
preserve_hostname: true
network: {config: disabled}
cloud_init_modules: [write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [write-files-deferred, scripts-user]
system_info:
  distro: debian
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/}
"""

# systemd runs it whenever it reads its units, so also when k0s has installed itself.
_GENERATOR = """\
#!/bin/sh
# What a k0s needs on this kernel, whatever the user data says: its programs, if it has none of its own, and arguments.
unit=/etc/systemd/system/k0sworker.service
[ -e "$unit" ] || exit 0
mkdir -p "$1/k0sworker.service.d"
{
    echo '[Service]'
    echo 'Environment=PATH=@path@'
    echo 'ExecStart='
    sed -n '/^ExecStart=/{
        s/ --kubelet-extra-args=[^ ]*/&@kubelet@/
        t more
        s/$/ --kubelet-extra-args=--v=1@kubelet@/
        :more
        s/$/ --ignore-pre-flight-checks/
        p
    }' "$unit"
} > "$1/k0sworker.service.d/lab.conf"
"""


def image(
    *, hostname: str, address: str, user_data: bytes, meta_data: Mapping[str, str], kubelet: Sequence[str], tools: Path
) -> dict[str, bytes]:
    """The files that tell a machine from others, by path. `tools` is a folder of programs for k0s, `kubelet` are
    arguments for the kubelet."""
    identity = hashlib.sha256(f"{hostname}\0{address}\0".encode() + user_data).hexdigest()[:32]
    seed = {"instance-id": f"i-{identity[:17]}", "local-hostname": hostname, **meta_data}
    wants = "".join(f"Wants={each}.service\n" for each in _CLOUD_INIT)
    generator = _GENERATOR.replace("@path@", f"{tools}:{SYSTEM_PATH}").replace(
        "@kubelet@", "".join(rf"\\x20{each.replace('%', '%%')}" for each in kubelet)
    )
    units = "/etc/systemd/system"
    texts = {
        "/etc/hosts": f"127.0.0.1 localhost\n{address} {hostname}\n",
        "/etc/hostname": f"{hostname}\n",
        # With an empty one systemd would take this for a first boot, and enable what its presets say.
        "/etc/machine-id": f"{identity}\n",
        "/etc/fstab": "",
        "/etc/cloud/cloud.cfg": _CLOUD_CONFIG,
        f"{units}/{_TARGET}": f"[Unit]\nDescription=The lab's\nRequires=basic.target\n{wants}AllowIsolate=yes\n",
        _GENERATOR_FILE: generator,
        f"{_SEED}/meta-data": "".join(f"{key}: {value}\n" for key, value in seed.items()),
    }
    return {path: text.encode() for path, text in texts.items()} | {"/var/lib/cloud/seed/nocloud/user-data": user_data}


#: Files of the image that are not simply anybody's to read.
MODES = {USER_DATA: 0o600, _GENERATOR_FILE: 0o755}


def outer_script(*, entrances: Iterable[Path], inner: Path) -> str:
    """Enters the machine's cgroups and leaves this machine's namespaces (but for the network, which is there)."""
    q = shlex.quote
    enter = [f"echo $$ > {q(str(each))}" for each in entrances]
    leave = f"exec unshare --mount --propagation private --uts --ipc --cgroup /bin/sh {q(str(inner))}"
    return "\n".join(["set -e", *enter, leave, ""])


def inner_script(
    *, lab: Path, folder: Path, kept: Sequence[Path], binds: Mapping[Path, str], hostname: str,
    hierarchies: Sequence[tuple[str, str]] | None, covered: Sequence[str],
) -> str:  # fmt: skip
    """Makes the machine's file system out of this machine's, and becomes the parent of its systemd.

    `lab` stays writable where it is, `kept` folders stay visible; `folder` is the machine's own, below `lab`, with its
    image in `image`. `covered` folders (of `WRITTEN`) exist; `binds` are folders that appear elsewhere. `hierarchies`
    are names and mount options of cgroups of the first version, None for the unified one.
    """
    q = shlex.quote
    private = folder / "private"
    lines = [
        "set -e",
        # Points of mounts as they are now; those with a blank in their names are left alone.
        "points=$(awk '$5 !~ \"^/(proc|sys|dev)(/|$)\" {print $5}' /proc/self/mountinfo)",
        f"rm -rf {q(str(folder / 'disk'))}",
        f"mkdir -p {q(str(private))} {' '.join(q(str(source)) for source in binds)}",
        f"mount --bind {q(str(lab))} {q(str(lab))}",
        'for each in $points; do mount -o remount,bind,ro "$each" 2> /dev/null || :; done',
        f"mount -t tmpfs -o mode=755 lab {q(str(private))}",
    ]
    lines += _devices(private)
    visible = [lab, *(each for each in kept if not each.is_relative_to(lab))]
    # Below a folder that is covered nothing is found any more that was not brought there before: ours goes last.
    for each in sorted([*covered, "/run", "/tmp"], key=lab.is_relative_to):
        # Programs are large, and memory is short; but nothing can lie over a folder that it is in.
        on_disk = each == "/usr/local" and not lab.is_relative_to(each)
        lines += _cover(each, private, visible, disk=folder / "disk" if on_disk else private)
    for source, target in binds.items():
        lines += [f"mkdir -p {q(target)}", f"mount --bind {q(str(source))} {q(target)}"]
    lines += [
        # What is left there says where cloud-init logs to.
        "find /etc/cloud/cloud.cfg.d -type f ! -name 05_logging.cfg -delete",
        "rm -rf /etc/systemd/system/* /etc/systemd/system-generators /etc/cni/net.d"
        " /var/lib/cloud /var/log/journal /var/log/cloud-init*",
        f"cp -R {q(str(folder / 'image'))}/. /",
        f"hostname {q(hostname)}",
        *_cgroups(hierarchies),
        f"exec unshare --pid --fork --mount-proc --kill-child /bin/sh -c {q(_first())}",
    ]
    return "\n".join([*lines, ""])


def masked() -> list[str]:
    """Paths of units that are to be links to /dev/null."""
    return [f"/etc/systemd/system/{each}" for each in _MASKED]


def _cover(each: str, private: Path, visible: Sequence[Path], *, disk: Path) -> list[str]:
    """Put something of the machine's own over a folder, in which what stays visible has its place already."""
    q = shlex.quote
    new, upper, work = f"{private}/new{each}", f"{disk}/upper{each}", f"{disk}/work{each}"
    lines = [f"mkdir -p {q(new)} {q(upper)} {q(work)}"]
    if each not in ("/run", "/tmp"):
        options = f"lowerdir={each},upperdir={upper},workdir={work}"
        lines.append(f"chmod --reference={q(each)} {q(upper)}")
        lines.append(f"mount -t overlay -o {q(options)} lab {q(new)}")
    else:
        mode = "1777" if each == "/tmp" else "755"
        lines.append(f"mount -t tmpfs -o mode={mode} lab {q(new)}")
        lines += [f"mkdir -p {q(new)}/lock {q(new)}/netns"] if each == "/run" else []
    # Those that hold others first.
    for one in sorted(path for path in visible if path.is_relative_to(each) and path != Path(each)):
        place = f"{new}/{one.relative_to(each)}"
        lines += [f"mkdir -p {q(place)}", f"mount --bind {q(str(one))} {q(place)}"]
    return [*lines, f"mount --rbind {q(new)} {q(each)}"]


def _devices(private: Path) -> list[str]:
    # In a /dev that is shared, every machine's systemd would leave its links.
    dev = shlex.quote(f"{private}/dev")
    return [
        f"mkdir {dev}",
        f"mount -t tmpfs -o mode=755 lab {dev}",
        f"for each in {' '.join(_DEVICES)}; do",
        f"    [ ! -e /dev/$each ] || {{ touch {dev}/$each; mount --bind /dev/$each {dev}/$each; }}",
        "done",
        f"mkdir {dev}/pts {dev}/shm {dev}/mqueue",
        f"mount -t devpts -o newinstance,ptmxmode=0666,mode=620 lab {dev}/pts",
        f"mount -t tmpfs -o mode=1777 lab {dev}/shm",
        f"ln -s pts/ptmx {dev}/ptmx",
        f"ln -s /proc/self/fd {dev}/fd",
        f"for each in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${{each%:*}} {dev}/${{each#*:}}; done",
        f"mount --rbind {dev} /dev",
    ]


def _cgroups(hierarchies: Sequence[tuple[str, str]] | None) -> list[str]:
    """cgroups mounted anew show the machine's own root, because its namespace begins there."""
    lines = ["umount -R /sys/fs/cgroup"]
    if hierarchies is None:
        return [*lines, "mount -t cgroup2 lab /sys/fs/cgroup"]
    lines.append("mount -t tmpfs -o mode=755 lab /sys/fs/cgroup")
    for name, options in hierarchies:
        lines += [f"mkdir /sys/fs/cgroup/{name}", f"mount -t cgroup -o {options} lab /sys/fs/cgroup/{name}"]
    return lines


def _first() -> str:
    """What the machine's first process does before it becomes systemd. It has a /proc of its own."""
    q = shlex.quote
    lines = ["set -e"]
    for setting, value in KERNEL_SETTINGS.items():
        fake = f"/run/lab-{setting.replace('/', '.')}"
        lines += [
            f"echo {value} > {q(fake)}",
            f"[ ! -e /proc/sys/{setting} ] || mount --bind {q(fake)} /proc/sys/{setting}",
        ]
    lines += [
        # Containers see what their volumes' hosts mount.
        "mount --make-rshared /",
        f'exec env -i container=lab PATH={SYSTEM_PATH} LANG=C.UTF-8 NOTIFY_SOCKET="$NOTIFY_SOCKET"'
        f" /lib/systemd/systemd --unit={_TARGET} --show-status=false --log-target=journal",
    ]
    return "\n".join(lines)
