"""Manifests of Cluster API clusters as the lab needs them: machines download their k0s from the lab itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from e2e import tenants
from e2e.lab import downloads
from e2e.lab.downloads import Download
from e2e.lab.handle import Lab
from k0s_images.choice import K0sImage
from k0s_images.standin_launcher import single_file

Object = dict[str, Any]


def kubelet_version(k0s: K0sImage) -> str:
    """`v1.36.3+k0s` of the tag `v1.36.3-k0s.2`: what its kubelet reports and Cluster API compares, letter by letter."""
    return f"{k0s.tag.partition('-k0s')[0]}+k0s"


def worker_download(lab: Lab, k0s: K0sImage) -> Download:
    """The `k0s` for machines that fits the image of the controllers, where machines of the lab can download it."""
    return downloads.publish(lab, f"{k0s.kind}/{k0s.tag}/k0s", k0s.binary or single_file(k0s.minor))


def for_lab(lab: Lab, documents: Sequence[Mapping[str, Any]], k0s: K0sImage) -> list[Object]:
    """The documents of an example, with the version of this k0s and what the lab needs merged in."""
    return [_for_lab(lab, json.loads(json.dumps(each)), k0s) for each in documents]


def _for_lab(lab: Lab, body: Object, k0s: K0sImage) -> Object:
    version = kubelet_version(k0s)
    match body["kind"]:
        case "K0smotronControlPlane":
            body["spec"] |= {"version": version, "image": k0s.repository}
            return tenants.for_lab(body)
        case "MachineDeployment":
            body["spec"]["template"]["spec"]["version"] = version
        case "K0sWorkerConfigTemplate":
            found = worker_download(lab, k0s)
            body["spec"]["template"]["spec"] |= {"downloadURL": found.url, "downloadSHA256": found.sha256}
    return body
