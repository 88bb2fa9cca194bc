"""What a spec means, judged without looking at the world: every fault with field and remedy, all of them at once.

The API server has checked types, enums and CEL rules already, but only of objects that were written since those rules
exist. So everything that matters is checked here again; a fault here ends in a condition, not in a refused update.
What needs knowledge of the world (Secrets, nodes, what runs) or of k0s (versions, config fields) is judged elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hosted_cp.api import database, text
from hosted_cp.api.cluster import ClusterSpec, Network, ObjectMetadata
from hosted_cp.api.core import QUANTITY_PATTERN, VOLUME_SOURCES
from hosted_cp.api.problems import Problem

#: `kmc-<name>-etcd-<ordinal>` and the hash that StatefulSets append to labels of pods must fit into 63 characters.
NAME_LIMIT = 43

K0S_API_VERSION = "k0s.k0sproject.io/v1beta1"

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?", re.IGNORECASE)
_VERSION = re.compile(r"v?\d{1,4}\.\d{1,4}\.\d{1,4}([-+]k0s\.\d{1,4})?", re.ASCII)
_QUANTITY = re.compile(QUANTITY_PATTERN)
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")

#: Directories of the controller's container that cannot be replaced by a mount.
_RESERVED_PATHS = ("/", "/var/lib/k0s", "/var/lib/k0s/pki", "/run", "/tmp", "/etc/k0s", "/dev", "/proc", "/sys")  # noqa: S108
_OPERATIONS = {"add", "remove", "replace", "move", "copy", "test"}


def problems(
    spec: ClusterSpec,
    *,
    name: str,
    old: Network | None = None,
    old_storage: str = "",
    support: Callable[[str], Problem | None] | None = None,
) -> tuple[Problem, ...]:
    """Everything that is wrong with the spec of the Cluster of this name, in the order of the fields' importance.

    `old` and `old_storage` are the ranges and the storage type that the running tenant was created with. `support` says
    whether a (well-formed) version can be hosted (`hosted_cp.k0s.versions.support_problem`).
    """
    network = spec.network
    found = [
        *_name(name),
        *_replicas(spec),
        *_version(spec, support),
        *_image(spec),
        *_address(spec),
        *_k0s_config(spec),
        *_network(network),
        *_network_change(network, old),
        *_storage(spec, old_storage),
        *_persistence(spec),
        *_certificate_refs(spec),
        *_quantities(spec),
        *_volumes(spec),
        *_patches(spec),
        *_metadata(spec),
    ]
    return tuple(found)


def _name(name: str) -> Iterator[Problem]:
    if len(name) > NAME_LIMIT:
        yield Problem(
            field="metadata.name",
            fault=f"has {len(name)} characters, and pods with names that long cannot exist",
            remedy=f"create the Cluster under a name of at most {NAME_LIMIT} characters",
        )
    if not _LABEL.fullmatch(name):
        yield Problem(
            field="metadata.name",
            fault="is used in names of Services, which have no dots",
            remedy="create the Cluster under a name of lower-case letters, digits and -",
        )


def _replicas(spec: ClusterSpec) -> Iterator[Problem]:
    if spec.replicas < 1:
        yield Problem(
            field="spec.replicas", fault=f"is {spec.replicas}, so no control plane runs", remedy="set 1 or more"
        )


def _version(spec: ClusterSpec, support: Callable[[str], Problem | None] | None) -> Iterator[Problem]:
    if not spec.version:
        return
    if not _VERSION.fullmatch(spec.version):
        yield Problem(
            field="spec.version",
            fault=f"{spec.version[:64]!r} is no version of k0s",
            remedy="write it like v1.36.3+k0s.2",
        )
    elif support is not None and (problem := support(spec.version)) is not None:
        yield problem


def _image(spec: ClusterSpec) -> Iterator[Problem]:
    # A colon before the last slash is that of a registry's port.
    last = spec.image.rpartition("/")[2]
    if ":" in last or "@" in last:
        yield Problem(
            field="spec.image",
            fault=f"names {'a digest' if '@' in last else 'a tag'}, and the tag is that of spec.version",
            remedy="write the repository alone, such as quay.io/k0sproject/k0s",
        )


def _address(spec: ClusterSpec) -> Iterator[Problem]:
    address = spec.external_address
    if address and not is_host(address):
        yield Problem(
            field="spec.externalAddress",
            fault=f"{address[:253]!r} is neither an IP address nor a DNS name",
            remedy="write the address alone, without https:// and without a port",
        )
    service = spec.service
    api_port, konnectivity_port = service.api_port, service.konnectivity_port
    if service.type != "NodePort":  # (what is unset there is allocated)
        api_port, konnectivity_port = api_port or 6443, konnectivity_port or 8132
    if api_port is not None and api_port == konnectivity_port:
        field, other = "konnectivityPort", "apiPort"
        if service.konnectivity_port is None:
            field, other = other, field
        yield Problem(
            field=f"spec.service.{field}",
            fault=f"is {api_port}, as {other} is",
            remedy="choose another port, or leave it out",
        )


def is_host(text: str) -> bool:
    """Whether the text is an IP address or a DNS name. An address with a zone (`fe80::1%eth0`) means something on one
    machine only."""
    if "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # All digits and dots, yet no address: a mistyped one.
        return bool(_DNS_NAME.fullmatch(text)) and not re.fullmatch(r"[\d.]+", text) and len(text) <= 253
    return True


def _k0s_config(spec: ClusterSpec) -> Iterator[Problem]:
    config = spec.k0s_config
    if config is None:
        return
    if config.get("apiVersion") != K0S_API_VERSION:
        yield Problem(
            field="spec.k0sConfig.apiVersion",
            fault="is missing" if "apiVersion" not in config else "is not that of a k0s config",
            remedy=f"set {K0S_API_VERSION}",
        )
    if config.get("kind", "ClusterConfig") != "ClusterConfig":
        yield Problem(field="spec.k0sConfig.kind", fault="is not that of a k0s config", remedy="set ClusterConfig")
    if config.get("spec") is not None and not isinstance(config["spec"], Mapping):
        yield Problem(field="spec.k0sConfig.spec", fault="is no object", remedy="write an object, or leave it out")


_RANGES = "spec.k0sConfig.spec.network"
#: The API server refuses to change a range, also of a tenant that never ran.
_ANEW = "; an existing Cluster keeps its ranges, so delete it and create it anew"


def _network(network: Network) -> Iterator[Problem]:
    given = [("podCIDR", network.pod_cidr), ("serviceCIDR", network.service_cidr)]
    dual = [("dualStack.IPv6podCIDR", network.pod_cidr_v6), ("dualStack.IPv6serviceCIDR", network.service_cidr_v6)]
    parsed: dict[str, ipaddress.IPv4Network | ipaddress.IPv6Network] = {}
    for field, cidr in given + (dual if network.dual_stack else []):
        try:
            if "/" not in cidr:
                raise ValueError(cidr)
            parsed[field] = ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            fault = f"{cidr[:64]!r} is no network range" if cidr else "is missing, and dual-stack networking needs it"
            example = "fd00:10::/108" if "IPv6" in field else "10.96.0.0/12"
            yield Problem(
                field=f"{_RANGES}.{field}", fault=fault, remedy=f"write address and length, such as {example}{_ANEW}"
            )
    for field, cidr in dual:
        ranged = parsed.get(field)
        if ranged is not None and ranged.version != 6:
            yield Problem(field=f"{_RANGES}.{field}", fault=f"{cidr} is not IPv6", remedy=f"write an IPv6 range{_ANEW}")
        elif ranged is not None and field.endswith("serviceCIDR") and ranged.prefixlen < 108:
            yield Problem(
                field=f"{_RANGES}.{field}",
                fault=f"/{ranged.prefixlen} is larger than the API server allows",
                remedy=f"use a length of 108 or more{_ANEW}",
            )
    if network.dual_stack:
        for field, cidr in given:
            if field in parsed and parsed[field].version != 4:
                yield Problem(
                    field=f"{_RANGES}.{field}",
                    fault=f"{cidr} is not IPv4, which dual-stack networking has here",
                    remedy=f"write the IPv4 range here and the IPv6 range under dualStack{_ANEW}",
                )
    fields = list(parsed)
    for index, one in enumerate(fields):
        for other in fields[index + 1 :]:
            if parsed[one].version == parsed[other].version and parsed[one].overlaps(parsed[other]):
                yield Problem(
                    field=f"{_RANGES}.{other}",
                    fault=f"{parsed[other]} overlaps {one} {parsed[one]}",
                    remedy=f"choose ranges without common addresses{_ANEW}",
                )
    if not _DNS_NAME.fullmatch(network.cluster_domain):
        yield Problem(
            field=f"{_RANGES}.clusterDomain",
            fault="is no DNS name",
            remedy=f"write a name such as cluster.local{_ANEW}",
        )


def _network_change(network: Network, old: Network | None) -> Iterator[Problem]:
    if old is None:
        return
    fields = {
        "podCIDR": (old.pod_cidr, network.pod_cidr),
        "serviceCIDR": (old.service_cidr, network.service_cidr),
        "clusterDomain": (old.cluster_domain, network.cluster_domain),
        "provider": (old.provider, network.provider),
        "dualStack.enabled": (str(old.dual_stack).lower(), str(network.dual_stack).lower()),
        "dualStack.IPv6podCIDR": (old.pod_cidr_v6, network.pod_cidr_v6),
        "dualStack.IPv6serviceCIDR": (old.service_cidr_v6, network.service_cidr_v6),
    }
    for field, (was, now) in fields.items():
        if was != now:
            yield Problem(
                field=f"{_RANGES}.{field}",
                fault=f"cannot change from {was or 'unset'} to {now or 'unset'}: nodes and Services depend on it",
                remedy=f"set it back to {was or 'unset'}, or create a new Cluster",
            )


def _storage(spec: ClusterSpec, old: str) -> Iterator[Problem]:
    kind = spec.storage_kind
    if old and kind != old:
        yield Problem(
            field="spec.storage.type",
            fault=f"cannot change from {old} to {kind}: the tenant's objects would stay behind",
            remedy=f"set it back to {old}, or create a new Cluster",
        )
    kine = spec.storage.kine if spec.storage else None
    if kind != "kine":
        return
    url = (kine.data_source_url or "") if kine else ""
    if kine is not None and kine.data_source_secret_name:
        if url not in ("", database.PLACEHOLDER):
            yield Problem(
                field="spec.storage.kine.dataSourceURL",
                fault="is set beside dataSourceSecretName",
                remedy="leave out one of the two",
            )
        return
    if not url:
        yield Problem(
            field="spec.storage.kine",
            fault="names no database",
            remedy="set dataSourceSecretName; or, for a SQLite file, dataSourceURL to "
            "sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL",
        )
        return
    try:
        facts = database.read(url)
    except database.DataSourceError as error:
        yield Problem(
            field="spec.storage.kine.dataSourceURL",
            fault=str(error),
            remedy="write one such as postgres://host:5432/db, mysql://tcp(host:3306)/db or sqlite:///path",
        )
        return
    yield from shared_storage(spec, facts, field="spec.storage.kine.dataSourceURL")


def shared_storage(spec: ClusterSpec, facts: database.DatabaseFacts, *, field: str) -> Iterator[Problem]:
    """Why this database cannot serve that many replicas. Also for a data source from a Secret (`field` names it)."""
    if spec.replicas > 1 and not facts.shared:
        yield Problem(
            field="spec.replicas",
            fault=f"is {spec.replicas}, and {field} is SQLite, a file that only one controller can use",
            remedy="set 1, or use etcd or a database server",
        )


def _persistence(spec: ClusterSpec) -> Iterator[Problem]:
    persistence = spec.persistence
    if persistence.type not in ("emptyDir", "hostPath", "pvc"):
        yield Problem(
            field="spec.persistence.type",
            fault=f"{persistence.type[:64]!r} is no kind of volume that can be used",
            remedy="use emptyDir, hostPath or pvc",
        )
    if persistence.type == "pvc" and persistence.persistent_volume_claim is None:
        yield Problem(
            field="spec.persistence.persistentVolumeClaim",
            fault="is missing, and type pvc needs it",
            remedy="add it, or use type emptyDir",
        )
    if persistence.type == "hostPath" and not (persistence.host_path or "").startswith("/"):
        yield Problem(
            field="spec.persistence.hostPath",
            fault="is no absolute path, and type hostPath needs one",
            remedy="name a directory of the node, such as /var/lib/tenants/a",
        )


def _certificate_refs(spec: ClusterSpec) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, reference in enumerate(spec.certificate_refs or ()):
        if not reference.name:
            yield Problem(
                field=f"spec.certificateRefs[{index}].name",
                fault="is missing",
                remedy="name a Secret of this namespace",
            )
        if reference.type in seen:
            yield Problem(
                field=f"spec.certificateRefs[{index}].type",
                fault=f"{reference.type} is listed twice",
                remedy="leave out one of the two",
            )
        seen.add(reference.type)


def _quantities(spec: ClusterSpec) -> Iterator[Problem]:
    storage = spec.storage
    etcd = storage.etcd if storage else None
    claim = _mapping((spec.persistence.persistent_volume_claim or {}).get("spec"))
    given: list[tuple[str, object]] = []
    for path, resources in (
        ("spec.resources", spec.resources),
        ("spec.storage.etcd.resources", etcd.resources if etcd else None),
        ("spec.persistence.persistentVolumeClaim.spec.resources", _mapping(claim.get("resources"))),
    ):
        for part in ("limits", "requests"):
            given += [(f"{path}.{part}.{key}", value) for key, value in _mapping(_mapping(resources).get(part)).items()]
    if etcd and etcd.persistence:
        given.append(("spec.storage.etcd.persistence.size", etcd.persistence.size))
    if storage and storage.nats and storage.nats.persistence:
        given.append(("spec.storage.nats.persistence.size", storage.nats.persistence.size))
    for field, value in given:
        if not _is_quantity(value):
            yield Problem(
                field=field,
                fault=f"{str(value)[:64]!r} is no quantity",
                remedy="write a number with a unit, such as 500m, 2 or 1.5Gi",
            )
        elif str(value).startswith("-"):
            yield Problem(field=field, fault=f"{value} is negative", remedy="write a positive quantity")


def _is_quantity(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and bool(_QUANTITY.match(str(value)))


def _volumes(spec: ClusterSpec) -> Iterator[Problem]:
    names: set[str] = set()
    for index, manifest in enumerate(spec.manifests or ()):
        field = f"spec.manifests[{index}]"
        name = str(manifest.get("name", ""))
        if not _LABEL.fullmatch(name) or len(name) > 63:
            yield Problem(
                field=f"{field}.name", fault="is no name of a volume", remedy="use lower-case letters, digits and -"
            )
        if name in names:
            yield Problem(field=f"{field}.name", fault=f"{name} is used twice", remedy="give each its own name")
        names.add(name)
        yield from _source(field, manifest)
    paths: set[str] = set()
    for index, mount in enumerate(spec.mounts or ()):
        field = f"spec.mounts[{index}]"
        path = mount.path.rstrip("/") or "/"
        if not path.startswith("/") or ":" in path or (path != "/" and {"", ".", ".."} & set(path.split("/")[1:])):
            yield Problem(
                field=f"{field}.path",
                fault="is no absolute path",
                remedy="write a path from / without . and .. and without a colon",
            )
        if path in _RESERVED_PATHS:
            yield Problem(
                field=f"{field}.path",
                fault=f"{path} holds what the control plane itself needs",
                remedy="mount a directory below it, or another one",
            )
        if path in paths:
            yield Problem(field=f"{field}.path", fault=f"{path} is used twice", remedy="give each its own path")
        paths.add(path)
        yield from _source(field, mount.source)


def _source(field: str, volume: Mapping[str, Any]) -> Iterator[Problem]:
    sources = sorted(key for key in volume if key in VOLUME_SOURCES)
    if len(sources) != 1:
        yield Problem(
            field=field,
            fault="names no volume source" if not sources else f"names several volume sources ({', '.join(sources)})",
            remedy="give exactly one, such as configMap or secret",
        )


def _patches(spec: ClusterSpec) -> Iterator[Problem]:
    for index, patch in enumerate(spec.patches or ()):
        field = f"spec.patches[{index}].patch.content"
        try:
            content = text.load(patch.patch.content)
        except text.TextError as error:
            yield Problem(field=field, fault=str(error).replace("it ", "", 1), remedy="write YAML or JSON")
            continue
        if patch.patch.type != "json":
            if not isinstance(content, Mapping):
                yield Problem(
                    field=field,
                    fault=f"is no object, as a patch of type {patch.patch.type} is",
                    remedy="write the fields to change, from the object's root",
                )
        elif not _is_json_patch(content):
            yield Problem(
                field=field,
                fault="is no JSON patch (RFC 6902)",
                remedy="write a list of operations, such as [{op: add, path: /metadata/labels/a, value: b}]",
            )


def _is_json_patch(content: object) -> bool:
    return isinstance(content, list) and all(
        isinstance(each, Mapping)
        and each.get("op") in _OPERATIONS
        and isinstance(each.get("path"), str)
        and (isinstance(each.get("from"), str) or each["op"] not in ("move", "copy"))
        and ("value" in each or each["op"] not in ("add", "replace", "test"))
        for each in content
    )


def _metadata(spec: ClusterSpec) -> Iterator[Problem]:
    if spec.kubeconfig_secret_metadata is not None:
        yield from metadata(spec.kubeconfig_secret_metadata, field="spec.kubeconfigSecretMetadata")


def metadata(given: ObjectMetadata, *, field: str) -> Iterator[Problem]:
    """What is wrong with labels and annotations that are to stand on generated objects."""
    yield from _keys(f"{field}.labels", given.labels)
    yield from _keys(f"{field}.annotations", given.annotations)
    for key, value in given.labels.items():
        if not _LABEL_VALUE.fullmatch(value):
            yield Problem(
                field=f"{field}.labels[{key}]",
                fault="is no value of a label",
                remedy="use at most 63 letters, digits, -, _ and .",
            )


def _keys(field: str, keys: Iterable[str]) -> Iterator[Problem]:
    for key in keys:
        prefix, _, name = key.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (prefix and not is_host(prefix)):
            yield Problem(
                field=f"{field}[{key[:80]}]",
                fault="is no key of a label or annotation",
                remedy="use at most 63 letters, digits, -, _ and ., if need be after a DNS name and /",
            )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
