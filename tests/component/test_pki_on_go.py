"""What our recipes make, judged by Go: a kubeconfig authenticates at a real API server, with every algorithm."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hosted_cp.pki.keys import ALGORITHMS, DEFAULT_ALGORITHM, PrivateKey
from hosted_cp.pki.recipes import KubeconfigRecipe
from hosted_cp.planning.recipes import Inputs
from tests.component.apiserver import Server


def new_key(algorithm: str) -> PrivateKey:
    if algorithm.startswith("RSA-"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(algorithm.removeprefix("RSA-")))
    return ec.generate_private_key({"ECDSA-P256": ec.SECP256R1, "ECDSA-P384": ec.SECP384R1}[algorithm]())


def kubeconfig(
    server: Server, path: Path, *, algorithm: str = DEFAULT_ALGORITHM, life: timedelta = timedelta(hours=1)
) -> Path:
    """The kubeconfig of a tenant whose CA is the server's, written to a file."""
    recipe = KubeconfigRecipe(cluster="demo", server=server.url, signer="demo-ca", algorithm=algorithm, life=life)
    secret = {"tls.crt": server.authority.certificate, "tls.key": server.authority.key}
    inputs = Inputs(now=datetime.now(UTC), entropy=os.urandom, new_key=new_key, secrets={"demo-ca": secret})
    made = recipe.fulfil(inputs)
    path.write_bytes(made["value"])
    return path


def kubectl(server: Server, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [str(server.programs / "kubectl"), "--kubeconfig", str(config), *words]
    return subprocess.run(argv, capture_output=True, check=False, text=True, timeout=60)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_kubeconfig_authenticates(server: Server, tmp_path: Path, algorithm: str) -> None:
    config = kubeconfig(server, tmp_path / "config", algorithm=algorithm)
    done = kubectl(server, config, "auth", "whoami", "-o", "json")
    assert done.returncode == 0, done.stderr
    who = json.loads(done.stdout)["status"]["userInfo"]
    assert who["username"] == "admin"
    assert "system:masters" in who["groups"]
    assert kubectl(server, config, "config", "current-context").stdout.strip() == "demo-admin@demo-k0s"


def test_an_expired_kubeconfig_does_not(server: Server, tmp_path: Path) -> None:
    """So the check above looks at the certificate at all."""
    config = kubeconfig(server, tmp_path / "config", life=timedelta(minutes=-1))
    done = kubectl(server, config, "auth", "whoami")
    assert done.returncode != 0
    assert "Unauthorized" in done.stderr or "provide credentials" in done.stderr
