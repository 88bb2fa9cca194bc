"""Our own kubeconfigs: what is read back from them without a YAML parser is what a YAML parser reads."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.pki.kubeconfig_text import Written, read, write

PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode()


def written(**fields: str) -> Written:
    values = {
        "cluster": "demo-k0s", "user": "demo-admin", "context": "demo-admin@demo-k0s",
        "server": "https://203.0.113.7:31000", "authority": PEM, "certificate": PEM, "key": PEM,
    }  # fmt: skip
    return Written(**{**values, **fields})


def loaded(text: bytes) -> Written:
    """The same by a YAML parser. Raises for everything that is not as it should be."""
    config: dict[str, Any] = yaml.safe_load(text)
    assert (config["apiVersion"], config["kind"], config["preferences"]) == ("v1", "Config", {})
    (cluster,), (context,), (user,) = config["clusters"], config["contexts"], config["users"]
    assert config["current-context"] == context["name"]
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}
    assert set(cluster["cluster"]) == {"server", "certificate-authority-data"}
    assert set(user["user"]) == {"client-certificate-data", "client-key-data"}
    return Written(
        cluster=cluster["name"], user=user["name"], context=context["name"], server=cluster["cluster"]["server"],
        authority=cluster["cluster"]["certificate-authority-data"],
        certificate=user["user"]["client-certificate-data"], key=user["user"]["client-key-data"],
    )  # fmt: skip


def test_it_is_the_text_that_a_yaml_dumper_writes() -> None:
    text = write(written())
    assert text == yaml.safe_dump(yaml.safe_load(text), sort_keys=False, width=2**30).encode()


@given(
    name=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?", fullmatch=True),
    server=st.sampled_from(
        ["https://10.0.0.1:6443", "https://[fd00::1]:6443", "https://a.example", "https://[fd00::1]"]
    ),
    data=st.binary(max_size=60),
)
def test_what_is_written_is_read_back_as_yaml_reads_it(name: str, server: str, data: bytes) -> None:
    values = written(
        cluster=f"{name}-k0s", user=f"{name}-admin", context=f"{name}-admin@{name}-k0s", server=server,
        key=base64.b64encode(b"-----" + data).decode(),
    )  # fmt: skip
    text = write(values)
    assert loaded(text) == values
    assert read(text) == values


@given(field=st.sampled_from(["cluster", "user", "context", "server", "authority", "key"]), value=st.text(min_size=1))
def test_any_other_value_is_written_by_yaml_and_not_read_here(field: str, value: str) -> None:
    values = written(**{field: value})
    text = write(values)
    assert loaded(text) == values
    assert read(text) in (None, values)


@pytest.mark.parametrize(
    "change",
    [
        (b"preferences: {}", b"preferences: {colors: true}"),
        (b"users:", b"extensions: []\nusers:"),
        (b"    user: demo-admin", b"    user: other-admin"),
        (b"https://", b"http://"),
        (b"client-key-data: ", b"client-key-data: &a "),
        (b"    client-key-data", b"    exec: {command: sh}\n    client-key-data"),
        (b"kind: Config", b"kind: Config\nkind: Config"),
        (b"demo", "d\u00e9mo".encode()),
    ],
)
def test_what_is_not_ours_to_the_letter_is_not_read(change: tuple[bytes, bytes]) -> None:
    text = write(written())
    assert change[0] in text
    assert read(text.replace(*change)) is None
    assert read(text + b"\n") is None
    assert read(text + b"---\n") is None
