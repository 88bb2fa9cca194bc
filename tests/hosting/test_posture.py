"""What every generated pod promises about security, in every variant (DESIGN 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from hosted_cp.hosting.names import selector
from tests.hosting.test_golden import documents
from tests.hosting.variants import DSN, VARIANTS, settled
from tests.hosting.world import World

Pod = Mapping[str, Any]
Body = Mapping[str, Any]

#: What k0s needs as root (k0s.md 11.1): no more, and for etcd none at all.
SIX = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"}
ETCD_CA, CAS = "demo-etcd", {"demo-ca", "demo-proxy", "demo-sa", "demo-etcd", "our-ca", "our-sa"}


@pytest.fixture(scope="module", params=VARIANTS)
def world(request: pytest.FixtureRequest) -> World:
    return settled(request.param)


@pytest.fixture
def stateful_sets(world: World) -> list[Body]:
    return [body for (kind, _), body in world.owned().items() if kind == "StatefulSet"]


def spec(body: Body) -> Pod:
    found: Pod = body["spec"]["template"]["spec"]
    return found


def containers(pod: Pod) -> list[Mapping[str, Any]]:
    return [*pod["initContainers"], *pod["containers"]]


def is_etcd(body: Body) -> bool:
    return bool(body["metadata"]["name"].endswith("-etcd"))


def context(container: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = container["securityContext"]
    return found


def sources(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """Every Secret that is shown in a volume: name and items."""
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            yield source.get("secret", {})


#: One promise each: about a pod (with its StatefulSet), or about each of its containers.
OF_PODS: Mapping[str, Callable[[Body, Pod], bool]] = {
    "no service account token": lambda body, pod: pod["automountServiceAccountToken"] is False,
    "no service links": lambda body, pod: pod["enableServiceLinks"] is False,
    "seccomp": lambda body, pod: pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"},
    "no host network": lambda body, pod: not pod.get("hostNetwork"),
    "no host processes": lambda body, pod: not pod.get("hostPID") and not pod.get("hostIPC"),
    "no shared processes": lambda body, pod: not pod.get("shareProcessNamespace"),
    "no projected token": lambda body, pod: all(
        "serviceAccountToken" not in source
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ),
    "etcd is no root": lambda body, pod: (
        not is_etcd(body)
        or (pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0)
    ),
    "the CA key of etcd is in no pod": lambda body, pod: all(each.get("name") != ETCD_CA for each in sources(pod)),
    "no CA in the pods of etcd": lambda body, pod: (
        not is_etcd(body) or not CAS & {str(each.get("name")) for each in sources(pod)}
    ),
    "whole Secrets are never shown": lambda body, pod: all(each.get("items") for each in sources(pod) if each),
    "files of Secrets are for root and group": lambda body, pod: all(
        volume["projected"]["defaultMode"] == 0o440 for volume in pod["volumes"] if "projected" in volume
    ),
    "a grace period that suffices": lambda body, pod: pod["terminationGracePeriodSeconds"] >= 30,
    "selectors are the fixed labels": lambda body, pod: (
        body["spec"]["selector"] == {"matchLabels": selector("demo", "etcd" if is_etcd(body) else "cluster")}
    ),
    "labels of pods are fixed": lambda body, pod: (
        set(body["spec"]["template"]["metadata"]["labels"])
        <= {"app", "cluster", "component", "cluster.x-k8s.io/control-plane", "app.kubernetes.io/component"}
    ),
    "nothing of the user's in pod annotations": lambda body, pod: all(
        key.startswith("hosted-cp.io/") for key in body["spec"]["template"]["metadata"].get("annotations", {})
    ),
    "pods keep apart": lambda body, pod: (
        len(pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]) == 2
    ),
    "exactly one container runs": lambda body, pod: len(pod["containers"]) == 1,
    "all start at once": lambda body, pod: body["spec"]["podManagementPolicy"] == "Parallel",
}

OF_CONTAINERS: Mapping[str, Callable[[Body, Mapping[str, Any]], bool]] = {
    "read-only root": lambda body, c: context(c)["readOnlyRootFilesystem"] is True,
    "no escalation": lambda body, c: context(c)["allowPrivilegeEscalation"] is False,
    "not privileged": lambda body, c: not context(c).get("privileged"),
    "all capabilities dropped": lambda body, c: context(c)["capabilities"]["drop"] == ["ALL"],
    "exactly the six, or none": lambda body, c: (
        set(context(c)["capabilities"].get("add", [])) == (set() if is_etcd(body) else SIX)
    ),
    "default proc mount": lambda body, c: "procMount" not in context(c),
    "no weaker seccomp": lambda body, c: "seccompProfile" not in context(c),
    "CPU is requested": lambda body, c: bool(c["resources"]["requests"]["cpu"]),
    "memory is requested": lambda body, c: bool(c["resources"]["requests"]["memory"]),
    "no Secret as a whole in env": lambda body, c: not c.get("envFrom"),
    "only the permit in env": lambda body, c: all(
        each.get("valueFrom", {}).get("secretKeyRef", {"name": "kmc-demo-etcd-permit"})["name"]
        == "kmc-demo-etcd-permit"
        for each in c.get("env", [])
    ),
    "a fixed image": lambda body, c: ":" in c["image"].rpartition("/")[2] and not c["image"].endswith(":latest"),
    "images are not pulled without need": lambda body, c: c["imagePullPolicy"] == "IfNotPresent",
    "the last words are kept": lambda body, c: c["terminationMessagePolicy"] == "FallbackToLogsOnError",
    "no host ports": lambda body, c: not any(port.get("hostPort") for port in c.get("ports", [])),
    "no shell around the main program": lambda body, c: (
        c["name"] not in ("controller", "etcd") or "sh" not in {word.rpartition("/")[2] for word in c["command"]}
    ),
    "shells get constant text": lambda body, c: (
        c["command"][0] != "/bin/sh" or all("demo" not in word and "$(" + "POD" not in word for word in c["command"])
    ),
    "probes": lambda body, c: (
        c["name"] not in ("controller", "etcd") or {"startupProbe", "readinessProbe", "livenessProbe"} <= set(c)
    ),
    "certificates cannot be written": lambda body, c: all(
        mount.get("readOnly") is True
        for mount in c["volumeMounts"]
        if mount["name"] in ("certs", "hosted-cp-pki", "hosted-cp-config")
    ),
}


def test_there_are_enough_promises() -> None:
    assert len(OF_PODS) + len(OF_CONTAINERS) >= 25


def test_every_pod_keeps_every_promise(stateful_sets: list[Body]) -> None:
    broken = [
        f"{body['metadata']['name']}: {promise}"
        for body in stateful_sets
        for promise, holds in OF_PODS.items()
        if not holds(body, spec(body))
    ]
    broken += [
        f"{body['metadata']['name']}/{container['name']}: {promise}"
        for body in stateful_sets
        for container in containers(spec(body))
        for promise, holds in OF_CONTAINERS.items()
        if not holds(body, container)
    ]
    assert stateful_sets
    assert broken == []


def test_no_secret_stands_in_any_object_but_secrets(world: World) -> None:
    """Values of all Secrets are canaries: none may be in an object, status, Event or plan, also not in base64."""
    values = {
        value
        for (kind, _), body in world.owned().items()
        if kind == "Secret"
        for key, encoded in body["data"].items()
        if encoded  # the file of a password that there is not
        and key not in ("tls.crt", "ca.crt", "authentication.json", "bootstrapped", "initial-cluster-state")
        and not key.startswith(("member-", "initial-cluster"))
        for value in (encoded, world.data(body["metadata"]["name"])[key].decode())
    }
    values |= {DSN.decode(), "canary-of-the-dsn"}
    others = [str({**body, "data": None}) for body in world.server.objects.values()]
    others += [str(world.status), str(world.events), str(world.plan()), str(world.done)]
    assert len(values) > 5
    assert not [value[:20] for value in values for text in others if value in text]


def test_nothing_of_the_users_restarts_pods() -> None:
    """A label or an annotation that the user puts on his object reaches metadata only."""
    with_labels = documents("users-labels")
    for name, text in documents("etcd-1").items():
        if "StatefulSet" in name:
            template = text.partition("\nspec:")[2]
            assert template == with_labels[name].partition("\nspec:")[2]
            assert "team: blue" in with_labels[name].partition("\nspec:")[0]
