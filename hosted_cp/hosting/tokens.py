"""The plan of one `JoinTokenRequest`: a bootstrap token in the tenant, and the join token made of it in a Secret here.

The order makes a crash harmless (DESIGN 5): the id is reserved by the request's UID, then the tenant's Secret is made,
then ours; if ours is missing, nobody has ever seen the token, and the tenant's is replaced. Every token expires. It is
revoked with its request; the finalizer is let go when that is done, or pointless, or when the user forces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hosted_cp.api.join_token_request import DEFAULT_EXPIRY, JoinTokenRequestSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting.names import COMPONENT
from hosted_cp.hosting.pods import Cause
from hosted_cp.hosting.status import of_problems
from hosted_cp.hosting.tenant import Decisions
from hosted_cp.k0s import tokens
from hosted_cp.planning import diff
from hosted_cp.planning.actions import Action, Create, Delete, PatchMetadata, Plan, Ref, Target
from hosted_cp.planning.conditions import Condition, events, merge, parse_rfc3339, rfc3339
from hosted_cp.planning.observed import Observed

FINALIZER = "jointokenrequests.k0smotron.io/finalizer"
#: Put by the user on a request that is being deleted, to let it go although its token could not be revoked.
FORCE = "hosted-cp.io/force-delete"
#: On the Secret with the token: when it ends (RFC 3339, UTC).
EXPIRES = "hosted-cp.io/expires"
CONDITION = "JoinTokenSecretCreated"


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """Everything that one reconcile of a request may know; all objects are of its namespace."""

    now: datetime
    owner: Observed
    spec: JoinTokenRequestSpec | None
    problems: tuple[Problem, ...] = ()
    #: The tenant that the request names.
    cluster: Observed | None = None
    #: What was decided for that tenant (from its config Secret), and the name of the Secret with its CA.
    decisions: Decisions = field(default_factory=Decisions)
    authority: str = ""
    #: The object under the request's name, whoever owns it.
    secret: Observed | None = None
    #: Why the last plan could not be carried out.
    failure: str = ""
    reaches_tenants: bool = True


def plan(view: TokenView) -> Plan:
    """What to do for a request, and what to say about it."""
    if view.owner.deleting:
        return _end(view)
    if view.spec is None or view.problems:
        return Plan(**_report(view, of_problems("SpecInvalid", view.problems)))
    if _ours(view) is not None:
        return _kept(view, view.spec)
    waits = _expired(view) or _waits(view)
    if waits is not None:
        return Plan(actions=tuple(_finalizer(view)), **_report(view, waits))
    # A token whose Secret was lost is made anew, and ends when the lost one would have ended.
    expires = _expires(view) or view.now.replace(microsecond=0) + view.spec.life
    return Plan(
        actions=(*_finalizer(view), *_mint(view, view.spec, expires)),
        retry_after=(expires - view.now).total_seconds(),
        **_report(view, Cause(reason="Minting", message=view.failure or "the token is being made", starting=True)),
    )


def _ours(view: TokenView) -> Observed | None:
    """The Secret with the token, if it is this request's."""
    return view.secret if view.secret is not None and view.secret.controller_uid == view.owner.uid else None


def token_id(view: TokenView) -> str:
    """The public half of the token: fixed by the request's UID, so that no crash can lose it."""
    return tokens.token_id(view.owner.uid)


def _mint(view: TokenView, spec: JoinTokenRequestSpec, expires: datetime) -> list[Action]:
    identifier = token_id(view)
    server = tokens.server_url(view.decisions.address, view.decisions.apiPort)
    return [
        Create(
            target=Target.TENANT,
            body=tokens.bootstrap_secret(id=identifier, request_uid=view.owner.uid),
            recipe=tokens.BootstrapRecipe(id=identifier, role=spec.role, expires=expires),
            replaces=True,
            material=tokens.material_name(identifier),
        ),
        Create(
            body=_body(view, spec, expires),
            recipe=tokens.TokenRecipe(id=identifier, role=spec.role, server=server, ca_secret=view.authority),
        ),
    ]


def _body(view: TokenView, spec: JoinTokenRequestSpec, expires: datetime) -> dict[str, Any]:
    """The Secret with the token, without its data."""
    owner = view.owner
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": owner.ref.name,
            "namespace": owner.ref.namespace,
            "labels": {
                **owner.labels,
                "k0smotron.io/cluster": spec.cluster_name,
                "k0smotron.io/role": spec.role,
                "k0smotron.io/token-request": owner.ref.name,
                COMPONENT: "jointoken",
            },
            "annotations": {EXPIRES: rfc3339(expires)},
            "ownerReferences": [
                {
                    "apiVersion": owner.ref.api_version,
                    "kind": owner.ref.kind,
                    "name": owner.ref.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
    }


def _waits(view: TokenView) -> Cause | None:
    """What has to come first, or None."""
    assert view.spec is not None
    name = view.spec.cluster_name
    if view.secret is not None and view.secret.controller_uid != view.owner.uid:
        return Cause(
            reason="NameConflict",
            message=f"Secret {view.secret.ref.name} exists and belongs to somebody else; delete it, or create the"
            " JoinTokenRequest under another name",
        )
    if (role := tokens.role_problem(view.spec.role)) is not None:
        return of_problems("RoleNotSupported", [role])
    if (gone := _no_cluster(view)) is not None:
        return gone
    if not view.reaches_tenants:
        return Cause(
            reason="TenantNotReachable",
            message="the operator runs outside the cluster and cannot reach tenants; run it in the cluster",
        )
    answered = view.cluster is not None and view.cluster.get("status", "initialized", default=False)
    if not answered or not view.decisions.exposed:
        return Cause(
            reason="ClusterNotReady",
            message=f"Cluster {name} has not answered yet; its conditions say why",
            starting=True,
        )
    return None


def _no_cluster(view: TokenView) -> Cause | None:
    """The tenant is not there, or not for long; a token for it is good for nothing."""
    assert view.spec is not None
    name = view.spec.cluster_name
    if view.cluster is None:
        return Cause(
            reason="ClusterNotFound",
            message=f"Cluster {name} does not exist in namespace {view.owner.ref.namespace}; create it, or create a"
            " JoinTokenRequest for another",
        )
    if view.cluster.deleting:
        return Cause(reason="ClusterDeleting", message=f"Cluster {name} is being deleted; there is nothing to join")
    return None


def _kept(view: TokenView, spec: JoinTokenRequestSpec) -> Plan:
    """The token exists: keep its labels, say how long it can be used, and wake when it ends."""
    secret = _ours(view)
    assert secret is not None
    actions = _finalizer(view)
    # Every token ends: one that no longer says when is taken for as young as its request allows.
    expires = _expires(view) or view.now.replace(microsecond=0) + spec.life
    useless = _expired(view) or _no_cluster(view)
    if useless is not None:
        return Plan(actions=tuple(actions), **_report(view, useless))
    if secret.secret is not None and tokens.TOKEN_KEY not in secret.secret.digests and not secret.deleting:
        # Somebody took the token out. It is nowhere else, so it is made anew.
        spoilt = Cause(reason="Minting", message="the token is made anew", starting=True)
        return Plan(actions=(*actions, Delete(ref=secret.ref, uid=secret.uid)), **_report(view, spoilt))
    if not secret.deleting and (patch := diff.metadata_patch(_body(view, spec, expires), secret)) is not None:
        actions.append(patch)
    return Plan(actions=tuple(actions), retry_after=(expires - view.now).total_seconds(), **_report(view, None))


def _expired(view: TokenView) -> Cause | None:
    expires = _expires(view)
    if expires is None or expires > view.now:
        return None
    return Cause(
        reason="Expired",
        message=f"the token expired at {rfc3339(expires)}; create another JoinTokenRequest for more machines",
    )


def _expires(view: TokenView) -> datetime | None:
    """When the token ends: as its Secret says, or as the status remembers."""
    secret = _ours(view)
    for text in (secret.annotations.get(EXPIRES) if secret else None, view.owner.get("status", "expiration")):
        try:
            return parse_rfc3339(str(text))
        except ValueError:
            continue
    return None


def _end(view: TokenView) -> Plan:
    """Revoke, then let go."""
    owner = view.owner
    if FINALIZER not in owner.finalizers:
        return Plan()
    expires = _expires(view) or _latest_end(view)
    pointless = (
        view.cluster is None
        or view.cluster.deleting
        or not view.cluster.get("status", "initialized", default=False)  # it never had a token
        or (expires is not None and expires + timedelta(minutes=1) < view.now)
        or owner.annotations.get(FORCE) == "true"
    )
    revoke: list[Action] = []
    if not pointless:
        ref = Ref(api_version="v1", kind="Secret", namespace="kube-system", name=tokens.secret_name(token_id(view)))
        revoke = [Delete(target=Target.TENANT, ref=ref, uid=None)]
    release = PatchMetadata(
        ref=owner.ref,
        uid=owner.uid,
        resource_version=owner.resource_version,
        finalizers=tuple(each for each in owner.finalizers if each != FINALIZER),
    )
    if not view.failure or pointless:
        return Plan(actions=(*revoke, release))
    waiting = Cause(
        reason="TenantUnreachable",
        message=f"the token cannot be revoked yet: {view.failure}. It ends by itself"
        f"{' at ' + rfc3339(expires) if expires else ''}; to delete the request now, put the annotation {FORCE}=true on"
        " it",
    )
    return Plan(actions=(*revoke, release), **_report(view, waiting))


def _latest_end(view: TokenView) -> datetime | None:
    """When a token ends that a crash may have left in the tenant without a word about it here: none is made after the
    request was deleted."""
    life = view.spec.life if view.spec is not None else DEFAULT_EXPIRY
    try:
        return parse_rfc3339(str(view.owner.get("metadata", "deletionTimestamp"))) + life
    except ValueError:
        return None


def _finalizer(view: TokenView) -> list[Action]:
    owner = view.owner
    if FINALIZER in owner.finalizers:
        return []
    return [
        PatchMetadata(
            ref=owner.ref,
            uid=owner.uid,
            resource_version=owner.resource_version,
            finalizers=(*owner.finalizers, FINALIZER),
        )
    ]


def _report(view: TokenView, cause: Cause | None) -> dict[str, Any]:
    """Status and Events; `cause` says why there is no usable token."""
    old_status: Mapping[str, Any] = view.owner.get("status", default={})
    old = old_status.get("conditions") or []
    wanted = (
        Condition(type=CONDITION, status="True", reason="Created")
        if cause is None
        else Condition(type=CONDITION, status="False", reason=cause.reason, message=cause.message)
    )
    merged = merge(wanted=[wanted], old=old, generation=view.owner.generation, now=view.now)
    status: dict[str, Any] = {"conditions": merged, "observedGeneration": view.owner.generation}
    if _ours(view) is not None:
        status["tokenID"] = token_id(view)
        if (expires := _expires(view)) is not None:
            status["expiration"] = rfc3339(expires)
    elif "tokenID" in old_status:
        status |= {key: old_status[key] for key in ("tokenID", "expiration") if key in old_status}
    said = f"{cause.reason}: {cause.message}"[:1024] if cause else "Reconciliation successful"
    status["deprecated"] = {"v1beta1": {"reconciliationStatus": said}}
    starting = cause is not None and cause.starting
    return {"status": status, "events": events(merged=merged, old=old, about=CONDITION, starting=starting)}
