"""The fields of k0s' ClusterConfig by version: what its strict parser accepts.

k0s reads its config file strictly: an unknown field or a value of the wrong type, and the control plane never starts.
So the user's part is checked here first, where the answer can name the field and what was probably meant. The table was
derived from the config types of the releases v1.33.1 to v1.36.3; every minor only ever added fields.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hosted_cp.api.duration import DurationError, parse
from hosted_cp.api.problems import Problem
from hosted_cp.k0s.versions import Version


@dataclass(frozen=True, kw_only=True)
class Field:
    """One place of the config. `kind` is `struct`, `string`, `int`, `bool`, `duration`, `strings` (a mapping of texts)
    or `any`; a list of that if `listed`."""

    kind: str
    listed: bool = False
    fields: Mapping[str, Field] = field(default_factory=dict)
    #: (minor, patch) of k0s 1.x that knows the field first; None: all that can be hosted.
    since: tuple[int, int] | None = None
    #: The only values that k0s accepts.
    one_of: tuple[str, ...] = ()


_STRING = Field(kind="string")
_INT = Field(kind="int")
_BOOL = Field(kind="bool")
_DURATION = Field(kind="duration")
_STRINGS = Field(kind="strings")
_LIST = Field(kind="string", listed=True)
_ANY = Field(kind="any")


def _struct(since: tuple[int, int] | None = None, /, **fields: Field) -> Field:
    return Field(kind="struct", fields=fields, since=since)


def _list_of(since: tuple[int, int] | None = None, /, **fields: Field) -> Field:
    return Field(kind="struct", listed=True, fields=fields, since=since)


def _enum(*values: str) -> Field:
    return Field(kind="string", one_of=values)


_RAW_ARGS = Field(kind="string", listed=True, since=(34, 0))
_RAW_ARGS_35 = Field(kind="string", listed=True, since=(35, 0))
_PATCHES = _list_of(
    (36, 0),
    target=_struct(kind=_STRING, name=_STRING, namespace=_STRING),
    patch=_struct(type=_enum("JSON", "StrategicMergePatch", "MergePatch"), content=_STRING),
)
_IMAGE = _struct(image=_STRING, version=_STRING)
_LIVES = _struct(expiresAfter=_DURATION, certificatesExpireAfter=_DURATION)


def _node_local(since: tuple[int, int] | None = None) -> Field:
    return _struct(
        since,
        image=_IMAGE,
        imagePullPolicy=_STRING,
        apiServerBindPort=_INT,
        konnectivityServerBindPort=_INT,
    )


_API = _struct(
    address=_STRING,
    onlyBindToAddress=_BOOL,
    externalAddress=_STRING,
    extraArgs=_STRINGS,
    rawArgs=_RAW_ARGS,
    k0sApiPort=_INT,
    port=_INT,
    sans=_LIST,
    ca=_LIVES,
)

_STORAGE = _struct(
    type=_enum("etcd", "kine"),
    etcd=_struct(
        externalCluster=_struct(
            endpoints=_LIST, etcdPrefix=_STRING, caFile=_STRING, clientCertFile=_STRING, clientKeyFile=_STRING
        ),
        peerAddress=_STRING,
        extraArgs=_STRINGS,
        rawArgs=_RAW_ARGS,
        ca=_LIVES,
    ),
    kine=_struct(dataSource=_STRING, extraArgs=Field(kind="strings", since=(35, 0)), rawArgs=_RAW_ARGS_35),
)

_KUBE_PROXY = _struct(
    disabled=_BOOL,
    mode=_enum("iptables", "ipvs", "userspace", "nftables"),
    metricsBindAddress=_STRING,
    healthzBindAddress=Field(kind="string", since=(36, 0)),
    iptables=_struct(
        masqueradeBit=_INT,
        masqueradeAll=_BOOL,
        localhostNodePorts=_BOOL,
        syncPeriod=_DURATION,
        minSyncPeriod=_DURATION,
    ),
    ipvs=_struct(
        syncPeriod=_DURATION,
        minSyncPeriod=_DURATION,
        scheduler=_STRING,
        excludeCIDRs=_LIST,
        strictARP=_BOOL,
        tcpTimeout=_DURATION,
        tcpFinTimeout=_DURATION,
        udpTimeout=_DURATION,
    ),
    nftables=_struct(syncPeriod=_DURATION, masqueradeBit=_INT, masqueradeAll=_BOOL, minSyncPeriod=_DURATION),
    nodePortAddresses=_LIST,
    extraArgs=_STRINGS,
    rawArgs=_RAW_ARGS,
    patches=_PATCHES,
)

_KUBEROUTER = _struct(
    autoMTU=_BOOL,
    mtu=_INT,
    metricsPort=_INT,
    hairpin=_STRING,
    hairpinMode=_BOOL,
    ipMasq=_BOOL,
    peerRouterASNs=_STRING,
    peerRouterIPs=_STRING,
    extraArgs=_STRINGS,
    rawArgs=_RAW_ARGS,
    patches=_PATCHES,
)

_CALICO = _struct(
    wireguard=_BOOL,
    envVars=_STRINGS,
    flexVolumeDriverPath=_STRING,
    ipAutodetectionMethod=_STRING,
    ipV6AutodetectionMethod=_STRING,
    mtu=_INT,
    mode=_STRING,
    overlay=_STRING,
    vxlanPort=_INT,
    vxlanVNI=_INT,
    patches=_PATCHES,
)

_KEEPALIVED = _struct(
    vrrpInstances=_list_of(
        virtualIPs=_LIST,
        interface=_STRING,
        virtualRouterID=_INT,
        advertIntervalSeconds=_INT,
        authPass=_STRING,
        unicastPeers=_LIST,
        unicastSourceIP=_STRING,
        addressLabel=Field(kind="int", since=(34, 0)),
    ),
    virtualServers=_list_of(
        ipAddress=_STRING,
        delayLoop=_DURATION,
        lbAlgo=_STRING,
        lbKind=_STRING,
        persistenceTimeoutSeconds=_INT,
    ),
    userSpaceProxyBindPort=_INT,
    disableLoadBalancer=_BOOL,
    configTemplateVRRP=Field(kind="string", since=(35, 0)),
    configTemplateVS=Field(kind="string", since=(35, 0)),
)

_NETWORK = _struct(
    calico=_CALICO,
    coreDNS=_struct((36, 0), patches=_PATCHES),
    dualStack=_struct(enabled=_BOOL, IPv6podCIDR=_STRING, IPv6serviceCIDR=_STRING),
    kubeProxy=_KUBE_PROXY,
    kuberouter=_KUBEROUTER,
    nodeLocalLoadBalancing=_struct(enabled=_BOOL, type=_STRING, envoyProxy=_node_local(), traefik=_node_local((36, 0))),
    controlPlaneLoadBalancing=_struct(enabled=_BOOL, type=_STRING, keepalived=_KEEPALIVED),
    podCIDR=_STRING,
    provider=_enum("kuberouter", "calico", "custom"),
    serviceCIDR=_STRING,
    clusterDomain=_STRING,
    primaryAddressFamily=Field(kind="string", since=(34, 0)),
)

_IMAGES = _struct(
    konnectivity=_IMAGE,
    pushgateway=_IMAGE,
    metricsserver=_IMAGE,
    kubeproxy=_IMAGE,
    coredns=_IMAGE,
    pause=_IMAGE,
    windows=_struct((34, 0), kubeproxy=_IMAGE, pause=_IMAGE),
    calico=_struct(cni=_IMAGE, node=_IMAGE, kubecontrollers=_IMAGE, windows=_struct((34, 0), cni=_IMAGE, node=_IMAGE)),
    kuberouter=_struct(cni=_IMAGE, cniInstaller=_IMAGE),
    repository=_STRING,
    default_pull_policy=_STRING,
)

_EXTENSIONS = _struct(
    storage=_struct(type=_STRING, create_default_storage_class=_BOOL),
    helm=_struct(
        concurrencyLevel=_INT,
        repositories=_list_of(
            name=_STRING,
            url=_STRING,
            insecure=_BOOL,
            caFile=_STRING,
            certFile=_STRING,
            keyfile=_STRING,
            username=_STRING,
            password=_STRING,
        ),
        charts=_list_of(
            name=_STRING,
            chartname=_STRING,
            version=_STRING,
            values=_STRING,
            namespace=_STRING,
            timeout=_DURATION,
            forceUpgrade=_BOOL,
            order=_INT,
        ),
    ),
)

_PROCESS = _struct(extraArgs=_STRINGS, rawArgs=_RAW_ARGS)

#: `spec` of a ClusterConfig.
SPEC = _struct(
    api=_API,
    controllerManager=_PROCESS,
    scheduler=_PROCESS,
    storage=_STORAGE,
    network=_NETWORK,
    workerProfiles=_list_of(name=_STRING, values=_ANY),
    telemetry=_struct(enabled=_BOOL),
    installConfig=_struct(
        users=_struct(
            etcdUser=_STRING,
            kineUser=_STRING,
            konnectivityUser=_STRING,
            kubeAPIserverUser=_STRING,
            kubeSchedulerUser=_STRING,
        )
    ),
    images=_IMAGES,
    extensions=_EXTENSIONS,
    konnectivity=_struct(adminPort=_INT, agentPort=_INT, externalAddress=Field(kind="string", since=(33, 6))),
    featureGates=_list_of(name=_STRING, enabled=_BOOL, components=_LIST),
    metricsServer=_struct((36, 0), patches=_PATCHES),
)

#: Names that k0s has dropped and still tolerates anywhere.
_TOLERATED = frozenset({"interval", "podSecurityPolicy"})

_NAMES = {
    "string": "a text (in quotes)",
    "int": "a whole number",
    "bool": "true or false",
    "duration": "a duration such as 8760h or 1h30m",
    "strings": "a mapping of texts",
    "struct": "a mapping",
    "any": "anything",
}


def check(value: Any, *, version: Version, path: str, place: Field = SPEC) -> Iterator[Problem]:
    """Everything in `value` that this version of k0s would refuse to read, as problems at `path`."""
    if value is None:
        return  # the same as leaving it out
    if place.listed:
        if not isinstance(value, (list, tuple)):
            yield _wrong(path, f"a list, each item {_NAMES[place.kind]}", value)
            return
        for index, item in enumerate(value):
            yield from _check_one(item, version=version, path=f"{path}[{index}]", place=place)
        return
    yield from _check_one(value, version=version, path=path, place=place)


def _check_one(value: Any, *, version: Version, path: str, place: Field) -> Iterator[Problem]:
    if place.kind == "struct":
        if isinstance(value, Mapping):
            yield from _check_fields(value, version=version, path=path, place=place)
        elif value is not None:
            yield _wrong(path, _NAMES["struct"], value)
        return
    if not _fits(place.kind, value):
        yield _wrong(path, _NAMES[place.kind], value)
    elif place.one_of and value not in ("", *place.one_of):
        yield Problem(
            field=path, fault=f"k0s does not know the value {value[:64]!r}", remedy=f"use {_or(place.one_of)}"
        )


def _check_fields(value: Mapping[str, Any], *, version: Version, path: str, place: Field) -> Iterator[Problem]:
    for name, member in value.items():
        known = place.fields.get(name)
        if known is None:
            if name not in _TOLERATED:
                yield unknown(f"{path}.{name}", name, place.fields)
        elif known.since and (version.minor, version.patch) < known.since:
            yield Problem(
                field=f"{path}.{name}",
                fault=f"k0s {version} does not know this field yet",
                remedy=f"remove it, or use k0s 1.{known.since[0]}.{known.since[1]} or newer",
            )
        else:
            yield from check(member, version=version, path=f"{path}.{name}", place=known)


def unknown(path: str, name: str, known: Mapping[str, Any]) -> Problem:
    """A field that k0s does not know, with what was probably meant."""
    close = difflib.get_close_matches(str(name).lower(), [key.lower() for key in known], n=1, cutoff=0.6)
    meant = next((key for key in known if close and key.lower() == close[0]), None)
    return Problem(
        field=path,
        fault="k0s does not know this field",
        remedy=f"did you mean {meant}?" if meant else f"remove it; known here are {', '.join(sorted(known))}",
    )


def _fits(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "duration":
            return isinstance(value, str) and _is_duration(value)
        case "strings":
            return isinstance(value, Mapping) and all(isinstance(member, str) for member in value.values())
        case _:
            return True


def _is_duration(text: str) -> bool:
    try:
        parse(text)
    except DurationError:
        return False
    return True


def _wrong(path: str, wanted: str, value: Any) -> Problem:
    found = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    kind = found.get(type(value), "a mapping" if isinstance(value, Mapping) else type(value).__name__)
    if wanted == _NAMES["strings"] and isinstance(value, Mapping):
        wrong = sorted(str(key) for key, member in value.items() if not isinstance(member, str))
        return Problem(field=path, fault=f"not a text: {', '.join(wrong)}", remedy="put the values in quotes")
    return Problem(field=path, fault=f"must be {wanted}, and is {kind}", remedy=f"write {wanted}")


def _or(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
