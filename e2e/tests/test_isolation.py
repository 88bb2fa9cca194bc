"""Two tenants beside each other: what is good for one is worth nothing at the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import tenants
from e2e.lab.network import LabError
from e2e.lab.processes import call
from e2e.tenants import holder, intruder
from e2e.tests import etcd_question
from e2e.tests.room import Room, refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _ask_etcd(room: Room, at: str, *, certificate_of: str | None) -> dict[str, int]:
    """Ask a tenant's etcd for the number of its keys, from the node's network, with another tenant's certificate."""
    address = room.get(f"service/kmc-{at}-etcd")["spec"]["clusterIP"]
    if address == "None":
        address = room.get(f"pod/kmc-{at}-etcd-0")["status"]["podIP"]
    folder = room.folder / f"etcd-{at}-{certificate_of}"
    folder.mkdir(mode=0o700)
    (folder / "ca.crt").write_bytes(_secret(room, f"{at}-apiserver-etcd-client", "ca.crt"))
    words: list[str | Path] = [address, folder / "ca.crt"]
    if certificate_of:
        pair = [_secret(room, f"{certificate_of}-apiserver-etcd-client", key) for key in ("tls.crt", "tls.key")]
        (folder / "pair.pem").write_bytes(b"".join(pair))
        words.append(folder / "pair.pem")
    script = Path(etcd_question.__file__)
    answer: dict[str, int] = json.loads(call([sys.executable, script, *words], place=room.lab.node))
    return answer


def _secret(room: Room, name: str, key: str) -> bytes:
    return tenants.secret(room.lab, name, key, namespace=room.namespace)


def test_two_tenants_have_nothing_in_common(room: Room) -> None:
    room.create("one")
    room.create("two")
    one, two = room.available("one"), room.available("two")
    one.kubectl("create", "namespace", "only-in-one")
    assert "only-in-one" not in two.kubectl("get", "namespaces", "-o", "name")

    # The administrator of one, with one's certificate, at two: known to nobody.
    with refused("Unauthorized", "must be logged in"):
        intruder(two, who=one, folder=room.folder).kubectl("get", "namespaces")
    # And two's server is none that one's kubeconfig would trust.
    server = two.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    with refused("certificate signed by unknown authority"):
        one.kubectl("--server", server, "get", "namespaces")

    token = holder(one, room.folder, name="token-of-one", token=room.token("one", "worker"))
    assert "system:bootstrap:" in token.kubectl("auth", "whoami")
    with refused("Unauthorized", "must be logged in"):
        intruder(two, who=token, folder=room.folder).kubectl("auth", "whoami")

    assert _ask_etcd(room, "one", certificate_of="one")["count"] > 100
    for at, certificate_of in (("two", "one"), ("one", "two"), ("two", None)):
        with pytest.raises(LabError, match=r"refused"):
            _ask_etcd(room, at, certificate_of=certificate_of)


def test_the_question_fails_for_the_reason_given(tmp_path: Path) -> None:
    """The helper tells a refusal from an etcd that is not there."""
    done = subprocess.run(
        [sys.executable, etcd_question.__file__, "127.0.0.1", "/dev/null"], capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "refused: " not in done.stderr
