"""The bootstrap Secret: made from what the executor brings, and printed without it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from hosted_cp.k0s import tokens
from hosted_cp.machines.recipes import WorkerDataRecipe
from hosted_cp.machines.render import preview, render
from hosted_cp.machines.worker import File, Resolved, SecretValue
from hosted_cp.planning.recipes import Inputs, MaterialError
from tests.machines.workers import CA_FILE, CONTENTS, VARIANTS, worker

CANARY = b"canary-7f3a"
CUSTOM = SecretValue(secret="custom", key="user-data", digest="d2")
RECIPE = WorkerDataRecipe(
    worker=replace(VARIANTS["cloud-config-all"], custom=CUSTOM),
    token_id="abcdef",
    server="https://203.0.113.7:30443",
    ca_secret="demo-ca",
)
SECRETS = {
    "demo-ca": {"tls.crt": b"CA"},
    tokens.material_name("abcdef"): {"token-secret": b"0123456789abcdef"},
    "site": {"ca.crt": CONTENTS[CA_FILE] + CANARY},
    "custom": {"user-data": b"#!/bin/sh\n" + CANARY},
}


def inputs(secrets: Any = SECRETS) -> Inputs:
    def none(_: Any) -> Any:
        raise AssertionError("nothing random is needed")

    return Inputs(now=datetime(2026, 11, 21, tzinfo=UTC), entropy=none, new_key=none, secrets=secrets)


def test_it_needs_the_token_the_ca_and_what_the_user_refers_to() -> None:
    assert set(RECIPE.needs) == set(SECRETS)


def test_it_makes_the_secret_of_the_contract() -> None:
    recipe = replace(RECIPE, worker=worker())
    made = recipe.fulfil(inputs())
    assert set(made) == {"value", "format"}
    assert made["format"] == b"cloud-config"
    token = tokens.decode(yaml.safe_load(made["value"])["write_files"][0]["content"])
    assert (token.role, token.server, token.ca) == ("worker", "https://203.0.113.7:30443", b"CA")
    assert (token.id, token.secret) == ("abcdef", "0123456789abcdef")


def test_it_brings_the_content_of_secrets() -> None:
    made = RECIPE.fulfil(inputs())["value"]
    assert made.count(CANARY) == 2


def test_nothing_secret_is_printed() -> None:
    recipe = replace(
        RECIPE, worker=replace(RECIPE.worker, files=(File(path="/a", content=CANARY),), pre_commands=(CANARY.decode(),))
    )
    for text in (json.dumps(recipe.printed()), repr(recipe), str(recipe)):
        assert CANARY.decode() not in text
        assert base64.b64encode(CANARY).decode() not in text
        assert "0123456789abcdef" not in text


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(MaterialError, match=r"has no key|is no token secret"):
        RECIPE.fulfil(inputs({name: data for name, data in SECRETS.items() if name != missing}))


def test_a_worker_that_cannot_be_rendered_is_said_to_be() -> None:
    with pytest.raises(MaterialError, match="unsupported URL scheme"):
        replace(RECIPE, worker=worker(download_url="ftp://x/y")).fulfil(inputs())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_is_printed(variant: str) -> None:
    """What differs is printed differently: the hash of the Secret covers it."""
    other = replace(RECIPE, worker=VARIANTS[variant])
    same = [name for name, each in VARIANTS.items() if replace(RECIPE, worker=each).printed() == other.printed()]
    assert same == [variant]


def test_a_secret_with_other_content_is_another_recipe() -> None:
    changed = replace(RECIPE, worker=replace(RECIPE.worker, custom=replace(CUSTOM, digest="d3")))
    assert changed.printed() != RECIPE.printed()


def test_a_preview_names_what_it_leaves_out() -> None:
    text = preview(RECIPE.worker).value.decode()
    assert "<join token>" in text
    assert "<ca.crt of Secret site>" in text
    assert (
        text
        == render(
            RECIPE.worker,
            Resolved(
                token="<join token>",
                contents={CA_FILE: b"<ca.crt of Secret site>", CUSTOM: b"<user-data of Secret custom>"},
            ),
        ).value.decode()
    )
