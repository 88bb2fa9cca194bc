"""The k0s config (`ClusterConfig`) of a hosted tenant: the user's, with what hosting needs merged over it.

k0smotron's rules (they decide whether its users can move), and what this product does on purpose:

* ours win, field by field; SANs are united and sorted; the user's mapping is never changed, and no value of ours gets
  into his spec;
* `spec.api.address` stays unset: k0s then uses the pod's own IP, which is the only address that it can reach before the
  pod is ready;
* what is published at other ports than the container's is written as `host:port`, so node ports can be allocated and
  the containers keep 6443 and 8132;
* kube-controller-manager gets a higher client limit (it spends 5 s of the start in its own otherwise), and the API
  server lets anonymous requests see the health paths, and nothing else, so that the kubelet's probes are exact and
  cheap. Both only where the user has not decided otherwise.

The whole config is one Secret, because the address of a database (DSN) with its password may stand in it (that of a
PostgreSQL stands in a file of its own beside it, see `passfile`). It is JSON, which is YAML, too.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from hosted_cp.api.cluster import DEFAULT_POD_CIDR, DEFAULT_SERVICE_CIDR
from hosted_cp.api.duration import DurationError
from hosted_cp.api.duration import parse as parse_duration
from hosted_cp.api.problems import Problem
from hosted_cp.k0s import schema
from hosted_cp.k0s.passfile import split_password
from hosted_cp.k0s.versions import Version
from hosted_cp.planning.recipes import Inputs, MaterialError

API_VERSION = "k0s.k0sproject.io/v1beta1"

#: Keys of the Secret: the config, and the API server's authentication config for the kubelet's probes.
CONFIG_FILE = "k0s.yaml"
PROBE_FILE = "authentication.json"
#: A further key where the store is a PostgreSQL: its password, see `passfile`.
PASSWORD_FILE = "pgpass"  # noqa: S105 - the name of a file
#: The key of a user's Secret that holds the address of his database, as k0smotron reads it.
DSN_KEY = "K0SMOTRON_KINE_DATASOURCE_URL"

#: Annotation of a Secret whose content no plan knows: what it was when we wrote it (see `seal`).
CONTENT_SEAL = "hosted-cp.io/content-seal"
#: The key of the CA's Secret with whose digest it is keyed: there is one in every tenant, and nothing is more random.
SEAL_KEY = "tls.key"

#: k0s' own default, written out so that it cannot wander.
SQLITE = "sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL"

#: What only anonymous requests may see.
HEALTH_PATHS = ("/livez", "/readyz", "/healthz")

_DEFAULT_API_PORT = 6443
_DEFAULT_KONNECTIVITY_PORT = 8132
_LEAF_LIFE = timedelta(hours=8760)
#: Settings of kube-controller-manager that take 5 s off the start of a tenant.
_FASTER = {"kube-api-qps": "300", "kube-api-burst": "600"}
#: What k0s sets itself where it ends watches: an API server that is replaced is gone in two seconds, not in sixty.
_ENDING_WATCHES = {"shutdown-watch-termination-grace-period": "18s"}
#: What a worker profile may not set: k0s does it itself, and refuses to start otherwise.
_LOCKED_KUBELET_FIELDS = frozenset({"clusterDNS", "clusterDomain", "staticPodURL", "apiVersion", "kind"})

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_NAME = re.compile(
    r"(\*\.)?[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*"
)


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """What hosting has decided for one tenant, as far as k0s has to know it."""

    version: Version
    #: Where workers and users reach the API: an IP address or a DNS name.
    address: str
    #: The published ports at that address.
    api_port: int
    konnectivity_port: int
    #: The ports inside the pod.
    container_api_port: int = _DEFAULT_API_PORT
    container_konnectivity_port: int = _DEFAULT_KONNECTIVITY_PORT
    #: Further names and addresses for the API server's certificate.
    sans: tuple[str, ...] = ()
    #: `etcd` or `kine`.
    storage: str = "etcd"
    etcd_endpoints: tuple[str, ...] = ()
    etcd_prefix: str = ""
    #: Folder in the container with `ca.crt`, `tls.crt` and `tls.key` of the etcd client; "" for k0smotron's paths in
    #: k0s' own PKI directory.
    etcd_client_directory: str = ""
    #: kine: the database's address if it stands in the spec. With None and no Secret it is SQLite on the data volume.
    data_source: str | None = field(default=None, repr=False)
    #: Where the config Secret is mounted.
    config_directory: str = "/etc/k0s"
    #: Network ranges as decided; used where the user gave none.
    pod_cidr: str = ""
    service_cidr: str = ""


# --- merging ---------------------------------------------------------------------------------------------------------


def hosted_config(user: Mapping[str, Any] | None, hosted: Hosted) -> dict[str, Any]:
    """The whole ClusterConfig. `user` is `spec.k0sConfig` (checked by `problems`); it is not changed."""
    given: dict[str, Any] = copy.deepcopy(_plain(user or {}))
    spec: dict[str, Any] = given.get("spec") or {}
    api: dict[str, Any] = {**(spec.get("api") or {})}
    api.pop("address", None)
    api["port"] = hosted.container_api_port
    api["externalAddress"] = external_address(hosted)

    konnectivity: dict[str, Any] = {**(spec.get("konnectivity") or {}), "agentPort": hosted.container_konnectivity_port}
    if hosted.konnectivity_port != hosted.container_konnectivity_port and not konnectivity.get("externalAddress"):
        konnectivity["externalAddress"] = _join(hosted.address, hosted.konnectivity_port)

    agents = _host(konnectivity.get("externalAddress") or "")  # k0s does not put it on the certificate by itself
    sans = {*(api.get("sans") or ()), hosted.address, agents, *hosted.sans} - {""}
    api["sans"] = sorted(sans)

    if opens_health_paths(user, hosted.version):
        file = f"{hosted.config_directory}/{PROBE_FILE}"
        api["extraArgs"] = {**(api.get("extraArgs") or {}), "authentication-config": file}

    if not hosted.version.ends_watches:
        api["extraArgs"] = {**_ENDING_WATCHES, **(api.get("extraArgs") or {})}

    manager: dict[str, Any] = {**(spec.get("controllerManager") or {})}
    manager["extraArgs"] = {**_FASTER, **(manager.get("extraArgs") or {})}

    network: dict[str, Any] = {**(spec.get("network") or {})}
    for name, decided in (("podCIDR", hosted.pod_cidr), ("serviceCIDR", hosted.service_cidr)):
        if decided and not network.get(name):
            network[name] = decided

    merged = {
        **spec,
        "api": api,
        "controllerManager": manager,
        "konnectivity": konnectivity,
        "storage": _storage(spec.get("storage") or {}, hosted),
    }
    if network:
        merged["network"] = network
    return {"apiVersion": API_VERSION, "kind": "ClusterConfig", "metadata": {"name": "k0s"}, "spec": merged}


def external_address(hosted: Hosted) -> str:
    """`spec.api.externalAddress`: with the port where it is not the container's, which k0s takes otherwise."""
    if hosted.api_port == hosted.container_api_port:
        return hosted.address
    return _join(hosted.address, hosted.api_port)


def opens_health_paths(user: Mapping[str, Any] | None, version: Version) -> bool:
    """Whether anonymous requests see exactly the health paths: the version can, and the user wants no other
    authentication (an own authentication config, OIDC flags, or anonymous requests allowed or refused as a whole)."""
    if not version.probes_by_http:
        return False
    api = _at(user, "spec", "api")
    names = set(_at(api, "extraArgs")) | {arg.lstrip("-").partition("=")[0] for arg in api.get("rawArgs") or ()}
    return not any(name in ("authentication-config", "anonymous-auth") or name.startswith("oidc-") for name in names)


def probes_by_http(user: Mapping[str, Any] | None, version: Version) -> bool:
    """Whether a kubelet's plain HTTPS request for `/readyz` is answered: if not, the probe has to be an exec."""
    return opens_health_paths(user, version) or _at(user, "spec", "api", "extraArgs").get("anonymous-auth") == "true"


def authentication_config() -> dict[str, Any]:
    """The API server's authentication config: certificates and tokens as ever, anonymous requests for health only."""
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": True, "conditions": [{"path": path} for path in HEALTH_PATHS]},
    }


def k0s_leaf_life(user: Mapping[str, Any] | None) -> timedelta:
    """How long the leaf certificates live that k0s makes whenever it starts (and renews at no other time)."""
    text = _at(user, "spec", "api", "ca").get("certificatesExpireAfter")
    try:
        return (parse_duration(text) if text else timedelta()) or _LEAF_LIFE
    except DurationError:
        return _LEAF_LIFE


def _storage(given: Mapping[str, Any], hosted: Hosted) -> dict[str, Any]:
    """The section of the one kind of storage that is used. The user's further settings of that kind stay."""
    if hosted.storage == "kine":
        kine = {**(given.get("kine") or {}), "dataSource": hosted.data_source or SQLITE}
        return {"type": "kine", "kine": kine}
    folder = hosted.etcd_client_directory
    files = (
        (f"{folder}/ca.crt", f"{folder}/tls.crt", f"{folder}/tls.key")
        if folder
        else tuple(
            f"/var/lib/k0s/pki/{name}"
            for name in ("etcd-ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key")
        )
    )
    external = {
        "endpoints": list(hosted.etcd_endpoints),
        "etcdPrefix": hosted.etcd_prefix,
        "caFile": files[0],
        "clientCertFile": files[1],
        "clientKeyFile": files[2],
    }
    return {"type": "etcd", "etcd": {**(given.get("etcd") or {}), "externalCluster": external}}


def _plain(value: Any) -> Any:
    """Mappings as dicts, whatever they were (a frozen view, say)."""
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _at(value: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at a path, empty if there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(address: str) -> str:
    """The host of `host`, `host:port`, `[v6]:port` or a bare IPv6 address."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


# --- checking --------------------------------------------------------------------------------------------------------


def problems(
    user: Mapping[str, Any] | None,
    *,
    version: Version,
    storage: str = "",
    address: str = "",
    path: str = "spec.k0sConfig",
) -> list[Problem]:
    """Why k0s of this version would not start with the user's config, or could not be hosted with it.

    `storage` and `address` are what hosting has decided; a contradicting wish in the config is a problem, an equal one
    (k0smotron writes its own values into the spec) is not.
    """
    if user is None:
        return []
    if not isinstance(user, Mapping):
        return [Problem(field=path, fault="must be a mapping", remedy="write a k0s ClusterConfig")]
    if user.get("apiVersion") != API_VERSION:
        return [
            Problem(
                field=f"{path}.apiVersion",
                fault=f"unsupported k0s config version: {str(user.get('apiVersion', ''))[:64]}",
                remedy=f"write apiVersion: {API_VERSION}",
            )
        ]
    found: list[Problem] = []
    if user.get("kind", "ClusterConfig") != "ClusterConfig":
        found.append(Problem(field=f"{path}.kind", fault="is another kind", remedy="write kind: ClusterConfig"))
    top = dict.fromkeys(("apiVersion", "kind", "metadata", "spec", "status"))
    found += [schema.unknown(f"{path}.{name}", name, top) for name in user if name not in top]
    read = list(schema.check(user.get("spec"), version=version, path=f"{path}.spec"))
    found += read
    if not read:  # what follows relies on the types
        found += _combinations(user, path=f"{path}.spec", storage=storage, address=address)
    return found


def port_problem(hosted: Hosted) -> Problem | None:
    """An old k0s cannot be told that it is published at other ports than it listens on."""
    same = (hosted.api_port, hosted.konnectivity_port) == (
        hosted.container_api_port,
        hosted.container_konnectivity_port,
    )
    if same or hosted.version.takes_host_and_port:
        return None
    return Problem(
        field="spec.version",
        fault=f"k0s {hosted.version} can only be published at the ports {hosted.container_api_port} and "
        f"{hosted.container_konnectivity_port}, not at {hosted.api_port} and {hosted.konnectivity_port}",
        remedy="use k0s 1.33.6 or newer, or a Service with these ports",
    )


def _combinations(user: Mapping[str, Any], *, path: str, storage: str, address: str) -> Iterator[Problem]:
    api, network = _at(user, "spec", "api"), _at(user, "spec", "network")
    if api.get("address"):
        yield Problem(
            field=f"{path}.api.address",
            fault="a hosted control plane must announce the address of its own pod, which differs from pod to pod",
            remedy="remove it; where workers reach the control plane is spec.externalAddress",
        )
    wished = _host(str(api.get("externalAddress") or ""))
    if wished and address and wished != address:
        yield Problem(
            field=f"{path}.api.externalAddress",
            fault=f"is {wished}, but the control plane is published at {address}",
            remedy="remove it, and set spec.externalAddress instead",
        )
    if _at(network, "nodeLocalLoadBalancing").get("enabled"):
        yield Problem(
            field=f"{path}.network.nodeLocalLoadBalancing",
            fault="k0s refuses it together with an external address, which every hosted control plane has",
            remedy="remove it: the Service in front of the control plane balances the load",
        )
    if _at(network, "controlPlaneLoadBalancing").get("enabled"):
        yield Problem(
            field=f"{path}.network.controlPlaneLoadBalancing",
            fault="virtual addresses need a network that pods do not have",
            remedy="remove it, and publish the control plane by spec.service",
        )
    kind = _at(user, "spec", "storage").get("type")
    if kind and storage and kind != storage:
        yield Problem(
            field=f"{path}.storage.type",
            fault=f"is {kind}, but the tenant's storage is {storage}",
            remedy="remove it, and set spec.storage instead",
        )
    for index, san in enumerate(api.get("sans") or ()):
        if not _is_ip(san) and not (_NAME.fullmatch(san) and len(san) <= 253):
            yield Problem(
                field=f"{path}.api.sans[{index}]",
                fault=f"{san[:64]!r} is neither an IP address nor a DNS name",
                remedy="write one of these",
            )
    yield from _network(network, path=f"{path}.network")
    yield from _profiles(_at(user, "spec").get("workerProfiles") or (), path=f"{path}.workerProfiles")


def _network(network: Mapping[str, Any], *, path: str) -> Iterator[Problem]:
    """Ranges that are none, or that overlap."""
    dual = _at(network, "dualStack")
    wished = [
        (f"{path}.podCIDR", network.get("podCIDR") or DEFAULT_POD_CIDR),
        (f"{path}.serviceCIDR", network.get("serviceCIDR") or DEFAULT_SERVICE_CIDR),
    ]
    if dual.get("enabled"):
        wished += [
            (f"{path}.dualStack.IPv6podCIDR", dual.get("IPv6podCIDR") or ""),
            (f"{path}.dualStack.IPv6serviceCIDR", dual.get("IPv6serviceCIDR") or ""),
        ]
    ranges = []
    for name, text in wished:
        try:
            ranges.append((name, ipaddress.ip_network(text, strict=False)))
        except ValueError:
            yield Problem(
                field=name,
                fault=f"{text[:64]!r} is no range of addresses",
                remedy="write one such as 10.244.0.0/16" if "IPv6" not in name else "write one such as fd00::/108",
            )
    for index, (name, one) in enumerate(ranges):
        for other_name, other in ranges[:index]:
            if one.overlaps(other):
                yield Problem(
                    field=name,
                    fault=f"{one} overlaps {other} of {other_name.removeprefix(path + '.')}",
                    remedy="choose ranges that have no address in common",
                )
    domain = network.get("clusterDomain")
    if domain and not _NAME.fullmatch(domain):
        yield Problem(field=f"{path}.clusterDomain", fault=f"{domain[:64]!r} is no DNS name", remedy="write a DNS name")


def _profiles(profiles: Any, *, path: str) -> Iterator[Problem]:
    for index, given in enumerate(profiles):
        profile = given or {}  # Go reads null as an empty profile
        name = str(profile.get("name") or "")
        if not _LABEL.fullmatch(name):
            yield Problem(
                field=f"{path}[{index}].name",
                fault=f"{name[:64]!r} is no DNS label",
                remedy="use lower-case letters, digits and -, at most 63",
            )
        values = profile.get("values")
        locked = sorted(_LOCKED_KUBELET_FIELDS & set(values if isinstance(values, Mapping) else ()))
        if locked:
            yield Problem(
                field=f"{path}[{index}].values",
                fault=f"k0s sets these itself and refuses them here: {', '.join(locked)}",
                remedy="remove them",
            )


def _is_ip(text: str) -> bool:
    if "%" in text:  # a zone, which means something on one machine only
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# --- the Secret ------------------------------------------------------------------------------------------------------


def value_digest(value: bytes) -> str:
    """The digest of a Secret's value, as `SecretFacts.digests` has it."""
    return hashlib.sha256(value).hexdigest()[:32]


def seal(digests: Mapping[str, str], *, key_digest: str) -> str:
    """Tells one set of values from another, by the digests of each, to whoever knows the digest of a private key.

    A password is no random number: from a plain digest it could be found by trying. What is keyed with something random
    that is in no annotation tells nothing to those who do not have it. 32 hex digits.
    """
    text = json.dumps(digests, sort_keys=True, separators=(",", ":"))
    return hmac.new(key_digest.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]


def config_digest(config: Mapping[str, Any], dsn_digest: str = "") -> str:
    """Changes when the controllers have to be started anew: they read the config once. 32 hex digits."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{text}\0{dsn_digest}\0{_authentication_text()}".encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class ConfigRecipe:
    """How the Secret with `k0s.yaml` is made (a `hosted_cp.planning.recipes.Recipe`).

    If the database's address stands in a Secret of the user, it is read only when the recipe is fulfilled. What can be
    printed shows of it (and of one that stands in the spec) a digest, so that a changed address is a changed config.
    """

    config: Mapping[str, Any] = field(repr=False)
    #: Name and key of the user's Secret with the database's address; None if there is none.
    dsn_secret: str | None = None
    dsn_key: str = DSN_KEY
    #: What tells that value from another one: a sealed digest (see `seal`).
    dsn_digest: str = ""
    #: The Secret with the tenant's CA, with whose key the content is sealed; needed where there is a `dsn_secret`.
    seal_secret: str = ""
    #: Where the controllers find the key `PASSWORD_FILE`; "" where the store is no PostgreSQL and there is no such key.
    password_file: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.dsn_secret, self.seal_secret) if self.dsn_secret else ()

    def annotations(self, inputs: Inputs) -> Mapping[str, str]:
        """The seal of the content, where a part of it is known to nobody who plans."""
        if not self.dsn_secret:
            return {}
        key = inputs.secrets.get(self.seal_secret, {}).get(SEAL_KEY)
        if not key:
            raise MaterialError(f"Secret {self.seal_secret} has no key {SEAL_KEY}")
        digests = {name: value_digest(value) for name, value in self.fulfil(inputs).items()}
        return {CONTENT_SEAL: seal(digests, key_digest=value_digest(key))}

    def digest(self) -> str:
        """See `config_digest`."""
        return config_digest(self.config, self.dsn_digest)

    def printed(self) -> Mapping[str, Any]:
        password = {PASSWORD_FILE: "<the password of the data source>"} if self.password_file else {}
        return {
            "recipe": "k0s config",
            CONFIG_FILE: self._with_data_source(self._printed_data_source()),
            PROBE_FILE: authentication_config(),
            **password,
        }

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        data_source = self._data_source(inputs)
        password: dict[str, bytes] = {}
        if self.password_file:
            given = data_source or _at(self.config, "spec", "storage", "kine").get("dataSource") or ""
            data_source, text = split_password(given, file=self.password_file)
            password[PASSWORD_FILE] = (text or "# no password was in the data source\n").encode()
        return {
            CONFIG_FILE: _text(self._with_data_source(data_source)).encode(),
            PROBE_FILE: _authentication_text().encode(),
            **password,
        }

    def _printed_data_source(self) -> str | None:
        if self.dsn_secret:
            return f"<{self.dsn_key} of Secret {self.dsn_secret}, digest {self.dsn_digest or 'unknown'}>"
        given = _at(self.config, "spec", "storage", "kine").get("dataSource")
        if given and given != SQLITE:
            return f"<spec.storage.kine.dataSourceURL, digest {hashlib.sha256(given.encode()).hexdigest()[:32]}>"
        return None

    def _data_source(self, inputs: Inputs) -> str | None:
        if not self.dsn_secret:
            return None
        value = inputs.secrets.get(self.dsn_secret, {}).get(self.dsn_key)
        if not value:
            raise MaterialError(f"Secret {self.dsn_secret} has no key {self.dsn_key}")
        try:
            return value.decode().strip()
        except UnicodeDecodeError:
            raise MaterialError(f"key {self.dsn_key} of Secret {self.dsn_secret} is no text") from None

    def _with_data_source(self, data_source: str | None) -> Mapping[str, Any]:
        """The config with another address of the database, None for the one that is in it."""
        if data_source is None or "kine" not in _at(self.config, "spec", "storage"):
            return self.config
        spec = self.config["spec"]
        kine = {**spec["storage"]["kine"], "dataSource": data_source}
        return {**self.config, "spec": {**spec, "storage": {**spec["storage"], "kine": kine}}}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, indent=2)


@cache
def _authentication_text() -> str:
    return _text(authentication_config())
