"""Configurations and what k0s says to them. `python -m e2e.contract.config_cases K0S` keeps the verdicts as facts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.contract.k0s import Subject
from k0s_images.golang import components

#: name -> (file, words that the refusal must contain)
_BODIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ()),
    "nothing-said": ("spec: {}", ()),
    "null-section": ("spec: {api: null}", ()),
    "two-documents": ("spec: {}\n---\nspec: {}", ()),
    "foreign-api-version": ("apiVersion: v1\nkind: Other\nspec: {}", ()),
    "not-yaml": ("a: [", ()),
    "a-text": ("foo", ()),
    "key-twice": ("spec:\n  api: {port: 1}\n  api: {port: 2}", ("api",)),
    "unknown-top": ("foo: 1", ("foo",)),
    "unknown-metadata": ("metadata: {foo: 1}", ("foo",)),
    "unknown-spec": ("spec: {foo: 1}", ("foo",)),
    "unknown-api": ("spec: {api: {foo: 1}}", ()),
    "unknown-storage": ("spec: {storage: {foo: 1}}", ()),
    "unknown-storage-etcd": ("spec: {storage: {etcd: {foo: 1}}}", ()),
    "unknown-network": ("spec: {network: {foo: 1}}", ()),
    "unknown-kube-proxy": ("spec: {network: {kubeProxy: {foo: 1}}}", ()),
    "unknown-images": ("spec: {images: {foo: 1}}", ()),
    "unknown-konnectivity": ("spec: {konnectivity: {foo: 1}}", ("foo",)),
    "unknown-scheduler": ("spec: {scheduler: {foo: 1}}", ("foo",)),
    "unknown-controller-manager": ("spec: {controllerManager: {foo: 1}}", ("foo",)),
    "unknown-telemetry": ("spec: {telemetry: {foo: 1}}", ("foo",)),
    "unknown-extensions": ("spec: {extensions: {helm: {foo: 1}}}", ("foo",)),
    "unknown-profile": ("spec: {workerProfiles: [{foo: 1}]}", ("foo",)),
    "newer-metrics-server": ("spec: {metricsServer: {}}", ()),
    "port-as-text": ("spec: {api: {port: '6443'}}", ("port",)),
    "sans-as-text": ("spec: {api: {sans: a}}", ("sans",)),
    "argument-as-number": ("spec: {api: {extraArgs: {v: 2}}}", ("extraArgs",)),
    "argument-as-truth": ("spec: {api: {extraArgs: {profiling: true}}}", ("extraArgs",)),
    "raw-arguments": ("spec: {api: {rawArgs: ['--v=2']}, scheduler: {rawArgs: ['--v=2']}}", ()),
    "port-zero": ("spec: {api: {port: 0}}", ()),
    "port-too-high": ("spec: {api: {port: 70000}}", ("port", "65535")),
    "agent-port-negative": ("spec: {konnectivity: {agentPort: -1}}", ("agentPort",)),
    "address-unspecified": ("spec: {api: {address: 0.0.0.0}}", ("address",)),
    "address-is-a-name": ("spec: {api: {address: a.example}}", ("address",)),
    "san-with-a-blank": ("spec: {api: {sans: ['a b']}}", ("sans[0]",)),
    "external-ip": ("spec: {api: {externalAddress: 192.0.2.9}}", ()),
    "external-name": ("spec: {api: {externalAddress: a.example}}", ()),
    "external-host-port": ("spec: {api: {externalAddress: '192.0.2.9:31234'}}", ()),
    "external-name-port": ("spec: {api: {externalAddress: 'a.example:31234'}}", ()),
    "external-v6": ("spec: {api: {externalAddress: 'fd00::1'}}", ()),
    "external-v6-port": ("spec: {api: {externalAddress: '[fd00::1]:6443'}}", ()),
    "external-unspecified": ("spec: {api: {externalAddress: 0.0.0.0}}", ("externalAddress",)),
    "external-colons": ("spec: {api: {externalAddress: 'a:b:c'}}", ("externalAddress",)),
    "agents-host-port": ("spec: {konnectivity: {externalAddress: '192.0.2.9:31235'}}", ()),
    "storage-unknown-type": ("spec: {storage: {type: foo}}", ("type", "foo")),
    "storage-empty-type": ("spec: {storage: {type: ''}}", ("type",)),
    "etcd-no-endpoints": ("spec: {storage: {etcd: {externalCluster: {etcdPrefix: x}}}}", ("endpoints",)),
    "etcd-no-prefix": ("spec: {storage: {etcd: {externalCluster: {endpoints: ['https://a:2379']}}}}", ("etcdPrefix",)),
    "etcd-half-tls": (
        "spec: {storage: {etcd: {externalCluster: {endpoints: ['https://a:2379'], etcdPrefix: x, caFile: /a}}}}",
        ("clientCertFile",),
    ),
    "etcd-external": (
        "spec: {storage: {etcd: {externalCluster: {endpoints: ['https://a:2379'], etcdPrefix: x, caFile: /a,"
        " clientCertFile: /b, clientKeyFile: /c}}}}",
        (),
    ),
    "provider-unknown": ("spec: {network: {provider: foo}}", ("provider",)),
    "pod-network-no-prefix": ("spec: {network: {podCIDR: 10.0.0.0}}", ("podCIDR",)),
    "service-network-bad": ("spec: {network: {serviceCIDR: x}}", ("serviceCIDR",)),
    "networks-overlap": ("spec: {network: {podCIDR: 10.96.0.0/16}}", ()),
    "kube-proxy-mode": ("spec: {network: {kubeProxy: {mode: foo}}}", ("foo",)),
    "balancing-with-external": (
        "spec: {api: {externalAddress: 192.0.2.9}, network: {nodeLocalLoadBalancing: {enabled: true}}}",
        ("nodeLocalLoadBalancing",),
    ),
    "dual-stack-incomplete": ("spec: {network: {dualStack: {enabled: true}}}", ("IPv6podCIDR",)),
    "pull-policy": ("spec: {images: {default_pull_policy: foo}}", ("default_pull_policy",)),
    "life-bad": ("spec: {api: {ca: {expiresAfter: 1x}}}", ()),
    "life": ("spec: {api: {ca: {expiresAfter: 100h, certificatesExpireAfter: 10h}}}", ()),
    "profile": ("spec: {workerProfiles: [{name: a, values: {maxPods: 10, failCgroupV1: false}}]}", ()),
    "profile-name": ("spec: {workerProfiles: [{name: A_, values: {failCgroupV1: false}}]}", ("name",)),
    "profile-forbidden": (
        "spec: {workerProfiles: [{name: a, values: {clusterDNS: [192.0.2.1], failCgroupV1: false}}]}",
        ("clusterDNS",),
    ),
    "profile-no-object": ("spec: {workerProfiles: [{name: a, values: 3}]}", ("values",)),
    "feature-gate": ("spec: {featureGates: [{name: A, enabled: true, components: [kubelet]}]}", ()),
}
CASES: Mapping[str, str] = {name: body for name, (body, _) in _BODIES.items()}


def validate(k0s: Path, content: str, file: Path) -> tuple[str, str]:
    """`accepted` or `refused`, and what was printed."""
    file.write_text(content)
    done = subprocess.run(
        [k0s, "config", "validate", "--config", file], capture_output=True, text=True, check=False, timeout=30
    )
    return "refused" if done.returncode else "accepted", done.stdout + done.stderr


def main(binary: Path) -> None:
    """Write the verdicts of a k0s."""
    subject = Subject.of(binary, components)
    if subject.stand_in:
        raise ValueError("facts are observed on k0s itself, never on the stand-in")
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, names) in _BODIES.items():
            verdict, said = validate(binary, content, Path(folder) / "k0s.yaml")
            unsaid = [n for n in names if n not in said] if verdict == "refused" else []
            if unsaid:
                raise ValueError(f"{name}: {said!r} does not name {unsaid}")
            facts[name] = {"verdict": verdict, "names": list(names) if verdict == "refused" else []}
    target = Path(__file__).parent / "facts" / subject.version / "config-verdicts.yaml"
    target.write_text(yaml.safe_dump(facts, sort_keys=True))


if __name__ == "__main__":
    for each in sys.argv[1:]:
        main(Path(each))
