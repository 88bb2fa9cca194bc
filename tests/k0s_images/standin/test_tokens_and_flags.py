"""Join tokens, kubeconfigs, flags and arguments of the stand-in."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from k0s_images.standin import documents, supervisor, tokens, worker, workerconfig
from k0s_images.standin.cli import disabled_components, main
from k0s_images.standin.errors import Fatal
from k0s_images.standin.flags import Flag, parse
from k0s_images.standin.layout import Layout
from k0s_images.standin.versions import RELEASES


def test_a_token_is_read_back() -> None:
    text = tokens.encode(server="https://192.0.2.9:6443", ca=b"CA", token="abcdef.0123456789abcdef", role="worker")
    assert "\n" not in text
    folded = "\n".join(text[i : i + 76] for i in range(0, len(text), 76)) + "\n"
    said = tokens.decode(folded, role="worker")
    assert (said.server, said.ca, said.token) == ("https://192.0.2.9:6443", b"CA", "abcdef.0123456789abcdef")


def test_a_token_in_json_is_read() -> None:
    document = yaml.safe_load(gzip.decompress(base64.b64decode(
        tokens.encode(server="https://h:1", ca=b"CA", token="a.b", role="worker"))))  # fmt: skip
    packed = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    assert tokens.decode(packed, role="worker").token == "a.b"


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


@pytest.mark.parametrize(
    "text",
    ["", "no token", "!!!", base64.b64encode(b"no gzip").decode(), _packed(b"a: b"), _packed(b"- [")],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Fatal):
        tokens.decode(text, role="worker")


def test_a_token_of_another_role_is_refused() -> None:
    text = tokens.encode(server="https://h:1", ca=b"CA", token="a.b", role="controller")
    with pytest.raises(Fatal, match="controller-bootstrap"):
        tokens.decode(text, role="worker")


FLAGS = (
    Flag("config", short="c"), Flag("debug", "bool", short="d"), Flag("labels", "map"), Flag("taints", "strings"),
    Flag("expiry", "duration", 0.0),
)  # fmt: skip


def test_flags() -> None:
    words = [
        "--config=a",
        "-d",
        "--labels",
        "a=b",
        "token",
        "--labels=c=d,e=",
        "--taints=x:NoSchedule",
        "--expiry",
        "1h",
    ]
    given = parse(words, FLAGS, usage="k0s x")
    assert given.values == {
        "config": "a", "debug": True, "labels": {"a": "b", "c": "d", "e": ""}, "taints": ["x:NoSchedule"],
        "expiry": 3600,
    }  # fmt: skip
    assert given.arguments == ["token"]
    assert parse(["--debug=false", "-c", "b", "--", "--config"], FLAGS, usage="").arguments == ["--config"]


@pytest.mark.parametrize(
    "words", [["--bogus"], ["-x"], ["--config"], ["--debug=maybe"], ["--expiry=1x"], ["--labels=a"]]
)
def test_wrong_flags(words: list[str]) -> None:
    with pytest.raises(Fatal):
        parse(words, FLAGS, usage="")


def test_components_are_known_by_version() -> None:
    new, old = RELEASES
    assert disabled_components(["helm", "worker-config"], new) == {"helm"}
    assert disabled_components(["worker-config"], old) == {"worker-config"}
    with pytest.raises(Fatal, match="foo"):
        disabled_components(["foo"], new)


def test_the_version_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{RELEASES[0].version}.stand-in\n"
    assert main(["nonsense"]) == 1


def test_environment_of_a_child() -> None:
    base = {"PATH": "/bin", "KUBE-APISERVER_GOGC": "40", "GOGC": "100", "ETCD_NAME": "x"}
    made = supervisor.child_environment("kube-apiserver", base, bin_dir=Path("/b"))
    assert made == {"PATH": "/b:/bin", "GOGC": "40", "ETCD_NAME": "x", "_K0S_MANAGED": "yes"}
    assert supervisor.child_environment("etcd", base, bin_dir=Path("/b"))["ETCD_NAME"] == "x"


def test_yaml_for_go_keeps_texts_texts() -> None:
    assert documents.dump({"a": "y", "b": "no", "c": "1", "d": True}) == "a: \"y\"\nb: 'no'\nc: '1'\nd: true\n"


def test_profiles_are_merged_deeply() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 1}
    assert workerconfig.merged(base, {"a": {"y": 3}, "c": [1]}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": [1]}
    assert base == {"a": {"x": 1, "y": 2}, "b": 1}


def test_addresses_of_endpoints() -> None:
    subsets: list[dict[str, Any]] = [
        {"addresses": [{"ip": "192.0.2.2"}, {"ip": "fd00::1"}], "ports": [{"name": "https", "port": 31234}]},
        {"notReadyAddresses": [{"ip": "192.0.2.3"}]},
    ]
    assert workerconfig.addresses({"subsets": subsets}) == ["192.0.2.2:31234", "[fd00::1]:31234"]
    assert workerconfig.addresses({}) == []


def _options(folder: Path, **more: Any) -> worker.Options:
    return worker.Options(layout=Layout(data=folder), release=RELEASES[0], **{"token": None, **more})


def test_extra_arguments_of_kubelet_win(tmp_path: Path) -> None:
    options = _options(
        tmp_path,
        kubelet_extra_args="--node-ip=192.0.2.1 --v=4 --kubelet-cgroups=",
        labels={"a": "b"},
        cloud_provider=True,
    )
    made = worker.kubelet_arguments(options, bootstrap=Path("/b"))
    assert {
        "--node-ip=192.0.2.1",
        "--v=4",
        "--kubelet-cgroups=",
        "--node-labels=a=b",
        "--cloud-provider=external",
    } <= set(made)
    assert "--bootstrap-kubeconfig=/b" in made
    assert not any(a.startswith("--bootstrap") for a in worker.kubelet_arguments(options, bootstrap=None))


def test_a_node_that_has_joined_needs_no_token(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="no join token"):
        worker.bootstrap_kubeconfig(_options(tmp_path))
    (tmp_path / "kubelet.conf").write_text("x")
    assert worker.bootstrap_kubeconfig(_options(tmp_path, token="rubbish")) is None


def test_taints(tmp_path: Path) -> None:
    profile = {"kubeletConfiguration": {"kind": "KubeletConfiguration"}}
    made = worker.kubelet_configuration(
        _options(tmp_path, taints=("a=b:NoSchedule", "c:NoExecute")), profile, runtime="unix:///x"
    )
    assert made["registerWithTaints"] == [
        {"key": "a", "value": "b", "effect": "NoSchedule"},
        {"key": "c", "effect": "NoExecute"},
    ]
    with pytest.raises(Fatal, match="a=b"):
        worker.kubelet_configuration(_options(tmp_path, taints=("a=b",)), profile, runtime="unix:///x")
