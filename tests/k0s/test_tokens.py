"""Join tokens: the format, and one secret in two clusters."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.k0s import tokens
from hosted_cp.k0s.tokens import BootstrapRecipe, TokenError, TokenRecipe, decode, encode
from hosted_cp.planning.recipes import Inputs, MaterialError

CA = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
SECRET = "0123456789abcdef"
EXPIRES = datetime(2026, 9, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))


def entropy(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def inputs(secrets: Any = None, *, seed: int = 1) -> Inputs:
    return Inputs(now=EXPIRES, entropy=entropy(seed), new_key=lambda _: None, secrets=secrets or {})


def worker(**changes: Any) -> str:
    given_ = {"role": "worker", "server": "https://203.0.113.7:31234", "ca": CA, "id": "abcdef", "secret": SECRET}
    return encode(**{**given_, **changes})


def test_a_worker_token_is_the_kubeconfig_that_k0s_expects() -> None:
    kubeconfig = json.loads(gzip.decompress(base64.b64decode(worker())))
    assert kubeconfig["current-context"] == "k0s"
    assert kubeconfig["clusters"] == [
        {
            "name": "k0s",
            "cluster": {
                "server": "https://203.0.113.7:31234",
                "certificate-authority-data": base64.b64encode(CA).decode(),
            },
        }
    ]
    assert kubeconfig["contexts"] == [{"name": "k0s", "context": {"cluster": "k0s", "user": "kubelet-bootstrap"}}]
    assert kubeconfig["users"] == [{"name": "kubelet-bootstrap", "user": {"token": f"abcdef.{SECRET}"}}]
    assert "\n" not in worker()
    assert worker() == worker(), "equal inputs give equal tokens"


@given(st.binary(min_size=1), st.sampled_from(tokens.ROLES), st.from_regex(r"[a-z0-9]{6}", fullmatch=True))
def test_what_is_encoded_is_decoded(ca: bytes, role: str, id: str) -> None:
    found = decode(encode(role=role, server="https://[::1]:6443", ca=ca, id=id, secret=SECRET) + "\n")
    assert found == tokens.JoinToken(role=role, server="https://[::1]:6443", ca=ca, id=id, secret=SECRET)


def packed(content: Any) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.b64encode(gzip.compress(text, mtime=0)).decode()


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("%%%", "it is not base64"),
        (base64.b64encode(b"plain").decode(), "it is not packed by gzip"),
        (packed(b"[" * 5000), "its content cannot be read"),
        (packed({}), "is no kubeconfig"),
        (packed([1]), "is no kubeconfig"),
        (packed(b"0" * (3 << 20)), "its content is too long"),
        (worker()[:40], "cut off"),
        (worker(id="ABCDEF"), "neither a worker's nor a controller's"),
    ],
)
def test_what_is_no_token_is_refused_without_quoting_it(token: str, says: str) -> None:
    with pytest.raises(TokenError, match=says) as caught:
        decode(token)
    assert SECRET not in str(caught.value)


def test_a_token_of_k0s_itself_is_read() -> None:
    # k0s writes YAML; this is the shape of its `k0s token create`.
    text = f"""apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {base64.b64encode(CA).decode()}
    server: https://k:9443
  name: k0s
contexts:
- context: {{cluster: k0s, user: controller-bootstrap}}
  name: k0s
current-context: k0s
kind: Config
users:
- name: controller-bootstrap
  user: {{token: abcdef.{SECRET}}}
"""
    assert decode(packed(text.encode())).role == "controller"


def test_server_urls() -> None:
    assert tokens.server_url("2001:db8::7", 6443) == "https://[2001:db8::7]:6443"
    assert tokens.server_url("k.example.org", 443) == "https://k.example.org:443"


# --- one secret in two clusters --------------------------------------------------------------------------------------


def bootstrap(role: str = "worker") -> BootstrapRecipe:
    return BootstrapRecipe(id="abcdef", role=role, expires=EXPIRES)


def management() -> TokenRecipe:
    return TokenRecipe(id="abcdef", role="worker", server="https://203.0.113.7:31234", ca_secret="n-ca")


def test_the_tenants_secret() -> None:
    body = tokens.bootstrap_secret(id="abcdef", request_uid="uid")
    assert body["type"] == "bootstrap.kubernetes.io/token"
    assert body["metadata"] == {
        "name": "bootstrap-token-abcdef",
        "namespace": "kube-system",
        "labels": {"hosted-cp.io/join-token-request": "uid"},
    }
    data = bootstrap().fulfil(inputs())
    secret = data["token-secret"].decode()
    assert len(secret) == 16
    assert {key: value.decode() for key, value in data.items()} == {
        "token-id": "abcdef",
        "token-secret": secret,
        "description": "Worker bootstrap token generated by hosted-cp",
        "expiration": "2026-09-01T12:00:00Z",
        "usage-bootstrap-authentication": "true",
    }
    controller = bootstrap("controller").fulfil(inputs())
    assert controller["usage-bootstrap-controller-join"] == controller["usage-controller-join"] == b"true"
    assert "usage-bootstrap-authentication" not in controller


def test_both_secrets_hold_the_same_token() -> None:
    data = bootstrap().fulfil(inputs(seed=7))
    needs = management().needs
    assert needs == ("n-ca", "tenant:kube-system/bootstrap-token-abcdef")
    token = management().fulfil(inputs({needs[0]: {"tls.crt": CA}, needs[1]: data}))
    found = decode(token["token"].decode())
    assert (found.id, found.secret) == ("abcdef", data["token-secret"].decode())
    assert (found.role, found.ca) == ("worker", CA)


def test_a_lost_secret_part_is_an_error_not_another_token() -> None:
    with pytest.raises(MaterialError, match="bootstrap-token-abcdef has no key token-secret"):
        management().fulfil(inputs({"n-ca": {"tls.crt": CA}}))
    with pytest.raises(MaterialError, match=r"Secret n-ca has no key tls\.crt"):
        management().fulfil(inputs({management().needs[1]: {"token-secret": SECRET.encode()}}))
    with pytest.raises(MaterialError, match="is no token secret") as caught:
        management().fulfil(inputs({management().needs[1]: {"token-secret": b"c4n4ry"}}))
    assert "c4n4ry" not in str(caught.value)


def test_what_was_made_before_serves_if_it_allows_no_more_than_was_asked_for() -> None:
    """Which faults there are is said in `tests/hosting/test_join_tokens.py`; here: none of them quotes a value."""
    now = EXPIRES - timedelta(hours=1)
    asked = Inputs(now=now, entropy=entropy(), new_key=lambda _: None, secrets={})
    for role in tokens.ROLES:
        data = dict(bootstrap(role).fulfil(inputs(seed=7)))
        assert bootstrap(role).fault(data, asked) == ""
        assert bootstrap(role).fault({**data, "description": b"other words"}, asked) == ""
        assert bootstrap(role).fault({**data, "expiration": b"2026-09-01T11:00:01+00:00"}, asked) == ""
        for key in set(data) - {"description"}:
            fault = bootstrap(role).fault({**data, key: b"c4n4ry"}, asked)
            assert fault
            assert "c4n4ry" not in fault
    controllers = bootstrap("controller").fulfil(inputs())
    assert bootstrap("worker").fault(controllers, asked) == "it may be used for something else"


def test_a_recipe_that_prolongs_moves_the_end_and_nothing_else() -> None:
    recipe = dataclasses.replace(bootstrap(), prolongs=True)
    held = {**bootstrap().fulfil(inputs()), "expiration": b"2020-01-01T00:00:00Z"}
    assert bootstrap().fault(held, inputs()) == "it has expired"
    assert recipe.fault(held, inputs()) == ""
    assert recipe.amendment(held, inputs()) == {"expiration": bootstrap().fulfil(inputs())["expiration"]}
    assert bootstrap().amendment(held, inputs()) == {}
    assert recipe.amendment(bootstrap().fulfil(inputs()), inputs()) == {}
    assert recipe.fault({**held, "expiration": b"?"}, inputs()) == "its expiration is none"


def test_what_is_made_of_a_token_says_which_and_until_when() -> None:
    held = dict(bootstrap().fulfil(inputs()))
    name = tokens.material_name("abcdef")
    said = tokens.said_of("abcdef", inputs({name: held}))
    assert said[tokens.EXPIRES] == held["expiration"].decode()
    assert len(said[tokens.DIGEST]) == 16
    later = tokens.said_of("abcdef", inputs({name: {**held, "expiration": b"2030-01-01T00:00:00Z"}}))
    assert later[tokens.DIGEST] == said[tokens.DIGEST]
    other = tokens.said_of("abcdef", inputs({name: {**held, "token-secret": b"x" * 16}}))
    assert other[tokens.DIGEST] != said[tokens.DIGEST]


def test_what_was_handed_out_serves_if_the_tenant_knows_it() -> None:
    """Wherever it leads to: that can be mended without another token."""
    needs = management().needs
    given_ = inputs({needs[0]: {"tls.crt": CA}, needs[1]: bootstrap().fulfil(inputs(seed=7))})
    handed = management().fulfil(given_)
    assert management().fault(handed, given_) == ""
    moved = dataclasses.replace(management(), server="https://198.51.100.1:6443")
    assert moved.fault(handed, given_) == ""
    other = inputs({needs[0]: {"tls.crt": CA}, needs[1]: bootstrap().fulfil(inputs(seed=8))})
    assert management().fault(handed, other) == "it holds another token than the tenant knows"
    assert management().fault({}, given_) == "its content is too long, or cut off"
    assert management().annotations(given_) == {tokens.EXPIRES: "2026-09-01T12:00:00Z"}


def test_nothing_secret_is_printed_and_the_recipe_is_stable() -> None:
    data = bootstrap().fulfil(inputs())
    for recipe in (bootstrap(), management()):
        assert data["token-secret"].decode() not in json.dumps(dict(recipe.printed()))
        assert recipe.printed() == recipe.printed()


def test_the_id_follows_from_the_request_and_is_one_that_k0s_accepts() -> None:
    ids = [tokens.token_id(f"uid-{number}") for number in range(2000)]
    assert tokens.token_id("uid-7") == ids[7]
    assert len(set(ids)) == len(ids)
    assert set("".join(ids)) == set("abcdefghijklmnopqrstuvwxyz0123456789")
    assert all(len(id) == 6 for id in ids)


def test_secrets_are_drawn_evenly_from_the_alphabet() -> None:
    counts = Counter("".join(bootstrap().fulfil(inputs(seed=seed))["token-secret"].decode() for seed in range(2250)))
    assert set(counts) == set("abcdefghijklmnopqrstuvwxyz0123456789")
    assert min(counts.values()) > 0.85 * 1000
    assert max(counts.values()) < 1.15 * 1000


# --- roles -----------------------------------------------------------------------------------------------------------


def test_another_place_or_another_life_is_another_recipe() -> None:
    changes: list[dict[str, Any]] = [{}, {"server": "https://x"}, {"ca_fingerprint": "ab"}, {"tenant_uid": "1"}]
    recipes = [dataclasses.replace(management(), **change) for change in changes]
    assert len({json.dumps(dict(recipe.printed())) for recipe in recipes}) == 4


def test_which_roles_can_join() -> None:
    assert tokens.role_problem("worker") is None
    assert tokens.role_problem("controller", hosted=False) is None
    refused = tokens.role_problem("controller")
    assert refused is not None
    assert "spec.replicas" in refused.remedy
    assert tokens.role_problem("etcd") is not None
