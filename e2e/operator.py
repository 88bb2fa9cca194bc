"""The operator in the lab: its image built, CRDs and manifests applied as a user would, only image names exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from e2e.lab.handle import Lab
from k0s_images import images
from k0s_images.choice import K0sImage

ROOT = Path(__file__).parent.parent
NAMESPACE = "hosted-cp"


def manifests(k0s: K0sImage, *, arguments: Sequence[str] = ()) -> str:
    """deploy/ with the images of this lab, and further arguments for `hosted-cp run`."""
    documents: list[dict[str, Any]] = [
        *yaml.safe_load_all((ROOT / "deploy" / "webhook.yaml").read_text()),
        *yaml.safe_load_all((ROOT / "deploy" / "operator.yaml").read_text()),
    ]
    for document in documents:
        if document["kind"] == "Deployment":
            container = document["spec"]["template"]["spec"]["containers"][0]
            container["image"] = next(iter(_operator()))
            container["imagePullPolicy"] = "IfNotPresent"
            if document["metadata"]["name"] == "hosted-cp":
                container["args"] = [
                    "run", f"--k0s-image={k0s.repository}", f"--etcd-image={images.etcd_name()}", *arguments,
                ]  # fmt: skip
    return yaml.safe_dump_all(documents)


def image_archives(*chosen: K0sImage, extra: Sequence[str] = ()) -> dict[str, Path]:
    """What the management cluster's node needs: the operator, etcd, and the k0s images that cannot be pulled."""
    wanted = images.archives(only=(images.etcd_name(), *extra))
    return {**_operator(), **wanted} | {each.name: each.archive for each in chosen if each.archive is not None}


@cache
def _operator() -> Mapping[str, Path]:
    """Name and archive of the operator's image: those of one moment, though somebody works on the code meanwhile."""
    return images.archives(only=(images.operator_name(),))


def deploy(lab: Lab, k0s: K0sImage, *, arguments: Sequence[str] = ()) -> None:
    """Apply CRDs, webhook and operator, and wait until it leads and both versions are served."""
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    lab.kubectl("wait", "--for=condition=Established", "-f", str(ROOT / "crds"))
    lab.kubectl("apply", "-f", "-", input=manifests(k0s, arguments=arguments))
    for name in ("hosted-cp-webhook", "hosted-cp"):
        lab.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=90s", seconds=100)
    trusted = "--for=jsonpath={.spec.conversion.webhook.clientConfig.caBundle}"
    lab.kubectl("wait", trusted, "--timeout=30s", "-f", str(ROOT / "crds"))


def logs(lab: Lab) -> str:
    """What the operator has printed, for a failed test."""
    return lab.kubectl("-n", NAMESPACE, "logs", "deployment/hosted-cp", "--tail=200")
