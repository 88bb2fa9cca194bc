"""A file of objects, and how those in it refer to one another, as an API server and Cluster API would know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CORE = "cluster.x-k8s.io"

Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The objects of a file, as they stand in it."""

    bodies: tuple[Object, ...]

    def of(self, api_group: str, *kinds: str, namespace: str) -> Iterator[Object]:
        """The objects of these kinds, of whatever version, in a namespace."""
        for each in self.bodies:
            if group(each) == api_group and each.get("kind") in kinds and namespace_of(each) == namespace:
                yield each

    def cluster_of(self, control_plane: Object) -> Object | None:
        """The Cluster of Cluster API that names a control plane."""
        for each in self.of(CORE, "Cluster", namespace=namespace_of(control_plane)):
            if _refers(mapping(mapping(each.get("spec")).get("controlPlaneRef")), control_plane):
                return each
        return None

    def cluster_named(self, name: str, *, namespace: str) -> Object | None:
        """The Cluster of Cluster API of this name."""
        found = self.of(CORE, "Cluster", namespace=namespace)
        return next((each for each in found if name_of(each) == name), None)

    def machine_of(self, config: Object) -> tuple[Object, Object] | None:
        """(what refers to a bootstrap config or template, the spec of its Machine)."""
        kinds = ("Machine", "MachinePool", "MachineDeployment", "MachineSet")
        for each in self.of(CORE, *kinds, namespace=namespace_of(config)):
            spec = mapping(each.get("spec"))
            if each["kind"] not in ("Machine", "MachinePool"):
                spec = mapping(mapping(spec.get("template")).get("spec"))
            inner = mapping(mapping(spec.get("template")).get("spec")) if each["kind"] == "MachinePool" else spec
            if _refers(mapping(mapping(inner.get("bootstrap")).get("configRef")), config):
                return each, spec
        return self._machine_of_class(config)

    def _machine_of_class(self, template: Object) -> tuple[Object, Object] | None:
        """The same for the template of a ClusterClass, of which a Cluster in the file is made."""
        namespace = namespace_of(template)
        for each in self.of(CORE, "ClusterClass", namespace=namespace):
            workers = mapping(mapping(each.get("spec")).get("workers"))
            for one in [*_list(workers.get("machineDeployments")), *_list(workers.get("machinePools"))]:
                # v1beta1 of Cluster API has it one level deeper.
                inner = mapping(one.get("template")) or one
                bootstrap = mapping(inner.get("bootstrap"))
                if not _refers(mapping(bootstrap.get("templateRef") or bootstrap.get("ref")), template):
                    continue
                for cluster in self._made_of(each):
                    topology = mapping(mapping(cluster.get("spec")).get("topology"))
                    return each, {"clusterName": name_of(cluster), "version": topology.get("version")}
        return None

    def cluster_of_class(self, template: Object) -> Object | None:
        """The Cluster of Cluster API that is made of a ClusterClass whose control planes are made from a template."""
        namespace = namespace_of(template)
        for each in self.of(CORE, "ClusterClass", namespace=namespace):
            control_plane = mapping(mapping(each.get("spec")).get("controlPlane"))
            if _refers(mapping(control_plane.get("templateRef") or control_plane.get("ref")), template):
                return next(self._made_of(each), None)
        return None

    def _made_of(self, cluster_class: Object) -> Iterator[Object]:
        """The Clusters of a ClusterClass."""
        for each in self.of(CORE, "Cluster", namespace=namespace_of(cluster_class)):
            topology = mapping(mapping(each.get("spec")).get("topology"))
            if (mapping(topology.get("classRef")).get("name") or topology.get("class")) == name_of(cluster_class):
                yield each


def _list(value: object) -> list[Object]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _refers(reference: Object, to: Object) -> bool:
    """Whether a reference is to this object. `apiGroup` is today's way to say it, `apiVersion` that of v1beta1."""
    said = str(reference.get("apiGroup") or reference.get("apiVersion") or group(to)).partition("/")[0]
    return (said, reference.get("kind"), reference.get("name")) == (group(to), to.get("kind"), name_of(to))


def group(body: Object) -> str:
    """The API group of an object; "" of core's own."""
    return str(body.get("apiVersion")).rpartition("/")[0]


def mapping(value: object) -> Object:
    """An object; of anything else, an empty one."""
    return value if isinstance(value, Mapping) else {}


def meta(body: Object) -> Object:
    return mapping(body.get("metadata"))


def name_of(body: Object) -> str:
    return str(meta(body).get("name") or "")


def namespace_of(body: Object) -> str:
    return str(meta(body).get("namespace") or "default")
