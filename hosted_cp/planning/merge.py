"""How the API server merges the objects that we create: which lists have keys, what is replaced as a whole.

Two things need this knowledge: comparing what we want with what is there (`hosted_cp.planning.diff`), which must follow
server-side apply, and strategic merge patches (`hosted_cp.hosting.patches`). The server publishes it in its OpenAPI
document (`x-kubernetes-list-map-keys`, `x-kubernetes-patch-merge-key`, ...); the table is written down here because the
planners do no I/O and because it has been stable for years. `tests/component/test_merge_table.py` compares it with the
document of a real server.

A list that is not named here is atomic, a mapping that is not named here is merged key by key: the server's own rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hosted_cp.api.core import VOLUME_SOURCES
from hosted_cp.planning.actions import Object


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the server knows about one place in an object. The empty shape says: nothing special."""

    #: Named fields of a struct.
    fields: Mapping[str, Shape] = field(default_factory=dict)
    #: A mapping with free keys, which the server drops when it is empty; and the shape of its values.
    free: bool = False
    values: Shape | None = None
    #: The items of a list.
    item: Shape | None = None
    #: Fields that identify an item in server-side apply; empty for an atomic list.
    keys: tuple[str, ...] = ()
    #: What the server assumes for a key field that is left out.
    key_defaults: Mapping[str, str] = field(default_factory=dict)
    #: The one field that identifies an item in a strategic merge patch (patchMergeKey).
    patch_key: str = ""
    #: Fields of the items that are no keys, and yet must differ from item to item.
    distinct: tuple[str, ...] = ()
    #: Of these fields the server takes only one.
    one_of: frozenset[str] = frozenset()
    #: A list of scalars that is a set: merged, never replaced.
    unique: bool = False
    #: Replaced as a whole, although it is a mapping: whatever is there beyond what is wanted would be removed by an
    #: apply. Also set where somebody's addition would change the meaning of what we wrote (network policies).
    whole: bool = False
    #: Strategic merge: patchStrategy "replace" and "retainKeys".
    replaced: bool = False
    retain_keys: bool = False
    quantity: bool = False
    int_or_string: bool = False

    def at(self, key: str) -> Shape:
        """The shape of a field or a value."""
        return self.fields.get(key) or self.values or NOTHING_SPECIAL


NOTHING_SPECIAL = Shape()
_QUANTITY = Shape(quantity=True)
_INT_OR_STRING = Shape(int_or_string=True)
_MAP = Shape(free=True)
_QUANTITIES = Shape(free=True, values=_QUANTITY)
_WHOLE_MAP = Shape(free=True, whole=True)
_SET = Shape(unique=True)


def _struct(**fields: Shape) -> Shape:
    return Shape(fields=fields)


def _whole(**fields: Shape) -> Shape:
    return Shape(fields=fields, whole=True)


def _items(item: Shape) -> Shape:
    return Shape(item=item)


def _keyed(
    *keys: str,
    item: Shape = NOTHING_SPECIAL,
    retain_keys: bool = False,
    distinct: tuple[str, ...] = (),
    **defaults: str,
) -> Shape:
    """A list with keys; the first one is also the strategic merge key, as everywhere in the core API."""
    return Shape(
        keys=keys, patch_key=keys[0], item=item, retain_keys=retain_keys, distinct=distinct, key_defaults=defaults
    )


def _one_of(*names: str, shape: Shape = NOTHING_SPECIAL) -> Shape:
    """A struct in which the server takes one of these fields (API conventions: a union without a discriminator)."""
    return replace(shape, one_of=frozenset(names))


_LABEL_SELECTOR = _whole(matchLabels=_WHOLE_MAP, matchExpressions=_items(NOTHING_SPECIAL))

_METADATA = _struct(labels=_MAP, annotations=_MAP, ownerReferences=_keyed("uid"), finalizers=_SET)

_HTTP_GET = _struct(port=_INT_OR_STRING)
_HANDLER = _one_of(
    "exec", "httpGet", "tcpSocket", "grpc", "sleep", shape=_struct(httpGet=_HTTP_GET, tcpSocket=_HTTP_GET)
)

_ENV = _keyed(
    "name",
    item=_one_of(
        "value",
        "valueFrom",
        shape=_struct(
            valueFrom=_one_of(
                "fieldRef",
                "resourceFieldRef",
                "configMapKeyRef",
                "secretKeyRef",
                "fileKeyRef",
                shape=_struct(resourceFieldRef=_struct(divisor=_QUANTITY)),
            )
        ),
    ),
)

_CONTAINER = _struct(
    ports=_keyed("containerPort", "protocol", distinct=("name",), protocol="TCP"),
    env=_ENV,
    volumeMounts=_keyed("mountPath"),
    volumeDevices=_keyed("devicePath"),
    resources=_struct(limits=_QUANTITIES, requests=_QUANTITIES, claims=Shape(keys=("name",))),
    livenessProbe=_HANDLER,
    readinessProbe=_HANDLER,
    startupProbe=_HANDLER,
    lifecycle=_struct(postStart=_HANDLER, preStop=_HANDLER),
)
_CONTAINERS = _keyed("name", item=_CONTAINER)

_DOWNWARD_API_ITEMS = _items(_struct(resourceFieldRef=_struct(divisor=_QUANTITY)))

_CLAIM_SPEC = _struct(
    selector=_LABEL_SELECTOR,
    resources=_struct(limits=_QUANTITIES, requests=_QUANTITIES),
)

_VOLUME = _one_of(
    *VOLUME_SOURCES,
    shape=_struct(
        emptyDir=_struct(sizeLimit=_QUANTITY),
        downwardAPI=_struct(items=_DOWNWARD_API_ITEMS),
        projected=_struct(sources=_items(_struct(downwardAPI=_struct(items=_DOWNWARD_API_ITEMS)))),
        csi=_struct(volumeAttributes=_MAP),
        flexVolume=_struct(options=_MAP),
        ephemeral=_struct(volumeClaimTemplate=_struct(metadata=_METADATA, spec=_CLAIM_SPEC)),
    ),
)

_POD_AFFINITY_TERM = _struct(labelSelector=_LABEL_SELECTOR, namespaceSelector=_LABEL_SELECTOR)
_POD_AFFINITY = _struct(
    requiredDuringSchedulingIgnoredDuringExecution=_items(_POD_AFFINITY_TERM),
    preferredDuringSchedulingIgnoredDuringExecution=_items(_struct(podAffinityTerm=_POD_AFFINITY_TERM)),
)

_POD_SPEC = _struct(
    volumes=_keyed("name", item=_VOLUME, retain_keys=True),
    initContainers=_CONTAINERS,
    containers=_CONTAINERS,
    ephemeralContainers=_CONTAINERS,
    imagePullSecrets=_keyed("name"),
    hostAliases=_keyed("ip"),
    topologySpreadConstraints=_keyed("topologyKey", "whenUnsatisfiable", item=_struct(labelSelector=_LABEL_SELECTOR)),
    schedulingGates=_keyed("name"),
    resourceClaims=_keyed("name", retain_keys=True),
    nodeSelector=_WHOLE_MAP,
    overhead=_QUANTITIES,
    resources=_struct(limits=_QUANTITIES, requests=_QUANTITIES, claims=Shape(keys=("name",))),
    affinity=_struct(podAffinity=_POD_AFFINITY, podAntiAffinity=_POD_AFFINITY),
)

_TEMPLATE = _struct(metadata=_METADATA, spec=_POD_SPEC)

_ROLLING = _struct(rollingUpdate=_struct(maxUnavailable=_INT_OR_STRING, maxSurge=_INT_OR_STRING))

_CLAIM = _struct(metadata=_METADATA, spec=_CLAIM_SPEC)

_STATEFUL_SET = _struct(
    selector=_LABEL_SELECTOR,
    template=_TEMPLATE,
    updateStrategy=_ROLLING,
    volumeClaimTemplates=_items(_CLAIM),
)

_SERVICE = _struct(
    ports=_keyed(
        "port", "protocol", item=_struct(targetPort=_INT_OR_STRING), distinct=("name", "nodePort"), protocol="TCP"
    ),
    selector=_WHOLE_MAP,
)

# A rule that somebody widens is another rule. Nothing in a network policy is merged, except that the server fills in
# the protocol of a port.
_POLICY_PEERS = _items(_whole(podSelector=_LABEL_SELECTOR, namespaceSelector=_LABEL_SELECTOR, ipBlock=_whole()))
_POLICY_PORTS = _items(_struct(port=_INT_OR_STRING))
_NETWORK_POLICY = _struct(
    podSelector=_LABEL_SELECTOR,
    ingress=_items(_whole(ports=_POLICY_PORTS, **{"from": _POLICY_PEERS})),
    egress=_items(_whole(ports=_POLICY_PORTS, to=_POLICY_PEERS)),
)

_DISRUPTION_BUDGET = _one_of(
    "minAvailable",
    "maxUnavailable",
    shape=_struct(
        selector=replace(_LABEL_SELECTOR, replaced=True), minAvailable=_INT_OR_STRING, maxUnavailable=_INT_OR_STRING
    ),
)

_KINDS: dict[tuple[str, str], Shape] = {
    ("apps", "StatefulSet"): _struct(spec=_STATEFUL_SET),
    ("apps", "Deployment"): _struct(
        spec=_struct(selector=_LABEL_SELECTOR, template=_TEMPLATE, strategy=replace(_ROLLING, retain_keys=True))
    ),
    ("apps", "DaemonSet"): _struct(spec=_struct(selector=_LABEL_SELECTOR, template=_TEMPLATE, updateStrategy=_ROLLING)),
    ("batch", "Job"): _struct(spec=_struct(selector=_LABEL_SELECTOR, template=_TEMPLATE)),
    ("batch", "CronJob"): _struct(
        spec=_struct(
            jobTemplate=_struct(metadata=_METADATA, spec=_struct(selector=_LABEL_SELECTOR, template=_TEMPLATE))
        )
    ),
    ("", "Pod"): _struct(spec=_POD_SPEC),
    ("", "Service"): _struct(spec=_SERVICE),
    ("", "ConfigMap"): _struct(data=_MAP, binaryData=_MAP),
    ("", "Secret"): _struct(data=_MAP, stringData=_MAP),
    ("", "Endpoints"): NOTHING_SPECIAL,
    ("", "ServiceAccount"): _struct(secrets=_keyed("name")),
    ("", "PersistentVolumeClaim"): _struct(spec=_CLAIM_SPEC),
    ("policy", "PodDisruptionBudget"): _struct(spec=_DISRUPTION_BUDGET),
    ("networking.k8s.io", "NetworkPolicy"): _struct(spec=_NETWORK_POLICY),
}
_SHAPES = {
    group_kind: replace(shape, fields={**shape.fields, "metadata": _METADATA}) for group_kind, shape in _KINDS.items()
}
_ANY_KIND = _struct(metadata=_METADATA)


def shape_of(body: Object) -> Shape:
    """The shape of a whole object, by its group and kind. Kinds that are not in the table: metadata only."""
    group = body["apiVersion"].rpartition("/")[0]
    return _SHAPES.get((group, body["kind"]), _ANY_KIND)


def item_key(item: Mapping[str, object], shape: Shape) -> tuple[object, ...]:
    """What identifies an item of a keyed list, with the server's defaults for keys that are left out."""
    return tuple(item.get(key, shape.key_defaults.get(key)) for key in shape.keys)
