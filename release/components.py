"""What `clusterctl` installs: hosted-cp as two providers of Cluster API, made from `deploy/` and the models.

    python -m release.components --write out/components

writes a repository as clusterctl reads it from a folder: `<provider>/<version>/` with components and `metadata.yaml`.
The files of a version are what a release on GitHub has attached.

One program is both providers, and `deploy/` installs it once. clusterctl wants them apart: it installs, upgrades and
deletes each by a label of its own, and somebody may want one beside another's other. So each is an installation of its
own, of its part of the kinds, with an operator (`hosted-cp run --provider`), a webhook, a namespace and the rights for
that. Nothing has the same name in both, so that they may stand in one namespace (`--target-namespace`), and one can go
without the other. Nothing is installed that is not in `deploy/`: names are exchanged, and what the other provider has
is left out.

Certificates are the webhook's own, as everywhere: clusterctl installs cert-manager anyway, but nothing here needs it.

Rules: https://cluster-api.sigs.k8s.io/developer/providers/contracts/clusterctl
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hosted_cp.api import crds
from hosted_cp.api.kinds import PROVIDERS, of_provider
from hosted_cp.kube.webhook_names import installation, names

Object = dict[str, Any]

ROOT = Path(__file__).parents[1]
_DEPLOY = ROOT / "deploy"

#: By this name clusterctl knows both; with the type in front it is their label.
NAME = "hosted-cp"
CONTRACT = "v1beta2"
#: Every minor that was ever released, the one that is being made included. What is not here cannot be installed.
SERIES = ((0, 1),)

#: What clusterctl fills in when it installs, from its configuration or the environment: an image that is named in an
#: option is none that its own way of exchanging images would find. The default, the catalogue's, is written as "": what
#: is really empty clusterctl takes for no default, and asks for a value.
VARIABLES = ("HOSTED_CP_K0S_IMAGE", "HOSTED_CP_ETCD_IMAGE")
#: By provider: who needs them.
_FILLED_IN: Mapping[str, tuple[str, ...]] = {"control-plane": VARIABLES}

#: Of each provider, by group: the resources that it has to read only. It follows what the other provider makes.
_READS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "control-plane": {},
    "bootstrap": {
        "k0smotron.io": frozenset({"clusters"}),
        "controlplane.cluster.x-k8s.io": frozenset({"k0smotroncontrolplanes"}),
        "": frozenset({"services"}),
        "apps": frozenset({"statefulsets"}),
        "policy": frozenset({"poddisruptionbudgets"}),
        "networking.k8s.io": frozenset({"networkpolicies"}),
    },
}
#: The resources that concern one provider alone, in groups that are nobody's own.
_ALONE: Mapping[str, Mapping[str, frozenset[str]]] = {
    "control-plane": {},
    "bootstrap": {"": frozenset({"configmaps"}), "cluster.x-k8s.io": frozenset({"machines", "machinepools"})},
}
_READING = ("get", "list", "watch")


def version() -> str:
    """Of the release that is made, as tags have it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return f"v{tomllib.load(file)['project']['version']}"


def label(provider: str) -> str:
    """What clusterctl knows a provider by, and labels all that belongs to it with."""
    return f"{provider}-{NAME}"


# --- the objects ------------------------------------------------------------------------------------------------------


def components(provider: str) -> list[Object]:
    """Everything that one provider consists of, the definitions of its kinds first."""
    found = [*_definitions(provider), *_deployed(provider)]
    for body in found:
        body["metadata"].setdefault("labels", {})["cluster.x-k8s.io/provider"] = label(provider)
    return found


def _definitions(provider: str) -> Iterator[Object]:
    webhook = crds.Webhook(service=names(provider).service, namespace=installation(provider))
    for each in of_provider(provider):
        yield crds.versioned(each, conversion=webhook)


def _deployed(provider: str) -> Iterator[Object]:
    seen = set()
    for file in ("operator.yaml", "webhook.yaml"):
        for shipped in yaml.safe_load_all((_DEPLOY / file).read_text(encoding="utf-8")):
            body = _renamed(shipped, provider)
            name = (body["kind"], body["metadata"]["name"])
            if name in seen:  # the namespace is in both
                continue
            seen.add(name)
            match body["kind"]:
                case "Role" | "ClusterRole":
                    body["rules"] = [kept for each in body["rules"] for kept in _rights(each, provider)]
                case "ValidatingWebhookConfiguration":
                    body["webhooks"] = [each for each in body["webhooks"] if _asks_about(each, provider)]
                case "Deployment":
                    _one_provider(body, provider)
            yield body


_OURS = re.compile(rf"{installation()}(-[a-z-]+)?")


def _renamed(body: Object, provider: str) -> Object:
    """With the names of this installation in the place of those in `deploy/`.

    A cluster role has the namespace's name and more: by that clusterctl finds it when it deletes a provider.
    """
    made: Object = _exchanged(body, provider)
    roles = [made["metadata"]] if body["kind"] in ("ClusterRole", "ClusterRoleBinding") else []
    if made.get("roleRef", {}).get("kind") == "ClusterRole":
        roles.append(made["roleRef"])
    for each in roles:
        if each["name"] == installation(provider):
            each["name"] += "-operator"
    return made


def _exchanged(value: Any, provider: str) -> Any:
    if isinstance(value, dict):
        return {key: _exchanged(each, provider) for key, each in value.items()}
    if isinstance(value, list):
        return [_exchanged(each, provider) for each in value]
    if isinstance(value, str) and (found := _OURS.fullmatch(value)):
        return installation(provider) + (found[1] or "")
    return value


def _rights(rule: Object, provider: str) -> Iterator[Object]:
    """As much of a rule as one provider needs."""
    own = PROVIDERS[provider]
    others = {group for each, groups in PROVIDERS.items() if each != provider for group in groups}
    alone = [kinds for each, kinds in _ALONE.items() if each != provider]
    if "resourceNames" in rule and rule["resources"][0].startswith("customresourcedefinitions"):
        yield {**rule, "resourceNames": [each for each in rule["resourceNames"] if each.partition(".")[2] in own]}
        return
    [group] = rule["apiGroups"]
    reads = _READS[provider].get(group, frozenset())
    written, read = [], []
    for resource in rule["resources"]:
        if resource in reads:
            read.append(resource)
        elif group not in others and not any(resource in each.get(group, ()) for each in alone):
            written.append(resource)
    if written:
        yield {**rule, "resources": written}
    if read:
        yield {**rule, "resources": read, "verbs": [each for each in rule["verbs"] if each in _READING]}


def _asks_about(webhook: Object, provider: str) -> bool:
    return all(group in PROVIDERS[provider] for rule in webhook["rules"] for group in rule["apiGroups"])


def _one_provider(deployment: Object, provider: str) -> None:
    """The program as one provider, in a container of the name that clusterctl waits for."""
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    container["name"] = "manager"
    if container["args"][0] == "run":
        container["args"] += [f"--provider={provider}"]
        container["env"] += [{"name": each, "value": f'${{{each}:=""}}'} for each in _FILLED_IN.get(provider, ())]
    else:
        container["args"] += [f"--service={names(provider).service}"]


# --- the files --------------------------------------------------------------------------------------------------------


def files() -> Mapping[str, str]:
    """Path below the repository -> text."""
    found = {}
    for provider in PROVIDERS:
        folder = f"{label(provider)}/{version()}"
        found[f"{folder}/{provider}-components.yaml"] = _text(components(provider))
        found[f"{folder}/metadata.yaml"] = yaml.safe_dump(metadata(), sort_keys=False)
    return found


def metadata() -> Object:
    """Which contract each series of releases fulfils."""
    series = [{"major": major, "minor": minor, "contract": CONTRACT} for major, minor in SERIES]
    return {"apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Metadata", "releaseSeries": series}


def configuration(repository: Path) -> Object:
    """The part of a `clusterctl.yaml` that leads to a repository in a folder."""
    return {
        "providers": [
            {
                "name": NAME,
                "type": f"{''.join(word.capitalize() for word in provider.split('-'))}Provider",
                "url": (repository / label(provider) / version() / f"{provider}-components.yaml").as_uri(),
            }
            for provider in PROVIDERS
        ]
    }


_VARIABLE = re.compile(r"\$\{(?!(?:" + "|".join(VARIABLES) + r'):=""\})')


def _text(bodies: list[Object]) -> str:
    """As YAML. Whatever looks like a variable and is none of ours is text, and escaped."""
    return _VARIABLE.sub("$${", "---\n".join(crds.as_text(each) for each in bodies))


def main(arguments: list[str]) -> int:
    """The command; see above."""
    match arguments:
        case ["--write", folder]:
            target = Path(folder).resolve()
        case _:
            sys.stderr.write("usage: python -m release.components --write FOLDER\n")
            return 2
    for name, text in files().items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    config = target / "clusterctl.yaml"
    config.write_text(yaml.safe_dump(configuration(target), sort_keys=False), encoding="utf-8")
    sys.stdout.write(f"clusterctl init --config {config} --control-plane {NAME} --bootstrap {NAME}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
