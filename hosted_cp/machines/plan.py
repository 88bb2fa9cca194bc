"""The plan of one `K0sWorkerConfig`: a join token in the tenant, and the bootstrap Secret that is made of it.

The steps are those of a `JoinTokenRequest`, in the same order, for the same reasons (docs/decisions/0007): the token's
id follows from the config's UID, the tenant's Secret is created or adopted, and then ours is. Around them stands the
bootstrap contract of Cluster API: nothing before the owner, the infrastructure and the control plane are there; the
data are made once, and whatever the spec says later, they stay as they are; a lost status is told again from what is
there.

The token lives for an hour, and for as long as its Machine has not become a Node its end is moved in the tenant: same
id, same secret half, so user data that the infrastructure has copied somewhere go on working. Once the Machine has its
Node the token is revoked. The finalizer says that there may be one to revoke, and stays exactly as long. The machines
of a pool come and go, so its token is never done with; it is made anew, with new data, before half of its life is over
(docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hosted_cp.api import worker_config_checks
from hosted_cp.api.worker_config import K0sWorkerConfigSpec
from hosted_cp.api.worker_config_checks import CLUSTER_LABEL
from hosted_cp.k0s import tokens
from hosted_cp.machines import nodes, readiness, status
from hosted_cp.machines.mapping import age_warning
from hosted_cp.machines.recipes import SECRET_TYPE, VALUE_KEY, WorkerDataRecipe
from hosted_cp.machines.render import size_warnings, warnings_of
from hosted_cp.machines.view import CORE_GROUP, WorkerView, cluster_name, group_of, owning_machine
from hosted_cp.machines.worker import Worker
from hosted_cp.pki.recipes import KUBECONFIG_KEY
from hosted_cp.planning import diff
from hosted_cp.planning.actions import (
    Action,
    Create,
    Delete,
    PatchMetadata,
    Plan,
    Ref,
    Replace,
    Target,
)
from hosted_cp.planning.conditions import Cause, parse_rfc3339, rfc3339
from hosted_cp.planning.observed import Observed

FINALIZER = "k0sworkerconfigs.hosted-cp.io/finalizer"
#: Put by the user on a config, to let it go (or be at rest) although its token could not be revoked.
FORCE = "hosted-cp.io/force-delete"

#: On the bootstrap Secret: whose token is in it (UID of the config, and which one it is of a pool's), and for which
#: generation of the config it was made.
TOKEN_OF = "hosted-cp.io/token-of"  # noqa: S105 - a name
MADE_FOR = "hosted-cp.io/made-for-generation"

#: How long a token lives; its end is moved when a third of that is left.
LIFE = timedelta(hours=1)
EXTENDED_AT = LIFE / 3
#: A pool's token is made anew when half of its life is left: each time the infrastructure has to take over new data.
POOL_LIFE = timedelta(hours=24)
ROTATED_AT = POOL_LIFE / 2


def plan(view: WorkerView) -> Plan:
    """What to do for a worker's bootstrap, and what to say about it."""
    if view.paused:
        return status.paused(view)
    if view.owner.deleting:
        return _end(view)
    if view.machine is None:
        return _unowned(view)
    if view.cluster is None:
        missing = (
            f"Cluster {cluster_name(view.machine)}, which {_machine(view)} belongs to, does not exist in namespace"
            f" {view.owner.ref.namespace}"
        )
        return status.waiting(view, Cause(reason="WaitingForCluster", message=missing, starting=True))
    if view.handed_over not in ("", view.owner.ref.name):
        # Somebody else has made them, and they are in use.
        return _joined(view, view.handed_over) if view.joined else status.available(view, view.handed_over)
    return _with_machine(view)


def _unowned(view: WorkerView) -> Plan:
    reference = owning_machine(view.owner)
    of_core = any(group_of(each) == CORE_GROUP for each in view.owner.owner_references)
    if reference is None and (of_core or view.owner.get("status", "dataSecretName")):
        # The MachineSet's, which hands it to its Machine in a moment; or somebody took the owner off, and Cluster API
        # puts it back.
        return Plan()
    named = f"{reference['kind']} {reference['name']}" if reference is not None else "no Machine"
    cause = Cause(
        reason="WaitingForMachine",
        message=f"{named} owns this object{', and does not exist' if reference is not None else ' yet'}: name it in"
        " spec.bootstrap.configRef of a Machine",
        starting=True,
    )
    return status.waiting(view, cause)


def _with_machine(view: WorkerView) -> Plan:
    """The data are there, or not needed, or to be made, or something is waited for."""
    if (secret := _made(view)) is not None:
        return _kept(view, secret)
    if view.joined:
        # Lost, and nobody will ask for them.
        return _joined(view, view.owner.ref.name)
    found = readiness.ready_to_make(view, in_the_way=_in_the_way(view))
    if isinstance(found, Cause):
        return status.waiting(view, found)
    stranger = view.secret
    if stranger is not None and stranger.controller_uid not in ("", view.owner.uid):
        return Plan(actions=(_without_controller(stranger),))
    making = Cause(reason="Minting", message="the bootstrap data are being made", starting=True)
    expires = view.now.replace(microsecond=0) + (POOL_LIFE if view.pool else LIFE)
    return status.waiting(
        view, making, actions=(*_finalizer(view), *_mint(view, found, _holder(view), expires, onto=stranger))
    )


def _machine(view: WorkerView) -> str:
    assert view.machine is not None
    return f"{view.machine.ref.kind} {view.machine.ref.name}"


# --- what is there ---------------------------------------------------------------------------------------------------


def _made(view: WorkerView) -> Observed | None:
    """The Secret with the data, if they are ours or have been handed over: then they are not made again."""
    seen = view.secret
    if seen is None or seen.secret is None or (VALUE_KEY not in seen.secret.digests and not view.joined):
        return None
    ours = seen.controller_uid == view.owner.uid or _held_by(seen).partition(".")[0] == view.owner.uid
    return seen if ours or view.handed_over else None


def _held_by(secret: Observed) -> str:
    """Whose token is in it; "" where nobody said so."""
    return secret.annotations.get(TOKEN_OF, "")


def _holder(view: WorkerView, *, turn: int = 0) -> str:
    return f"{view.owner.uid}.{turn}" if turn else view.owner.uid


def _turn(secret: Observed) -> int:
    number = _held_by(secret).partition(".")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _expires(secret: Observed | None) -> datetime | None:
    return _moment(secret.annotations.get(tokens.EXPIRES)) if secret is not None else None


def _moment(text: object) -> datetime | None:
    try:
        return parse_rfc3339(str(text))
    except ValueError:
        return None


def _stale_controller(view: WorkerView, secret: Observed) -> bool:
    """Whether what controls it is a former life of this config."""
    return any(
        each.get("controller") and each.get("kind") == view.owner.ref.kind and each.get("name") == view.owner.ref.name
        for each in secret.owner_references
    )


def _in_the_way(view: WorkerView) -> Cause | None:
    """A Secret under our name that is not ours to write. One without an owner, or of a former life, is taken over if it
    is of Cluster API's type: then nothing else can be meant by it."""
    seen = view.secret
    if seen is None or seen.controller_uid == view.owner.uid:
        return None
    if seen.deleting:
        gone = f"a former Secret {seen.ref.name} is still being deleted"
        return Cause(reason="WaitingForSecret", message=gone, starting=True)
    foreign = bool(seen.controller_uid) and not _stale_controller(view, seen)
    if not foreign and seen.secret is not None and seen.secret.type == SECRET_TYPE:
        return None
    return Cause(
        reason="NameConflict",
        message=f"Secret {seen.ref.name} exists and belongs to somebody else; delete it, or let the Machine be made"
        " anew under another name",
    )


def _without_controller(secret: Observed) -> PatchMetadata:
    """Takes the controller of a former life off: there can be only one."""
    rest = tuple(each for each in secret.owner_references if not each.get("controller"))
    return PatchMetadata(
        ref=secret.ref, uid=secret.uid, resource_version=secret.resource_version, owner_references=rest
    )


# --- making ----------------------------------------------------------------------------------------------------------


def _finalizer(view: WorkerView) -> list[Action]:
    return [] if FINALIZER in view.owner.finalizers else [_with_finalizers(view, (*view.owner.finalizers, FINALIZER))]


def _with_finalizers(view: WorkerView, finalizers: tuple[str, ...]) -> PatchMetadata:
    owner = view.owner
    return PatchMetadata(ref=owner.ref, uid=owner.uid, resource_version=owner.resource_version, finalizers=finalizers)


def _mint(
    view: WorkerView,
    worker: Worker,
    holder: str,
    expires: datetime,
    *,
    onto: Observed | None,
    prolongs: bool = False,
) -> list[Action]:
    """A token that the tenant knows, and the data made of it, in this order. `prolongs`: where both are there, only
    their end is moved."""
    assert view.spec is not None
    assert view.endpoint is not None
    assert view.way is not None
    identifier = tokens.token_id(holder)
    generation = onto.annotations.get(MADE_FOR, "") if onto is not None and prolongs else str(view.owner.generation)
    body = _body(view, view.spec, {TOKEN_OF: holder, MADE_FOR: generation})
    recipe = WorkerDataRecipe(
        worker=worker,
        token_id=identifier,
        server=tokens.server_url(*view.endpoint),
        ca_secret=view.way.authority,
        ca_key=KUBECONFIG_KEY if view.way.kubeconfig else "tls.crt",
        kubeconfig=view.way.kubeconfig,
    )
    return [
        _token(holder, expires, prolongs=prolongs),
        Create(body=body, recipe=recipe)
        if onto is None
        else Replace(
            body=body,
            recipe=recipe,
            uid=onto.uid,
            resource_version=onto.resource_version,
            keep=tokens.DIGEST if prolongs else "",
        ),
    ]


def _token(holder: str, expires: datetime, *, prolongs: bool) -> Create:
    identifier = tokens.token_id(holder)
    return Create(
        target=Target.TENANT,
        body=tokens.bootstrap_secret(id=identifier, request_uid=holder),
        recipe=tokens.BootstrapRecipe(id=identifier, role=tokens.WORKER, expires=expires, prolongs=prolongs),
        material=tokens.material_name(identifier),
    )


def _body(view: WorkerView, spec: K0sWorkerConfigSpec, marks: dict[str, str]) -> dict[str, Any]:
    """The bootstrap Secret without its data."""
    assert view.cluster is not None
    owner, users = view.owner, spec.secret_metadata
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": {
            "name": owner.ref.name,
            "namespace": owner.ref.namespace,
            "labels": {**(users.labels if users else {}), CLUSTER_LABEL: view.cluster.ref.name},
            "annotations": {**(users.annotations if users else {}), **marks},
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


# --- while the data are there ----------------------------------------------------------------------------------------


def _kept(view: WorkerView, secret: Observed) -> Plan:
    """Look after labels, owner and token; leave the data alone."""
    name = secret.ref.name
    if secret.deleting:
        return _joined(view, name) if view.joined else status.available(view, name)
    actions = list(_metadata(view, secret))
    if view.joined:
        return _joined(view, name, notes=_notes(view, secret), actions=actions)
    if view.pool:
        upkeep = _rotation(view, secret)
    elif _held_by(secret) and not view.leaving:
        upkeep = _extension(view, secret)
    else:
        upkeep = _Upkeep()
    if actions:
        upkeep = replace(upkeep, actions=())  # they were planned for a Secret that is about to change
    made = status.available(
        view,
        name,
        notes=(*_notes(view, secret), *upkeep.notes),
        actions=(
            *(_finalizer(view) if _held_by(secret) else ()),
            *actions,
            *upkeep.actions,
            *nodes.identification(view),
        ),
        retry_after=upkeep.after,
    )
    return replace(made, probes=tuple(nodes.probes(view)))


@dataclass(frozen=True, kw_only=True)
class _Upkeep:
    """What a token needs, and in how many seconds it has to be looked at again."""

    actions: tuple[Action, ...] = ()
    after: float | None = None
    notes: tuple[str, ...] = ()


def _metadata(view: WorkerView, secret: Observed) -> Iterator[Action]:
    """Bring labels, annotations and the owner back, also where somebody has taken them off."""
    if secret.controller_uid not in ("", view.owner.uid):
        if _stale_controller(view, secret):
            yield _without_controller(secret)
        return
    if view.spec is None:
        return
    # Without a word about it, but with our finalizer, somebody has taken the word off.
    held = _held_by(secret) or (view.owner.uid if FINALIZER in view.owner.finalizers else "")
    marks = {TOKEN_OF: held, MADE_FOR: secret.annotations.get(MADE_FOR, "")}
    body = _body(view, view.spec, {key: value for key, value in marks.items() if value})
    if (patch := diff.metadata_patch(body, secret)) is not None:
        yield patch


def _extension(view: WorkerView, secret: Observed) -> _Upkeep:
    """Move the end of a Machine's token. What the tenant has lost is made anew, and then the data are, too."""
    expires = _expires(secret)
    due = expires - EXTENDED_AT if expires is not None else view.now
    if due > view.now:
        return _Upkeep(after=(due - view.now).total_seconds())
    if (waits := readiness.waits(view)) is not None:
        return _Upkeep(notes=(f"the join token cannot be extended: {waits.message}",))
    until = view.now.replace(microsecond=0) + LIFE
    worker = readiness.worker(view)
    if isinstance(worker, Worker):
        actions = _mint(view, worker, _held_by(secret), until, onto=secret, prolongs=True)
    else:
        # What the spec says by now does not matter, as long as nothing has to be made of it.
        actions = [
            _token(_held_by(secret), until, prolongs=True),
            PatchMetadata(
                ref=secret.ref, uid=secret.uid, resource_version=secret.resource_version,
                annotations={tokens.EXPIRES: rfc3339(until)},
            ),
        ]  # fmt: skip
    return _Upkeep(
        actions=tuple(actions),
        after=(LIFE - EXTENDED_AT).total_seconds(),
        notes=_failed(view, "the join token cannot be extended"),
    )


def _rotation(view: WorkerView, secret: Observed) -> _Upkeep:
    """Another token and other data for the machines of a pool that are still to come."""
    expires = _expires(secret)
    due = expires - ROTATED_AT if expires is not None else view.now
    if due > view.now:
        return _Upkeep(after=(due - view.now).total_seconds())
    worker = readiness.ready_to_make(view, in_the_way=_in_the_way(view))
    if isinstance(worker, Cause):
        return _Upkeep(notes=(f"the join token cannot be made anew: {worker.message}",))
    until = view.now.replace(microsecond=0) + POOL_LIFE
    return _Upkeep(
        actions=tuple(_mint(view, worker, _holder(view, turn=_turn(secret) + 1), until, onto=secret)),
        after=(POOL_LIFE - ROTATED_AT).total_seconds(),
        notes=_failed(view, "the join token cannot be made anew"),
    )


def _failed(view: WorkerView, what: str) -> tuple[str, ...]:
    return (f"{what}: {view.failure}",) if view.failure else ()


def _notes(view: WorkerView, secret: Observed) -> Iterator[str]:
    """What is worth knowing about data that are there."""
    made_for = secret.annotations.get(MADE_FOR, "")
    if made_for and made_for != str(view.owner.generation):
        yield (
            "the spec was changed after the bootstrap data had been made, which changes nothing for this machine:"
            " change the template, so that others are made"
            if not view.pool
            else "the spec was changed after the bootstrap data had been made; they follow when the join token is made"
            f" anew, within {ROTATED_AT.total_seconds() / 3600:g} hours"
        )
    if view.joined:
        return
    if secret.secret is not None:
        yield from size_warnings(secret.secret.size)
    if view.spec is not None:
        yield from (str(each) for each in worker_config_checks.warnings(view.spec))
        worker = readiness.worker(view)
        if isinstance(worker, Worker):
            yield from warnings_of(worker)
            if old := age_warning(worker, view.control_plane):
                yield old
    yield from nodes.notes(view)


# --- the end ---------------------------------------------------------------------------------------------------------


def _joined(view: WorkerView, name: str, *, notes: Iterable[str] = (), actions: Iterable[Action] = ()) -> Plan:
    """The machine is a Node: its token is revoked, and that is all. While that fails, a condition says so."""
    released = _released(view)
    unrevoked = _unrevoked(view) if released else None
    return status.available(view, name, notes=notes, actions=(*actions, *released), unrevoked=unrevoked)


def _unrevoked(view: WorkerView) -> Cause | None:
    """Why the token is still good in the tenant, if the last plan failed of that. (It is tried again with growing
    pauses, as everything that failed.)"""
    if not view.failure or _pointless(view):
        return None
    return Cause(
        reason="RevocationFailed",
        message=f"the join token cannot be revoked yet: {view.failure}. It is tried again until the tenant answers"
        f" and allows it; the token ends by itself at {rfc3339(_ends(view))}; to give it up now, put the annotation"
        f" {FORCE}=true on this object",
    )


def _revocation(view: WorkerView) -> list[Action]:
    """Take the tokens out of the tenant that may still be good: the one in the data, and the one before it."""
    holder = _held_by(view.secret) if view.secret is not None else ""
    holders = [holder or view.owner.uid]
    if turn := (_turn(view.secret) if view.secret is not None else 0):
        base = holder.partition(".")[0]
        holders += [f"{base}.{turn + 1}", f"{base}.{turn - 1}" if turn > 1 else base]
    elif view.pool:
        holders.append(f"{holders[0]}.1")
    return [
        Delete(
            target=Target.TENANT,
            ref=Ref(
                api_version="v1", kind="Secret", namespace="kube-system", name=tokens.secret_name(tokens.token_id(each))
            ),
            uid=None,
            labels={tokens.REQUEST_LABEL: each},
        )
        for each in holders
    ]


def _ends(view: WorkerView) -> datetime:
    """When the token ends by itself at the latest."""
    known = _expires(view.secret)
    if known is not None:
        return known
    since = next((each for each in _done_with(view) if each is not None), view.now)
    return since + (POOL_LIFE if view.pool else LIFE)


def _done_with(view: WorkerView) -> Iterator[datetime | None]:
    """Since when nothing has extended the token at the latest: since its config is deleted, or its end is tried."""
    yield _moment(view.owner.get("metadata", "deletionTimestamp"))
    yield _moment(status.since(view, status.REVOKED))


def _pointless(view: WorkerView) -> bool:
    """Whether there is nothing to revoke, or nobody to ask."""
    return (
        view.cluster is None
        or view.cluster.deleting
        or view.control_plane is None
        or _ends(view) + timedelta(minutes=1) < view.now
        or view.owner.annotations.get(FORCE) == "true"
    )


def _released(view: WorkerView) -> tuple[Action, ...]:
    """Revoke and let go, once."""
    if FINALIZER not in view.owner.finalizers:
        return ()
    release = _with_finalizers(view, tuple(each for each in view.owner.finalizers if each != FINALIZER))
    return (release,) if _pointless(view) else (*_revocation(view), release)


def _end(view: WorkerView) -> Plan:
    """Revoke, then let go. It is let go without, when the token has ended."""
    actions = _released(view)
    cause = _unrevoked(view)
    if not actions or cause is None:
        return Plan(actions=actions)
    wait = (_ends(view) - view.now).total_seconds() + 61
    return status.waiting(view, cause, actions=actions, retry_after=max(0.0, wait), unrevoked=cause)
