"""What the contracts of Cluster API ask of every kind of a provider: labels, categories, template metadata.

The label `cluster.x-k8s.io/<contract>` on a CustomResourceDefinition names the versions of the kind that fulfil that
contract, and Cluster API reads the fields of the contract from the highest of them. Ours says `v1beta2: v1beta2` and
nothing else. `v1beta1` is served, yet it must not be listed (k0smotron lists it under the old contract): its status has
`updatedReplicas` and `ready` where the v1beta2 contract has `upToDateReplicas` and `initialization`, so whoever read it
by that contract would wait for ever; and the v1beta1 contract ends with Cluster API v1.16.
"""

from __future__ import annotations

from types import MappingProxyType

from hosted_cp.api.base import Model, StringMap, Strings

CONTRACT_LABEL = "cluster.x-k8s.io/v1beta2"
PROVIDER_LABEL = "cluster.x-k8s.io/provider"
#: `clusterctl move` and `clusterctl describe` find kinds by this label alone, however they were installed.
CLUSTERCTL_LABEL = "clusterctl.cluster.x-k8s.io"
#: `kubectl get cluster-api`.
CATEGORIES = ("cluster-api",)


def labels(*, provider: str) -> MappingProxyType[str, str]:
    """Labels of the definition of a kind; `provider` is the type of provider that it belongs to, and its name."""
    return MappingProxyType({CONTRACT_LABEL: "v1beta2", PROVIDER_LABEL: provider, CLUSTERCTL_LABEL: ""})


CONTROL_PLANE_LABELS = labels(provider="control-plane-hosted-cp")
BOOTSTRAP_LABELS = labels(provider="bootstrap-hosted-cp")


class TemplateMetadata(Model):
    """Metadata for what is made from a template. Labels and annotations are copied; the rest is read and not used."""

    name: str | None = None
    """Not used: names are derived."""
    namespace: str | None = None
    """Not used: it is the template's."""
    labels: StringMap | None = None
    annotations: StringMap | None = None
    finalizers: Strings | None = None
    """Not used."""


class TemplateStatus(Model):
    """Nothing: a template has no state."""
