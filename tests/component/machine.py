"""A machine that runs its user data: Debian's cloud-init in namespaces of its own, on overlays that vanish.

The user data lies where cloud-init finds it on a machine without a cloud (NoCloud), and the stages run that a machine's
init system would run, one after the other. k0s is played by a script that records its arguments and installs a service
as k0s does; so is OpenRC's `rc-service`, where a test wants it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: In the machine; `Booted.srv` from outside.
SRV = "/srv"

_PLAYED_K0S = """\
#!/bin/sh
printf '%s\\0' "$0" "$@" >> /srv/out/k0s
cat > /etc/init.d/k0sworker <<'END'
#!/bin/sh
[ "$1" = start ] && touch /srv/out/started
END
chmod +x /etc/init.d/k0sworker
"""

_PLAYED_OPENRC = """\
#!/bin/sh
[ "$*" = "k0sworker start" ] && touch /srv/out/started
"""

_CONFIG = """\
datasource_list: [NoCloud]
disable_root: false
preserve_hostname: true
network: {config: disabled}
cloud_init_modules: [write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
system_info:
  distro: debian
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/}
"""

_BOOT = """\
set -e
cd /
mkdir -p "$1/private"
mount -t tmpfs machine "$1/private"
for each in etc var usr/local opt root; do
    mkdir -p "$1/private/$each" "$1/private/$each.work"
    mount -t overlay -o "lowerdir=/$each,upperdir=$1/private/$each,workdir=$1/private/$each.work" machine "/$each"
done
mount -t tmpfs -o mode=755 machine /run
mkdir /run/lock
mount --bind "$1/srv" /srv
ip link set lo up
hostname machine-1
cp "$1/cloud.cfg" /etc/cloud/cloud.cfg
rm -f /etc/cloud/cloud.cfg.d/*
mkdir -p /var/lib/cloud/seed/nocloud /usr/local/bin /usr/local/sbin
cp "$1/user-data" /var/lib/cloud/seed/nocloud/user-data
echo 'instance-id: i-0123' > /var/lib/cloud/seed/nocloud/meta-data
cp "$1/k0s" /usr/local/bin/k0s
[ ! -e "$1/rc-service" ] || cp "$1/rc-service" /usr/local/sbin/rc-service
(cd /srv/www && exec python3 -m http.server --bind 127.0.0.1 80) > /dev/null 2>&1 &
server=$!
{
    cloud-init init --local
    cloud-init init
    cloud-init modules --mode=config
    cloud-init modules --mode=final || true
} > /srv/out/log 2>&1
kill $server
cloud-init status --long > /srv/out/status || true
ls -A /run > /srv/out/run
[ ! -e /run/cluster-api ] || cp -r /run/cluster-api /srv/out/
[ ! -e /etc/k0s.token ] || { cp /etc/k0s.token /srv/out/; stat -c %a /etc/k0s.token > /srv/out/mode; }
"""


@dataclass(frozen=True, kw_only=True)
class Booted:
    """What is left of a machine."""

    srv: Path

    @property
    def out(self) -> Path:
        return self.srv / "out"

    @property
    def log(self) -> str:
        return (self.out / "log").read_text(errors="replace")

    @property
    def failed(self) -> bool:
        """What cloud-init itself says of its run."""
        return "status: error" in (self.out / "status").read_text()

    @property
    def finished(self) -> bool:
        return (self.out / "cluster-api" / "bootstrap-success.complete").exists()

    @property
    def started(self) -> bool:
        return (self.out / "started").exists()

    def words(self, name: str) -> list[str]:
        """What was recorded, NUL after each."""
        return (self.out / name).read_bytes().decode().split("\0")[:-1]


def missing() -> str | None:
    """Why there can be no machine here."""
    if shutil.which("cloud-init") is None:
        return "Debian's cloud-init is not installed"
    return None if os.geteuid() == 0 else "namespaces and overlays need root"


def boot(folder: Path, user_data: bytes, *, openrc: bool = True, served: dict[str, bytes] | None = None) -> Booted:
    """Let a machine with this user data start, and wait until cloud-init is done. `served` are files that it can
    download from http://127.0.0.1/."""
    for each in ("srv/out", "srv/www", "srv/files"):
        (folder / each).mkdir(parents=True)
    (folder / "cloud.cfg").write_text(_CONFIG)
    (folder / "user-data").write_bytes(user_data)
    (folder / "k0s").write_text(_PLAYED_K0S)
    (folder / "k0s").chmod(0o755)
    if openrc:
        (folder / "rc-service").write_text(_PLAYED_OPENRC)
        (folder / "rc-service").chmod(0o755)
    for name, content in (served or {}).items():
        (folder / "srv" / "www" / name).write_bytes(content)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    namespaces = [
        "unshare",
        "--mount",
        "--propagation=private",
        "--net",
        "--uts",
        "--ipc",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    done = subprocess.run(
        [*namespaces, "sh", "-c", _BOOT, "boot", str(folder)], env=environment, capture_output=True, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return Booted(srv=folder / "srv")


PLAYED_K0S = _PLAYED_K0S.encode()
