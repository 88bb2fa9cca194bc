"""Objects with everything in them that the planners use, and what a server makes of them."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from hosted_cp.planning.actions import Ref
from hosted_cp.planning.observed import Observed

OWNER = "11111111-1111-4111-8111-111111111111"
OWNER_REFERENCE = {
    "apiVersion": "k0smotron.io/v1beta2",
    "kind": "Cluster",
    "name": "tenant",
    "uid": OWNER,
    "controller": True,
    "blockOwnerDeletion": True,
}
LABELS = {"app": "k0smotron", "cluster": "tenant", "component": "cluster"}


def metadata(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "team",
        "labels": {**LABELS, "empty": ""},
        "annotations": {"note": "1000m"},
        "ownerReferences": [dict(OWNER_REFERENCE)],
    }


STATEFUL_SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": metadata("kmc-tenant"),
    "spec": {
        "replicas": 3,
        "podManagementPolicy": "Parallel",
        "serviceName": "kmc-tenant",
        "selector": {"matchLabels": LABELS},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
        "template": {
            "metadata": {"labels": LABELS, "annotations": {"hosted-cp.io/config": "abc"}},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 90,
                "nodeSelector": {"disk": "fast"},
                "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 100,
                                "podAffinityTerm": {
                                    "topologyKey": "kubernetes.io/hostname",
                                    "labelSelector": {"matchLabels": {"app": "k0smotron"}},
                                },
                            }
                        ]
                    }
                },
                "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "effect": "NoSchedule"}],
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "zone",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": "k0smotron"}},
                    }
                ],
                "initContainers": [
                    {
                        "name": "init",
                        "image": "k0s:1",
                        "command": ["/bin/sh", "-c", "true"],
                        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/k0s"}],
                    }
                ],
                "containers": [
                    {
                        "name": "controller",
                        "image": "k0s:1",
                        "args": ["k0s", "controller", "--config=/etc/k0s/k0s.yaml"],
                        "env": [
                            {"name": "A", "value": "1h30m"},
                            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        ],
                        "envFrom": [{"secretRef": {"name": "dsn"}}],
                        "ports": [
                            {"name": "api", "containerPort": 6443},
                            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                        ],
                        "resources": {"limits": {"memory": "0.5Gi"}, "requests": {"cpu": "1000m", "memory": "1e6"}},
                        "securityContext": {
                            "readOnlyRootFilesystem": True,
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "FOWNER"]},
                        },
                        "startupProbe": {"tcpSocket": {"port": 6443}, "periodSeconds": 1, "failureThreshold": 300},
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "api", "scheme": "HTTPS"}},
                        "volumeMounts": [
                            {"name": "data", "mountPath": "/var/lib/k0s"},
                            {"name": "config", "mountPath": "/etc/k0s", "readOnly": True},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "run", "emptyDir": {}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "0.5Gi"}},
                    {"name": "config", "secret": {"secretName": "kmc-tenant-config", "defaultMode": 292}},
                    {
                        "name": "certs",
                        "projected": {
                            "sources": [
                                {"secret": {"name": "tenant-ca", "items": [{"key": "tls.crt", "path": "ca.crt"}]}},
                                {"secret": {"name": "tenant-sa"}},
                            ]
                        },
                    },
                ],
            },
        },
        "volumeClaimTemplates": [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        ],
    },
}

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": metadata("kmc-tenant-nodeport"),
    "spec": {
        "type": "NodePort",
        "selector": LABELS,
        "ports": [
            {"name": "api", "port": 6443, "targetPort": "api"},
            {"name": "konnectivity", "port": 8132, "targetPort": 8132, "nodePort": 30132},
        ],
    },
}

DISRUPTION_BUDGET: dict[str, Any] = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": metadata("kmc-tenant"),
    "spec": {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}},
}

NETWORK_POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": metadata("kmc-tenant"),
    "spec": {
        "podSelector": {"matchLabels": LABELS},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [{"port": 6443}, {"port": "konnectivity"}]},
            {
                "from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "ports": [{"port": 2379, "protocol": "TCP"}],
            },
        ],
    },
}

ENDPOINTS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": metadata("kubernetes"),
    "subsets": [{"addresses": [{"ip": "203.0.113.7"}], "ports": [{"name": "https", "port": 6443}]}],
}

CONFIG_MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": metadata("manifests"),
    "data": {"a.yaml": "x: 1000m\n", "empty": ""},
}

EVERYTHING = [STATEFUL_SET, SERVICE, DISRUPTION_BUDGET, NETWORK_POLICY, ENDPOINTS, CONFIG_MAP]


def served(body: dict[str, Any]) -> dict[str, Any]:
    """What a server answers: the same with its defaults, its canonical quantities, its own metadata and a status.

    Written down from the answers of a kube-apiserver 1.36.3 (the component tests ask a real one).
    """
    live = copy.deepcopy(body)
    live["metadata"].update(uid="u", resourceVersion="7", creationTimestamp="2026-09-01T12:00:00Z", generation=1)
    live["status"] = {"replicas": 0}
    spec: dict[str, Any] = live.get("spec", {})
    if body["kind"] == "StatefulSet":
        spec.update(revisionHistoryLimit=10)
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Retain", "whenScaled": "Retain"}
        for claim in spec["volumeClaimTemplates"]:
            claim["spec"]["volumeMode"] = "Filesystem"
            claim["status"] = {"phase": "Pending"}
        pod = spec["template"]["spec"]
        pod.update(dnsPolicy="ClusterFirst", restartPolicy="Always", schedulerName="default-scheduler")
        for container in pod["initContainers"] + pod["containers"]:
            container.update(imagePullPolicy="IfNotPresent", terminationMessagePath="/dev/termination-log")
            container.setdefault("resources", {})
            for port in container.get("ports", []):
                port.setdefault("protocol", "TCP")
            for probe in ("startupProbe", "readinessProbe"):
                if probe in container:
                    container[probe] = {
                        "failureThreshold": 3,
                        "periodSeconds": 10,
                        "successThreshold": 1,
                        "timeoutSeconds": 1,
                        **container[probe],
                    }
        pod["containers"][0]["resources"] = {
            "limits": {"memory": "512Mi"},
            "requests": {"cpu": "1", "memory": "1M"},
        }
        pod["containers"][0]["env"][1]["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
        pod["volumes"][1]["emptyDir"]["sizeLimit"] = "512Mi"
        pod["volumes"][3]["projected"]["defaultMode"] = 420
    if body["kind"] == "Service":
        spec.update(clusterIP="10.96.4.5", clusterIPs=["10.96.4.5"], ipFamilies=["IPv4"], sessionAffinity="None")
        spec.update(internalTrafficPolicy="Cluster", externalTrafficPolicy="Cluster", ipFamilyPolicy="SingleStack")
        for index, port in enumerate(spec["ports"]):
            port.setdefault("protocol", "TCP")
            port.setdefault("nodePort", 30000 + index)
    if body["kind"] == "NetworkPolicy":
        for rule in spec["ingress"]:
            for port in rule["ports"]:
                port.setdefault("protocol", "TCP")
    if body["kind"] == "Endpoints":
        for subset in live["subsets"]:
            for port in subset["ports"]:
                port.setdefault("protocol", "TCP")
    return live


def observed(live: dict[str, Any], *, metadata_only: bool = False, deleting: bool = False) -> Observed:
    """The object as a cache would keep it."""
    about = live["metadata"]
    owners = tuple(about.get("ownerReferences", ()))
    return Observed(
        ref=Ref.of(live),
        uid=about.get("uid", "u"),
        resource_version=about.get("resourceVersion", "7"),
        deleting=deleting,
        labels=about.get("labels", {}),
        annotations=about.get("annotations", {}),
        owner_references=owners,
        controller_uid=next((owner.get("uid", "") for owner in owners if owner.get("controller")), ""),
        raw=b"" if metadata_only else orjson.dumps(live),
    )
