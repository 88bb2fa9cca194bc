"""The PKI directory: what is kept, what is re-issued, what is refused."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e.contract.conftest import Facts, Start
from e2e.contract.k0s import Controller
from e2e.contract.machine import Machine
from e2e.contract.material import Pair, pair, shared_pki

Init = Callable[..., Controller]
_SPEC = {"storage": {"type": "kine"}, "network": {"provider": "custom"}}
_KEPT = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub")
_ISSUED = (
    "server",
    "admin",
    "ccm",
    "scheduler",
    "konnectivity",
    "apiserver-kubelet-client",
    "front-proxy-client",
    "k0s-api",
)


@pytest.fixture
def init(start: Start, facts: Facts) -> Init:
    """Runs k0s as far as its certificates: with `--init-only` where that ends, else until components start."""
    ends = facts("behaviour")["init-only-ends-with-kine"]

    def run(spec: dict[str, Any], files: dict[str, bytes] | None = None, on: Machine | None = None) -> Controller:
        begun = time.time()
        controller = start(spec=spec, arguments=("--init-only",) if ends else (), files=files, on=on)
        if ends:
            assert controller.process.wait(30) == 0, controller.tail()
            return controller

        def issued() -> bool:
            last = controller.data("pki/k0s-api.crt").stat().st_mtime
            return last > begun and bool(controller.process.children())

        controller.wait_for(issued, within=30, what="the certificates")
        controller.process.end()
        return controller

    return run


def _read(controller: Controller) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in controller.data("pki").iterdir() if f.is_file()}


def test_restart_keeps_authorities_and_reissues_leaves(init: Init) -> None:
    """Leaves live a year and are renewed by restarts only; authorities are never touched."""
    first = init(_SPEC)
    before = _read(first)
    serials = {name: first.certificate(name).serial_number for name in _ISSUED}
    second = init(_SPEC, on=first.machine)
    after = _read(second)
    assert {n: before[n] for n in _KEPT} == {n: after[n] for n in _KEPT}
    for name in _ISSUED:
        assert second.certificate(name).serial_number != serials[name], name
        assert after[f"{name}.key"] != before[f"{name}.key"], name


def test_half_an_authority_is_replaced(init: Init) -> None:
    """A certificate without its key is thrown away for a new authority: a CA key is needed in the pod."""
    mine = pair("kubernetes-ca")
    controller = init(_SPEC, {"/var/lib/k0s/pki/ca.crt": mine.crt})
    assert controller.data("pki/ca.crt").read_bytes() != mine.crt
    assert controller.data("pki/ca.key").exists()


def test_given_elliptic_curve_authorities_are_used(start: Start) -> None:
    """ECDSA authorities and service account keys are kept byte for byte; k0s' own leaves stay RSA."""
    given = shared_pki()
    controller = start(spec=_SPEC, files=given)
    controller.ready()
    for path, content in given.items():
        assert controller.machine.path(path).read_bytes() == content, path
    server = controller.certificate("server")
    assert isinstance(server.public_key(), rsa.RSAPublicKey)
    server.verify_directly_issued_by(controller.certificate("ca"))
    controller.wait_for(lambda: controller.get("serviceaccount", "default"), within=30, what="a ServiceAccount")
    token = controller.kubectl("create", "token", "default").strip()
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header["alg"] == "ES256"
    code, _ = controller.curl("/api", "-H", f"Authorization: Bearer {token}")
    assert code == 200


def test_a_client_certificate_of_the_same_authority_is_an_administrator(start: Start) -> None:
    """hosted-cp signs its own credentials; nothing needs to be fetched from the pod."""
    ca = pair("kubernetes-ca")
    controller = start(spec=_SPEC, files=_authority(ca))
    controller.ready()
    mine = pair("someone", signer=ca, organization="system:masters")
    folder = controller.machine.folder
    (folder / "c.crt").write_bytes(mine.crt)
    (folder / "c.key").write_bytes(mine.pem)
    code, body = controller.curl("/api/v1/secrets", "--cert", str(folder / "c.crt"), "--key", str(folder / "c.key"))
    assert code == 200, body


def _authority(ca: Pair) -> dict[str, bytes]:
    return {"/var/lib/k0s/pki/ca.crt": ca.crt, "/var/lib/k0s/pki/ca.key": ca.pem}


def test_a_bundle_of_authorities_is_refused(start: Start) -> None:
    """`ca.crt` holds exactly one certificate."""
    ca, other = pair("kubernetes-ca"), pair("kubernetes-ca")
    files = _authority(ca) | {"/var/lib/k0s/pki/ca.crt": ca.crt + other.crt}
    controller = start(spec=_SPEC, files=files, arguments=("--init-only",))
    assert controller.process.wait(30) == 1


def test_a_leaf_of_a_stranger_is_left_alone(init: Init) -> None:
    """A leaf that an authority of another name issued is not k0s' to replace; one of its own names is."""
    stranger, known = pair("somebody-else"), pair("kubernetes-ca")
    foreign, own = pair("kubernetes", signer=stranger), pair("kubernetes-admin", signer=known)
    files = {
        "/var/lib/k0s/pki/server.crt": foreign.crt, "/var/lib/k0s/pki/server.key": foreign.pem,
        "/var/lib/k0s/pki/admin.crt": own.crt, "/var/lib/k0s/pki/admin.key": own.pem,
    }  # fmt: skip
    controller = init(_SPEC, files)
    assert controller.certificate("server") == foreign.certificate
    assert controller.certificate("admin") != own.certificate


def test_names_of_the_server_certificate(init: Init) -> None:
    """External host, configured names and the first Service address are in it; konnectivity's host is not."""
    from cryptography import x509

    spec = _SPEC | {
        "api": {"externalAddress": "ext.example:31234", "sans": ["a.example", "192.0.2.77"]},
        "konnectivity": {"externalAddress": "agents.example:31235"},
        "network": {"provider": "custom", "serviceCIDR": "10.55.0.0/16"},
    }
    controller = init(spec)
    extension = controller.certificate("server").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    names = {str(n.value) for n in extension.value}
    assert {"ext.example", "a.example", "192.0.2.77", "10.55.0.1", "10.99.0.2", "localhost", "127.0.0.1"} <= names
    assert "agents.example" not in names


def test_lives_of_certificates(init: Init) -> None:
    """`spec.api.ca` sets how long generated authorities and leaves live."""
    spec = _SPEC | {"api": {"ca": {"expiresAfter": "2400h", "certificatesExpireAfter": "240h"}}}
    controller = init(spec)
    lives = {
        n: controller.certificate(n).not_valid_after_utc - controller.certificate(n).not_valid_before_utc
        for n in ("ca", "server")
    }
    assert {n: round(life.total_seconds() / 86400) for n, life in lives.items()} == {"ca": 100, "server": 10}
