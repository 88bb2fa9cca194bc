"""A controller's life: start, probes, status, arguments, restarts of children, a second instance, the end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from e2e.contract.conftest import HOSTED, PLAIN, Facts, Start
from e2e.contract.k0s import Controller
from e2e.contract.machine import arguments

_AUTHENTICATION = {
    "apiVersion": "apiserver.config.k8s.io/v1beta1",
    "kind": "AuthenticationConfiguration",
    "anonymous": {"enabled": True, "conditions": [{"path": p} for p in ("/livez", "/readyz", "/healthz")]},
}


def test_graceful_end_and_restart_on_the_same_data(start: Start) -> None:
    """SIGTERM ends k0s with code 0 and all its children; what the cluster held is there after the next start."""
    controller = start(spec=PLAIN)
    controller.ready()
    controller.kubectl("create", "namespace", "kept")
    children = controller.process.children()
    assert set(children) >= {"kine", "kube-apiserver", "konnectivity-server"}
    code, took = controller.process.stop(signal.SIGTERM)
    assert code == 0
    assert took < 15
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children.values())
    again = start(spec=PLAIN, on=controller.machine)
    again.ready()
    assert again.kubectl("get", "namespace", "kept", "-o", "name").strip() == "namespace/kept"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--disable-components=foo",), "foo"),
        (("--bogus",), "--bogus"),
        (("--config=/nowhere",), "/nowhere"),
        (("--token-file=/nowhere",), "/nowhere"),
    ],
)
def test_a_wrong_command_line_is_fatal(arguments: tuple[str, ...], says: str, start: Start) -> None:
    """Unknown components, unknown flags and missing files end k0s with code 1."""
    controller = start(spec=PLAIN, disable="", arguments=arguments)
    assert says in controller.refused()


def test_a_second_k0s_is_refused(plain: Controller, start: Start, facts: Facts) -> None:
    """One k0s for each run directory."""
    second = start(spec=PLAIN, on=plain.machine)
    assert facts("behaviour")["second-instance"] in second.refused()
    assert plain.process.running()
    assert plain.kubectl("get", "--raw=/readyz") == "ok"


def test_anonymous_requests_are_refused(plain: Controller) -> None:
    """An httpGet probe on the API port gets 401: it needs one of the ways below."""
    assert plain.curl("/readyz")[0] == 401
    status = json.loads(plain.k0s("status", "-o", "json"))
    assert (status["Version"], status["Role"]) == (plain.subject.version, "controller")
    assert status["Pid"] == plain.process.pid


def test_components_say_whose_build_they_are(plain: Controller) -> None:
    """Of k0s, and not in which packaging. Cluster API compares a kubelet's word with its Machine's version as text."""
    build = f"{plain.subject.version.partition('+')[0]}+k0s"
    assert json.loads(plain.kubectl("get", "--raw=/version"))["gitVersion"] == build


def test_probe_by_authentication_config(start: Start) -> None:
    """From 1.36 an `authentication-config` can open the health paths alone; before, it contradicts k0s' own flag."""
    spec = PLAIN | {"api": {"extraArgs": {"authentication-config": "/etc/k0s/authn.yaml"}}}
    controller = start(spec=spec, files={"/etc/k0s/authn.yaml": json.dumps(_AUTHENTICATION)})
    if controller.subject.minor == "1.35":
        controller.wait_for(lambda: "anonymous" in controller.log.read_text(), within=30, what="the contradiction")
        return
    controller.wait_for(lambda: controller.curl("/readyz") == (200, "ok"), within=60, what="/readyz")
    assert controller.curl("/livez")[0] == 200
    assert controller.curl("/version")[0] == 401
    assert "anonymous-auth" not in controller.flags("kube-apiserver")


def test_probe_by_anonymous_auth(start: Start) -> None:
    """Extra arguments override what k0s sets."""
    controller = start(spec=PLAIN | {"api": {"extraArgs": {"anonymous-auth": "true"}}})
    controller.wait_for(lambda: controller.curl("/readyz") == (200, "ok"), within=60, what="/readyz")


def test_extra_and_raw_arguments(start: Start) -> None:
    """Extra arguments override, raw ones are appended, and nothing overrides how the store is reached."""
    spec = PLAIN | {
        "api": {
            "extraArgs": {"profiling": "true", "etcd-servers": "http://nowhere:1"},
            "rawArgs": ["--max-requests-inflight=77"],
        },
        "controllerManager": {"extraArgs": {"kube-api-burst": "600"}, "rawArgs": ["--concurrent-gc-syncs=7"]},
        "scheduler": {"extraArgs": {"kube-api-qps": "99"}},
        "featureGates": [{"name": "AllAlpha", "enabled": False}],
    }  # fmt: skip
    controller = start(spec=spec)
    controller.ready()
    apiserver = controller.flags("kube-apiserver")
    assert apiserver["profiling"] == "true"
    assert apiserver["max-requests-inflight"] == "77"
    assert apiserver["etcd-servers"].startswith("unix:")
    assert apiserver["feature-gates"] == "AllAlpha=false"
    controller.wait_for(lambda: "kube-scheduler" in controller.process.children(), within=15, what="the scheduler")
    assert controller.flags("kube-scheduler")["kube-api-qps"] == "99"
    manager = controller.flags("kube-controller-manager")
    assert (manager["kube-api-burst"], manager["concurrent-gc-syncs"]) == ("600", "7")
    assert manager["leader-elect"] == "false"


def test_variables_reach_components_by_prefix(start: Start) -> None:
    """`KUBE-APISERVER_X` reaches kube-apiserver as `X`, and nobody else."""
    controller = start(spec=PLAIN, env={"KUBE-APISERVER_GOMEMLIMIT": "3GiB", "OTHER": "kept"})
    controller.ready()
    children = controller.process.children()

    def environment(program: str) -> dict[str, str]:
        raw = Path(f"/proc/{children[program]}/environ").read_text()
        return dict(pair.partition("=")[::2] for pair in raw.split("\0") if pair)

    assert environment("kube-apiserver")["GOMEMLIMIT"] == "3GiB"
    assert "GOMEMLIMIT" not in environment("kine")
    for program in ("kube-apiserver", "kine"):
        assert environment(program)["_K0S_MANAGED"] == "yes"
        assert environment(program)["OTHER"] == "kept"


def test_a_child_that_dies_is_started_again(plain: Controller) -> None:
    """Five seconds later."""
    old = plain.process.children()["konnectivity-server"]
    os.kill(old, signal.SIGKILL)
    begun = time.monotonic()

    def replaced() -> bool:
        return plain.process.children().get("konnectivity-server", old) != old

    plain.wait_for(replaced, within=20, what="a new konnectivity-server")
    assert time.monotonic() - begun > 3


def test_disabled_components_do_not_run(start: Start) -> None:
    """What is disabled is not started; nor is the API server told of a konnectivity that is not there."""
    controller = start(spec=PLAIN, disable=f"{HOSTED},konnectivity-server,kube-scheduler,kube-controller-manager")
    controller.ready()
    assert set(controller.process.children()) == {"kine", "kube-apiserver"}
    flags = controller.flags("kube-apiserver")
    assert "egress-selector-config-file" not in flags
    assert flags["api-audiences"] == "https://kubernetes.default.svc"


def test_sqlite_where_the_configuration_says(start: Start) -> None:
    """An own data source: an absolute path, owned by the user of the API server."""
    source = "sqlite:///var/lib/k0s/tenant/state.db?_journal=WAL&_busy_timeout=30000"
    controller = start(spec=PLAIN | {"storage": {"type": "kine", "kine": {"dataSource": source}}})
    controller.ready()
    assert controller.data("tenant/state.db").stat().st_uid == 952
    assert f"--endpoint={source}" in arguments(controller.process.children()["kine"])
