"""Pods of a tenant's etcd without a cluster: the planned objects, played with real shells and real etcd processes.

Commands and environment come from the planned StatefulSet, expanded as the kubelet does it. Each container runs in a
mount namespace of its own, where the volume and the certificates stand at the paths that the pod mounts them at and
`/etc/hosts` plays the cluster's DNS. One thing is replaced: members share one network, so each listens on a loopback
address of its own instead of on 0.0.0.0.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import os
import random
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from hosted_cp.hosting.etcd import permit, store
from hosted_cp.hosting.tenant import Tenant
from tests.component import certificates
from tests.component.certificates import Pair
from tests.component.pod_play import command, environment
from tests.hosting.etcd_world import NAMES, a_tenant, permit_data, permit_secret, pod, stateful_set

#: The shells that `/bin/sh` is in the images that people use.
SHELLS: Mapping[str, tuple[str, ...]] = {"busybox": ("busybox", "sh"), "dash": ("dash",)}

_USER = 1001
_SERIAL = itertools.count(random.randrange(60_000))


class Unavailable(Exception):
    """etcd answered that it could not do what it was asked."""


@dataclass
class World:
    """One tenant's etcd: its permit, certificates and volumes, and the members that run."""

    folder: Path
    program: Path
    members: int
    shell: str = "busybox"
    #: Where the init step finds its tools, if not where the test does.
    path: str = ""
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        serial = next(_SERIAL) % 60_000
        self.network = f"127.{1 + serial // 250}.{1 + serial % 250}"
        self.authority = certificates.authority("etcd-ca")
        for ordinal in range(self.members):
            self.new_volume(ordinal)
        self._hosts().write_text(
            "127.0.0.1 localhost\n"
            + "".join(f"{self.address(i)} {NAMES.etcd}-{i}.{NAMES.etcd} {NAMES.etcd}\n" for i in range(self.members))
        )
        self.new_leaves()
        self.grant()

    # --- what the operator does --------------------------------------------------------------------------------------

    def tenant(self, *, ready: bool = False) -> Tenant:
        """The tenant as the operator sees it: with the permit that exists, and all members ready or none."""
        children = [stateful_set(members=self.members)] if NAMES.etcd_permit in self.secrets else []
        if NAMES.etcd_permit in self.secrets:
            children.append(permit_secret(self.secrets[NAMES.etcd_permit]))
        pods = [pod(i, ready=ready) for i in range(self.members)]
        return a_tenant(*children, pods=pods, replicas=self.members)

    def grant(self, *, ready: bool = False) -> None:
        """Write the permit that the operator plans now."""
        wanted = permit.wanted(self.tenant(ready=ready))
        kept = self.secrets.get(NAMES.etcd_permit)
        if kept is None or not wanted.current:
            self.secrets[NAMES.etcd_permit] = permit_data(wanted.recipe, kept=kept)

    def new_leaves(self) -> None:
        """Sign new leaves and lay them out as the kubelet does: files are links into a folder that is exchanged."""
        dns, ips = store.server_names(a_tenant(replicas=self.members))
        for purpose in ("etcd-server", "etcd-peer"):
            pair = certificates.leaf(self.authority, purpose, dns=tuple(dns), ips=tuple(ips))
            self.secrets[NAMES.secret(purpose)] = {
                "tls.crt": pair.certificate,
                "tls.key": pair.key,
                "ca.crt": self.authority.certificate,
            }
        target = self.folder / "certs"
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
        made = target / f"..{time.monotonic_ns()}"
        made.mkdir(mode=0o755)
        [volume] = self.pod_spec()["volumes"]
        for source in volume["projected"]["sources"]:
            for item in source["secret"]["items"]:
                file = made / item["path"]
                file.write_bytes(self.secrets[source["secret"]["name"]][item["key"]])
                file.chmod(0o440)
                if os.geteuid() == 0:
                    os.chown(file, 0, _USER)  # what fsGroup does
                with contextlib.suppress(FileExistsError):
                    (target / item["path"]).symlink_to(f"..data/{item['path']}")
        link = target / "..data_tmp"
        link.symlink_to(made.name)
        link.replace(target / "..data")

    # --- what storage does -------------------------------------------------------------------------------------------

    def volume(self, ordinal: int) -> Path:
        return self.folder / f"volume-{ordinal}"

    def new_volume(self, ordinal: int) -> None:
        """An empty volume, as a StorageClass would provision it."""
        shutil.rmtree(self.volume(ordinal), ignore_errors=True)
        self.volume(ordinal).mkdir()
        self.volume(ordinal).chmod(0o2775)
        (self.volume(ordinal) / "lost+found").mkdir()
        if os.geteuid() == 0:
            os.chown(self.volume(ordinal), 0, _USER)

    def copy_volumes_from(self, other: World) -> None:
        for ordinal in range(self.members):
            shutil.rmtree(self.volume(ordinal))
            subprocess.run(
                ["cp", "-a", "--sparse=always", other.volume(ordinal), self.volume(ordinal)], check=True, timeout=60
            )

    # --- what the kubelet does ---------------------------------------------------------------------------------------

    def pod_spec(self) -> Mapping[str, Any]:
        body = next(each.body for each in store.wanted(self.tenant()) if each.ref.kind == "StatefulSet")
        found: Mapping[str, Any] = body["spec"]["template"]["spec"]
        return found

    def init(
        self, ordinal: int, *, secrets: Mapping[str, Mapping[str, bytes]] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the init step of a member. `secrets` are what its kubelet sees, if that is not the newest."""
        [container] = self.pod_spec()["initContainers"]
        variables = environment(container, pod=f"{NAMES.etcd}-{ordinal}", secrets=secrets or self.secrets)
        words = command(container, variables)
        assert words[0] == "/bin/sh"
        path = [shutil.which("env") or "env", f"PATH={self.path}"] if self.path else []
        shell = shutil.which(SHELLS[self.shell][0]) or self.shell
        argv = self._contained(ordinal, [*path, shell, *SHELLS[self.shell][1:], *words[1:]])
        return subprocess.run(
            argv, env={**variables, "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=30, check=False
        )

    def start(self, ordinal: int, *, secrets: Mapping[str, Mapping[str, bytes]] | None = None) -> str:
        """Start a pod: its init step, and etcd if that lets it. Returns the refusal, or "" if etcd was started."""
        said = self.init(ordinal, secrets=secrets)
        if said.returncode:
            return said.stderr
        self.start_etcd(ordinal, secrets=secrets)
        return ""

    def start_etcd(self, ordinal: int, *, secrets: Mapping[str, Mapping[str, bytes]] | None = None) -> None:
        """Start only etcd, as the kubelet does when the container ends inside a pod that stays."""
        [container] = self.pod_spec()["containers"]
        variables = environment(container, pod=f"{NAMES.etcd}-{ordinal}", secrets=secrets or self.secrets)
        words = [str(self.program), *command(container, variables)[1:]]
        words = [word.replace("0.0.0.0", self.address(ordinal)) for word in words]
        with self.log(ordinal).open("ab") as log:
            self.running[ordinal] = subprocess.Popen(
                self._contained(ordinal, words), env={**variables, "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self, ordinal: int, sent: signal.Signals = signal.SIGKILL) -> None:
        process = self.running.pop(ordinal)
        process.send_signal(sent)
        process.wait(timeout=30)

    def stop_all(self) -> None:
        for ordinal in list(self.running):
            self.stop(ordinal)

    def ended(self, ordinal: int) -> int:
        """Wait until this member ends by itself, and return its exit code."""
        return self.running.pop(ordinal).wait(timeout=30)

    def _contained(self, ordinal: int, words: Sequence[str]) -> list[str]:
        root = os.geteuid() == 0
        namespaces = ["unshare", "--mount"] if root else ["unshare", "--user", "--map-root-user", "--mount"]
        volume, certs, hosts = self.volume(ordinal), self.folder / "certs", self._hosts()
        setup = " && ".join(
            [
                "mount -t tmpfs -o mode=0755 tmpfs /var/lib",
                "mkdir -p /var/lib/k0s/etcd /var/lib/k0s/pki/etcd",
                f"mount --bind {shlex.quote(str(volume))} /var/lib/k0s/etcd",
                f"mount --bind {shlex.quote(str(certs))} /var/lib/k0s/pki/etcd",
                f"mount --bind {shlex.quote(str(hosts))} /etc/hosts",
                'exec "$@"',
            ]
        )
        user = [f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--no-new-privs"] if root else []
        return [*namespaces, "sh", "-c", setup, "pod", "setpriv", *user, "--pdeathsig=KILL", *words]

    # --- what a test asks --------------------------------------------------------------------------------------------

    def address(self, ordinal: int) -> str:
        return f"{self.network}.{10 + ordinal}"

    def log(self, ordinal: int) -> Path:
        return self.folder / f"etcd-{ordinal}.log"

    def health(self, ordinal: int, path: str = "/readyz", *, timeout: float = 10.0) -> int:
        """The HTTP status of the metrics listener for a path; 0 if nobody listens."""
        try:
            with urllib.request.urlopen(f"http://{self.address(ordinal)}:2381{path}", timeout=timeout) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def await_ready(self, *ordinals: int, patience: float = 40.0) -> float:
        """Ask as the kubelet's probe does, but more often, until all are ready; the seconds that it took."""
        begun = time.monotonic()
        for ordinal in ordinals:
            while self.health(ordinal) != 200:
                log = self.log(ordinal)
                assert self.running[ordinal].poll() is None, f"etcd {ordinal} ended:\n{log.read_text()[-3000:]}"
                assert time.monotonic() < begun + patience, f"etcd {ordinal} is not ready:\n{log.read_text()[-3000:]}"
                time.sleep(0.01)
        return time.monotonic() - begun

    def context(self, pair: Pair | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if pair is not None:
            file = self.folder / f"client-{time.monotonic_ns()}.pem"
            file.touch(mode=0o600)
            file.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(file)
        return context

    def client(self) -> Pair:
        return certificates.leaf(self.authority, "apiserver-etcd-client")

    def dial(self, ordinal: int, pair: Pair | None, *, port: int = 2379) -> ssl.SSLSocket:
        """A TLS connection to a member, whose certificate must be valid for the Service's name."""
        plain = socket.create_connection((self.address(ordinal), port), timeout=10)
        try:
            return self.context(pair).wrap_socket(plain, server_hostname=NAMES.etcd)
        except BaseException:
            plain.close()
            raise

    def call(self, ordinal: int, path: str, body: Mapping[str, Any], *, pair: Pair | None = None) -> dict[str, Any]:
        """One call of etcd's JSON gateway over mutual TLS, with the certificate that the API server has."""
        connection = http.client.HTTPConnection(NAMES.etcd, timeout=10)
        connection.sock = self.dial(ordinal, pair or self.client())
        try:
            connection.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise Unavailable(f"{answer.status}: {content!r}")
            found: dict[str, Any] = orjson.loads(content)
            return found
        finally:
            connection.close()

    def write(self, ordinal: int, keys: Sequence[str]) -> None:
        """Write these keys until each is acknowledged: while a leader is elected, etcd answers that it could not."""
        deadline = time.monotonic() + 40
        for key in keys:
            encoded = base64.b64encode(key.encode()).decode()
            while True:
                try:
                    self.call(ordinal, "/v3/kv/put", {"key": encoded, "value": encoded})
                    break
                except Unavailable:
                    assert time.monotonic() < deadline

    def keys(self, ordinal: int, *, serializable: bool = False) -> set[str]:
        """All keys, as the quorum has them (or this member, if `serializable`)."""
        query = {"key": "AA==", "range_end": "AA==", "keys_only": True, "serializable": serializable}
        found = self.call(ordinal, "/v3/kv/range", query)
        return {base64.b64decode(each["key"]).decode() for each in found.get("kvs", [])}

    def _hosts(self) -> Path:
        return self.folder / "hosts"


@contextlib.contextmanager
def world(folder: Path, program: Path, *, members: int, shell: str = "busybox") -> Iterator[World]:
    """A world whose processes end with it."""
    made = World(folder=folder, program=program, members=members, shell=shell)
    try:
        yield made
    finally:
        made.stop_all()
        for ordinal in range(members):
            shutil.rmtree(made.volume(ordinal), ignore_errors=True)  # each write-ahead log takes 128 MiB


def marker(volume: Path) -> Path:
    """Where the init step records whose volume it is."""
    return volume / ".hosted-cp-tenant"
