"""A real kube-apiserver and etcd, and a real controller-manager with the controllers that tenants need.

Everything runs on loopback, in a folder of its own, and ends with the process that started it (also when that process
is killed). Nothing of `hosted_cp` is used here, so a fault in our client cannot hide itself.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tests.component import certificates
from tests.component.audit import POLICY, Audit
from tests.component.certificates import Pair

#: The controllers that play a part in what the operator's objects become. Nobody schedules and nobody provisions:
#: that is the stand-in kubelet's part.
CONTROLLERS = (
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "serviceaccount-controller",
    "statefulset-controller",
)

#: Seconds until a server that does not answer is given up.
_PATIENCE = 60.0


class KubectlError(RuntimeError):
    """kubectl ended with an error."""


class StartError(RuntimeError):
    """A server did not start; the message holds the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How one user reaches a server: client certificate and CA, all PEM."""

    server: str
    user: str
    ca: bytes
    pair: Pair

    def kubeconfig(self, path: Path) -> Path:
        """Write this access as a kubeconfig file (JSON, which is YAML) for programs, and return its path."""
        encoded = {name: base64.b64encode(value).decode() for name, value in {
            "ca": self.ca, "certificate": self.pair.certificate, "key": self.pair.key}.items()}  # fmt: skip
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": self.server, "certificate-authority-data": encoded["ca"]}}
            ],
            "users": [
                {
                    "name": "test",
                    "user": {
                        "client-certificate-data": encoded["certificate"],
                        "client-key-data": encoded["key"],
                    },
                }
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_bytes(orjson.dumps(content))
        path.chmod(0o600)
        return path

    def context(self, folder: Path) -> ssl.SSLContext:
        """A TLS context with this certificate. The `ssl` module can only load client keys from files."""
        context = ssl.create_default_context(cadata=self.ca.decode())
        file = folder / f"access-{os.getpid()}-{random.getrandbits(64):x}.pem"
        file.touch(mode=0o600)
        try:
            file.write_bytes(self.pair.certificate + self.pair.key)
            context.load_cert_chain(file)
        finally:
            file.unlink()
        return context


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running API server."""

    url: str
    folder: Path
    #: Folder of the component binaries.
    programs: Path
    #: Signs the certificates of the server and of all users. A tenant's CA in tests that use it as a tenant too.
    authority: Pair
    admin: Access
    audit: Audit
    etcd_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(repr=False)
    #: Why the server refused our kinds; empty: it took them (or was given none).
    refused_kinds: str = ""

    def access(self, user: str, *groups: str) -> Access:
        """A client certificate for this user."""
        pair = certificates.leaf(self.authority, user, organizations=groups)
        return Access(server=self.url, user=user, ca=self.authority.certificate, pair=pair)

    def kubectl(self, *words: str, stdin: bytes | None = None) -> bytes:
        """Run the real kubectl as administrator; raises `KubectlError` with what it said."""
        return _kubectl(self.folder, self.programs, *words, stdin=stdin)

    def compact(self) -> None:
        """Let etcd forget all old revisions, so that watches from an old resourceVersion are answered with 410."""
        revision = orjson.loads(self.etcd("/v3/kv/range", {"key": "AA=="}))["header"]["revision"]
        self.etcd("/v3/kv/compaction", {"revision": revision, "physical": True})

    def etcd(self, path: str, body: dict[str, object]) -> bytes:
        """One call of etcd's JSON gateway."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.etcd_port}{path}", data=orjson.dumps(body))
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: bytes = answer.read()
        return content


@contextlib.contextmanager
def running(
    folder: Path, programs: Path, *, controllers: Sequence[str] = CONTROLLERS, crds: Path | None = None
) -> Iterator[Server]:
    """A management cluster in `folder` from the binaries in `programs`, stopped at the end.

    The kinds in the folder `crds` are installed before the garbage collector starts: it would learn of later ones only
    after half a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        yield _start(folder, programs, processes, controllers, crds)
    finally:
        _stop(processes)


def _start(
    folder: Path,
    programs: Path,
    processes: dict[str, subprocess.Popen[bytes]],
    controllers: Sequence[str],
    crds: Path | None,
) -> Server:
    authority = certificates.authority("test-ca")
    sans = {"dns": ("localhost", "kubernetes.default.svc"), "ips": ("127.0.0.1", "10.96.0.1")}
    serving = certificates.leaf(authority, "kube-apiserver", **sans)
    service_accounts = certificates.new_key()
    files = {
        "ca.crt": authority.certificate,
        "server.crt": serving.certificate,
        "server.key": serving.key,
        "sa.key": service_accounts,
        "sa.pub": certificates.public_half(service_accounts),
        "audit.yaml": POLICY.encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)

    client, peer, port = free_ports(3)
    _spawn(
        processes, folder, "etcd", programs / "etcd",
        f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error",
        f"--listen-client-urls=http://127.0.0.1:{client}", f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    )  # fmt: skip
    _spawn(
        processes, folder, "kube-apiserver", programs / "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1", f"--secure-port={port}",
        "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
        f"--tls-cert-file={folder / 'server.crt'}", f"--tls-private-key-file={folder / 'server.key'}",
        f"--client-ca-file={folder / 'ca.crt'}", "--authorization-mode=Node,RBAC", "--anonymous-auth=false",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}", "--service-cluster-ip-range=10.96.0.0/16",
        f"--audit-policy-file={folder / 'audit.yaml'}", f"--audit-log-path={folder / 'audit.log'}",
        "--audit-log-mode=blocking", "--audit-log-maxsize=10240", "--allow-privileged=true", "--profiling=false",
        # As some distributions do: who blocks an owner's deletion must be allowed to change the owner's finalizers.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        # Watches of this kind go to etcd itself, so that a compaction is felt at once (410 in tests).
        "--watch-cache-sizes=cronjobs.batch#0",
    )  # fmt: skip

    url = f"https://127.0.0.1:{port}"
    pair = certificates.leaf(authority, "admin", organizations=("system:masters",))
    admin = Access(server=url, user="admin", ca=authority.certificate, pair=pair)
    admin.kubeconfig(folder / "admin.kubeconfig")
    context = admin.context(folder)
    _await_ready(url, context, processes, folder)
    refused_kinds = _install(crds, folder, programs) if crds is not None else ""
    server = Server(
        url=url,
        folder=folder,
        programs=programs,
        authority=authority,
        admin=admin,
        audit=Audit(log=folder / "audit.log", server=url, context=context),
        etcd_port=client,
        processes=processes,
        refused_kinds=refused_kinds,
    )
    if controllers:
        kubeconfig = server.access("controller-manager", "system:masters").kubeconfig(folder / "kcm.kubeconfig")
        _spawn(
            processes, folder, "kube-controller-manager", programs / "kube-controller-manager",
            f"--kubeconfig={kubeconfig}", f"--controllers={','.join(controllers)}", "--leader-elect=false",
            "--secure-port=0", "--use-service-account-credentials=false",
            f"--service-account-private-key-file={folder / 'sa.key'}", "--kube-api-qps=2000", "--kube-api-burst=4000",
            "--concurrent-statefulset-syncs=10", "--concurrent-gc-syncs=10",
        )  # fmt: skip
    return server


def _kubectl(folder: Path, programs: Path, *words: str, stdin: bytes | None = None) -> bytes:
    argv = [str(programs / "kubectl"), "--kubeconfig", str(folder / "admin.kubeconfig"), *words]
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(words)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def _install(crds: Path, folder: Path, programs: Path) -> str:
    """Install kinds. A refusal is kept, not raised: it concerns only the tests that use them."""
    try:
        _kubectl(folder, programs, "create", "-f", str(crds))
        _kubectl(folder, programs, "wait", "--for=condition=Established", "--timeout=30s", "-f", str(crds))
    except KubectlError as refusal:
        return str(refusal)
    return ""


def _spawn(processes: dict[str, subprocess.Popen[bytes]], folder: Path, name: str, program: Path, *words: str) -> None:
    """Start a server that dies with us: the kernel sends it a signal when our thread ends, however that happens."""
    setpriv = shutil.which("setpriv")
    leash = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "GOGC": "200"}
    with (folder / f"{name}.log").open("ab") as log:
        processes[name] = subprocess.Popen(
            [*leash, str(program), *words],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _await_ready(
    url: str, context: ssl.SSLContext, processes: dict[str, subprocess.Popen[bytes]], folder: Path
) -> None:
    """Ask `/readyz` until it says yes: a server that is starting offers nothing to wait on."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise StartError(f"{name} ended with {process.returncode}:\n{_tail(folder / f'{name}.log')}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", context=context, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise StartError(f"kube-apiserver was not ready after {_PATIENCE:.0f} s:\n{_tail(folder / 'kube-apiserver.log')}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    # Clients first, the store last; nothing in the store is worth a graceful end.
    for process in reversed(processes.values()):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody uses, outside the range from which the kernel picks ports for connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
