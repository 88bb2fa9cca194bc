"""The permit of a tenant's etcd: who may begin with an empty volume, said once and taken back for ever.

etcd lets a member with an empty volume start under its old identity whenever none of its peers answers at that moment.
If a lagging peer joins it, the two are a healthy quorum without the writes that only the third one has. No member can
know from what it can reach whether it is one of those; only a durable record of what has been granted can tell. That
record is the Secret `kmc-<n>-etcd-permit`:

* `cluster-token`: random, made once;
* `bootstrapped`: `false` until all members were ready together for the first time, then `true` for ever;
* `member-<i>`: `new`, later `existing`; behind it the UID of the former tenant whose volume the user has adopted;
* `initial-cluster`, `initial-cluster-state`: what etcd would form a cluster from.

It is read at two places, each time a container starts, from the environment (which the kubelet resolves anew for every
start, while mounted files lag by a minute): by the pod's init step (`scripts/etcd-permit.sh`), which refuses and says
why; and by etcd itself, which takes `initial-cluster` only if its data directory has no write-ahead log. After the
bootstrap that value names no member, so even a volume that is emptied under a running pod ends in etcd's own refusal.

The order makes it safe to lose any message: nothing of the tenant is written before `bootstrapped` is recorded, because
k0s is started only after it, so whatever is lost before was nobody's. A permit that is gone although the tenant has
lived is made anew as `bootstrapped`: then members with data go on, and empty ones stay out. What remains is a volume
that is lost *and* whose new pod was started by a kubelet that could not yet see the flip, while no other member
answers: then that member begins anew, without a quorum of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hosted_cp.hosting.names import ADOPT, TENANT_UID, selector
from hosted_cp.hosting.pods import ready
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning.observed import Observed, SecretFacts
from hosted_cp.planning.recipes import Inputs

PEER_PORT = 2380
#: The volume claim template of the members; claims are called `<this>-<pod>`.
DATA_VOLUME = "etcd-data"

TOKEN = "cluster-token"  # noqa: S105 - the name of a key
BOOTSTRAPPED = "bootstrapped"
INITIAL_CLUSTER = "initial-cluster"
INITIAL_CLUSTER_STATE = "initial-cluster-state"

#: What no member can form a cluster from: it names none of them, and its host cannot exist (RFC 2606).
NO_CLUSTER = f"bootstrapped=https://an-empty-volume-must-not-start.invalid:{PEER_PORT}"
#: The adopted volume has no label that says whose it was.
UNMARKED = "unmarked"


@dataclass(frozen=True, kw_only=True)
class PermitRecipe:
    """The data of the permit. Everything but the token is public and stands in the recipe itself."""

    bootstrapped: bool
    #: Members by ordinal: `<name>=<peer URL>`.
    peers: tuple[str, ...]
    #: By ordinal: the UID of the former tenant whose volume is adopted, or "".
    former: tuple[str, ...]
    #: Whether the Secret exists and its token stays. Without it, a token is made.
    keep_token: bool

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def keeps(self) -> frozenset[str]:
        return frozenset({TOKEN}) if self.keep_token else frozenset()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "etcdPermit", TOKEN: "random, kept", **self.public()}

    def public(self) -> dict[str, str]:
        """All keys and values but the token."""
        grant = "existing" if self.bootstrapped else "new"
        return {
            BOOTSTRAPPED: "true" if self.bootstrapped else "false",
            INITIAL_CLUSTER: NO_CLUSTER if self.bootstrapped else ",".join(self.peers),
            INITIAL_CLUSTER_STATE: grant,
            **{member_key(i): f"{grant} {former}".rstrip() for i, former in enumerate(self.former)},
        }

    def facts(self) -> SecretFacts:
        """What can be known of the Secret without knowing the token."""
        return SecretFacts(type="Opaque", digests={TOKEN: "", **{key: _digest(v) for key, v in self.public().items()}})

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        made = {} if self.keep_token else {TOKEN: inputs.entropy(16).hex().encode()}
        return {**made, **{key: value.encode() for key, value in self.public().items()}}


def member_key(ordinal: int) -> str:
    return f"member-{ordinal}"


def member_name(t: Tenant, ordinal: int) -> str:
    """The name of a member, which is its pod's."""
    return f"{t.names.etcd}-{ordinal}"


@once
def members(t: Tenant) -> int:
    """How many members the tenant's etcd has: as many as were granted, for life.

    A grant that somebody took out of the permit ends no member that runs as it was decided.
    """
    facts = _facts(t)
    granted = sum(1 for key in facts if key.startswith("member-")) if facts else 0
    live = t.view.own("StatefulSet", t.names.etcd)
    running = int(live.get("spec", "replicas", default=0) if live else 0)
    if granted and running != t.former.etcdMembers:
        return granted
    return running or granted or t.decisions.etcdMembers


@once
def member_pods(t: Tenant) -> dict[str, Observed]:
    """The pods of the members by name. Pods of another StatefulSet of that name are none of them."""
    live = t.view.own("StatefulSet", t.names.etcd)
    mine = selector(t.name, "etcd")
    return {
        pod.ref.name: pod
        for pod in t.view.pods
        if live is not None
        and pod.controller_uid == live.uid
        and all(pod.labels.get(key) == value for key, value in mine.items())
    }


@once
def member_claims(t: Tenant) -> dict[str, Observed]:
    """The volume claims under the members' names, whoever made them."""
    wanted = {f"{DATA_VOLUME}-{member_name(t, i)}" for i in range(members(t))}
    return {claim.ref.name: claim for claim in t.view.claims if claim.ref.name in wanted}


@once
def is_bootstrapped(t: Tenant) -> bool:
    """Whether k0s may use the store: the permit says so, or will say so by an earlier action of this very plan.

    Plans carry out their actions in order and stop at the first that fails, and etcd stands before k0s in it.
    """
    return _recorded(t) or _has_lived(t) or all_ready(t)


def all_ready(t: Tenant) -> bool:
    """Whether all members are ready together now, at the current revision: each has a quorum and its log on disk."""
    live = t.view.own("StatefulSet", t.names.etcd)
    if live is None or live.deleting or not _facts(t):
        return False
    status: Mapping[str, Any] = live.get("status", default={})
    revision = status.get("updateRevision")
    count = members(t)
    if not revision or status.get("observedGeneration") != live.generation or live.get("spec", "replicas") != count:
        return False
    pods = member_pods(t)
    return count > 0 and all(
        (pod := pods.get(member_name(t, i))) is not None
        and ready(pod)
        and pod.labels.get("controller-revision-hash") == revision
        for i in range(count)
    )


def recipe(t: Tenant) -> PermitRecipe:
    count = members(t)
    facts = _facts(t)
    return PermitRecipe(
        bootstrapped=is_bootstrapped(t),
        peers=tuple(
            f"{member_name(t, i)}=https://{member_name(t, i)}.{t.names.etcd}:{PEER_PORT}" for i in range(count)
        ),
        former=tuple(_former(t, i) for i in range(count)),
        keep_token=TOKEN in facts,
    )


def wanted(t: Tenant) -> Wanted:
    """The permit. It is never absent from the plan of a tenant with etcd, or a later one would take it for lost."""
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": t.metadata(t.names.etcd_permit, component="etcd", part="etcd"),
        "type": "Opaque",
    }
    made = recipe(t)
    secret = t.view.own("Secret", t.names.etcd_permit)
    unknown = secret is not None and secret.secret is None
    facts = _facts(t)
    current = unknown or (
        TOKEN in facts and all(facts.get(key) == _digest(value) for key, value in made.public().items())
    )
    return Wanted(body=body, recipe=made, current=current)


@once
def _facts(t: Tenant) -> Mapping[str, str]:
    """Digests of the permit's values; empty if it does not exist or is not ours."""
    secret = t.view.own("Secret", t.names.etcd_permit)
    return secret.secret.digests if secret is not None and secret.secret is not None else {}


def _recorded(t: Tenant) -> bool:
    """Whether the permit records the bootstrap. Anything but a clear "false" does: nobody else writes it."""
    facts = _facts(t)
    return bool(facts) and TOKEN in facts and facts.get(BOOTSTRAPPED) != _digest("false")


def _has_lived(t: Tenant) -> bool:
    """Whether something exists that only comes after the bootstrap, or after a permit that is gone now.

    The permit is the first object of etcd that is written, and the tenant's config is written after it. A volume that
    the user has adopted brings the data of a tenant that has lived.
    """
    if t.view.own("StatefulSet", t.names.control_plane) is not None or any(_former(t, i) for i in range(members(t))):
        return True
    secret = t.view.own("Secret", t.names.etcd_permit)
    if secret is not None and (secret.secret is None or TOKEN in secret.secret.digests):
        return False
    return (
        t.view.own("StatefulSet", t.names.etcd) is not None
        or bool(t.former.version)
        or any(claim.labels.get(TENANT_UID) == t.uid for claim in member_claims(t).values())
    )


def _former(t: Tenant, ordinal: int) -> str:
    """Whose volume the user has adopted for this member: a UID, `UNMARKED`, or "" for none."""
    claim = member_claims(t).get(f"{DATA_VOLUME}-{member_name(t, ordinal)}")
    if claim is None or claim.annotations.get(ADOPT) != t.uid:
        return ""
    former = claim.labels.get(TENANT_UID, UNMARKED)
    return "" if former == t.uid else former


def _digest(value: str) -> str:
    """As `SecretFacts.digests` has it."""
    return hashlib.sha256(value.encode()).hexdigest()[:32]
