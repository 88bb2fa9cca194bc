"""What a worker's config comes to, without a cluster: planned in a world in which everything it waits for is there.

For `hosted-cp render`. What only a cluster can say stands in the result as a marked text (`<endpoint of the Cluster>`),
and in the user data the join token and what Secrets and ConfigMaps hold are described.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from hosted_cp.api.problems import Problem
from hosted_cp.api.worker_config import K0sWorkerConfigSpec
from hosted_cp.k0s import capi_versions, tokens
from hosted_cp.k0s.versions import VersionError
from hosted_cp.machines.plan import plan
from hosted_cp.machines.recipes import FORMAT_KEY, VALUE_KEY, WorkerDataRecipe
from hosted_cp.machines.render import preview
from hosted_cp.machines.view import CORE_GROUP, MACHINE, ControlPlane, Way, WorkerView
from hosted_cp.planning.actions import Create, Ref, Target
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.marks import marked
from hosted_cp.planning.observed import CertificateFacts, Observed, SecretFacts

#: Names that nobody knows yet: in the rehearsal, and in the result.
UNNAMED_MACHINE = "name-of-the-machine"
UNNAMED_CLUSTER = "name-of-the-cluster"

_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_UID = "00000000-0000-0000-0000-000000000000"
_ENDPOINT = {"host": "192.0.2.104", "port": 64904}
_PLACEHOLDERS: Mapping[str | int, str] = {
    tokens.server_url("192.0.2.104", 64904): "<endpoint of the Cluster>",
    tokens.token_id(_UID): "<id>",
    _UID: "<UID of the K0sWorkerConfig>",
    rfc3339(_NOW): "<now>",
    UNNAMED_MACHINE: "<name of the Machine>",
    UNNAMED_CLUSTER: "<name of the Cluster>",
}
_CORE = f"{CORE_GROUP}/v1beta2"
#: Of a CA, of which it only matters that there is one.
_CA = CertificateFacts(
    subject="", organizations=(), issuer="", fingerprint="", public_key="", subject_key_id="", authority_key_id="",
    dns_names=frozenset(), ip_addresses=frozenset(), usages=frozenset(), is_ca=True, not_before=_NOW, not_after=_NOW,
    key_algorithm="",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is known of the others: specs as their owners wrote them."""

    #: Kind of what owns the config (Machine or MachinePool), its name ("" if that is made up later), and its spec.
    machine_kind: str = MACHINE
    machine_name: str = ""
    machine: Mapping[str, Any]
    cluster: Mapping[str, Any]
    #: As the user asks for it; "" if that is not known.
    control_plane_version: str = ""


def rehearse(
    config: Ref,
    spec: K0sWorkerConfigSpec | None,
    *,
    problems: tuple[Problem, ...],
    given: Given,
    catalogue: Mapping[str, Any],
) -> tuple[Mapping[str, Any] | None, str]:
    """(the bootstrap Secret, with its data in readable form; why there is none, or what is worth knowing of it)."""
    view = _view(config, spec, problems=problems, given=given, catalogue=catalogue)
    made = plan(view)
    found = next((each for each in made.actions if isinstance(each, Create) and each.target is Target.MANAGEMENT), None)
    if found is None or not isinstance(found.recipe, WorkerDataRecipe):
        conditions = (made.status or {}).get("conditions") or []
        return None, str(
            marked(next((each["message"] for each in conditions if each["type"] == "Ready"), ""), _PLACEHOLDERS)
        )
    data = preview(found.recipe.worker)
    body = {
        **found.body,
        "data": {
            "<made by>": found.recipe.printed(),
            FORMAT_KEY: str(data.format),
            VALUE_KEY: data.value.decode(errors="backslashreplace"),
        },
    }
    return marked(body, _PLACEHOLDERS), "; ".join(data.warnings)


def _view(
    config: Ref,
    spec: K0sWorkerConfigSpec | None,
    *,
    problems: tuple[Problem, ...],
    given: Given,
    catalogue: Mapping[str, Any],
) -> WorkerView:
    namespace = config.namespace
    cluster_name = str(given.machine.get("clusterName") or UNNAMED_CLUSTER)
    endpoint = given.cluster.get("controlPlaneEndpoint") or _ENDPOINT
    machine = _observed(
        Ref(
            api_version=_CORE,
            kind=given.machine_kind,
            namespace=namespace,
            name=given.machine_name or UNNAMED_MACHINE,
        ),
        {"spec": given.machine},
    )
    done = {"infrastructureProvisioned": True, "controlPlaneInitialized": True}
    # Of whatever kind the control plane is, its token is made in the same way.
    reference = {"kind": "K0smotronControlPlane", "name": cluster_name}
    cluster = _observed(
        Ref(api_version=_CORE, kind="Cluster", namespace=namespace, name=cluster_name),
        {
            "spec": {"controlPlaneRef": reference, **given.cluster, "controlPlaneEndpoint": endpoint},
            "status": {"initialization": done},
        },
    )
    authority = f"{cluster_name}-ca"
    return WorkerView(
        now=_NOW,
        owner=Observed(ref=config, uid=_UID, resource_version="", generation=1),
        spec=spec,
        problems=problems,
        machine=machine,
        cluster=cluster,
        control_plane=_control_plane(given.control_plane_version, catalogue),
        way=Way(uid=_UID, server="https://kubernetes.invalid", authority=authority),
        authority=_secret(namespace, "Secret", authority, SecretFacts(type="", certificates={"tls.crt": _CA})),
        sources=_sources(namespace, spec),
        catalogue=catalogue,
    )


def _control_plane(version: str, catalogue: Mapping[str, Any]) -> ControlPlane:
    """One that runs what the user asks for; of a version that is none, nothing is known."""
    try:
        release = capi_versions.release(capi_versions.parse(version), catalogue=catalogue, decided="")
    except VersionError:
        return ControlPlane()
    return ControlPlane(version=version, release=str(release))


def _sources(namespace: str | None, spec: K0sWorkerConfigSpec | None) -> dict[tuple[str, str], Observed]:
    """Everything that the spec takes content from, with the keys that it names; nothing is known of the values."""
    keys: dict[tuple[str, str], dict[str, str]] = {}
    taken = [file.content_from for file in spec.files or ()] if spec is not None else []
    if spec is not None and spec.provisioner is not None:
        taken.append(spec.provisioner.custom_user_data_ref)
    for source in taken:
        for kind, reference in (("Secret", source.secret_ref), ("ConfigMap", source.config_map_ref)) if source else ():
            if reference is not None:
                keys.setdefault((kind, reference.name), {})[reference.key] = "unknown"
    return {each: _secret(namespace, *each, SecretFacts(type="", digests=found)) for each, found in keys.items()}


def _secret(namespace: str | None, kind: str, name: str, facts: SecretFacts) -> Observed:
    ref = Ref(api_version="v1", kind=kind, namespace=namespace, name=name)
    return Observed(ref=ref, uid=f"{kind}-{name}", resource_version="1", secret=facts)


def _observed(ref: Ref, body: Mapping[str, Any]) -> Observed:
    return Observed(ref=ref, uid=f"{ref.kind}-{ref.name}", resource_version="1", raw=orjson.dumps(body))
