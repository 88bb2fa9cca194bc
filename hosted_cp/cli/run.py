"""`hosted-cp run`: from options to a running operator."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hosted_cp.cli import logs
from hosted_cp.cli.render import catalogue
from hosted_cp.controllers import join_tokens, tenants, worker_configs
from hosted_cp.controllers.clusters import Clusters
from hosted_cp.controllers.control_planes import ControlPlanes
from hosted_cp.controllers.join_tokens import JoinTokens
from hosted_cp.controllers.worker_configs import WorkerConfigs
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube import credentials
from hosted_cp.kube.cache import Watched
from hosted_cp.kube.definitions import resources
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import CLUSTER, CONTROL_PLANE, JOIN_TOKEN_REQUEST, WORKER_CONFIG
from hosted_cp.operator import Kind, Operator, Options, PartEnded, Parts

log = logging.getLogger(__name__)


def kinds(settings: Settings, *, cluster_wide: bool = True, provider: str = "") -> tuple[Kind, ...]:
    """The controllers of this operator, or of it as one provider. `cluster_wide`: nodes and storage classes may be
    read."""

    def build_clusters(parts: Parts) -> Clusters:
        return Clusters(parts.caches, settings, now=parts.sources.now, findings=parts.prober.findings)

    def build_control_planes(parts: Parts) -> ControlPlanes:
        return ControlPlanes(parts.caches, settings, now=parts.sources.now, findings=parts.prober.findings)

    def build_join_tokens(parts: Parts) -> JoinTokens:
        now = parts.sources.now
        of_clusters = Clusters(parts.caches, settings, now=now)
        of_control_planes = ControlPlanes(parts.caches, settings, now=now)
        return JoinTokens(parts.caches, settings, of_clusters, of_control_planes, now=now)

    def build_worker_configs(parts: Parts) -> WorkerConfigs:
        now = parts.sources.now
        of_control_planes = ControlPlanes(parts.caches, settings, now=now)
        return WorkerConfigs(parts.caches, settings, of_control_planes, now=now, findings=parts.prober.findings)

    of_tenants = tuple(tenants.watched(cluster_wide=cluster_wide))
    with_core = (*of_tenants, tenants.CORE_CLUSTERS)
    found = (
        Kind(resource=CLUSTER, watched=(Watched(resource=CLUSTER), *of_tenants), build=build_clusters),
        Kind(resource=CONTROL_PLANE, watched=with_core, build=build_control_planes),
        Kind(resource=JOIN_TOKEN_REQUEST, watched=(*join_tokens.watched(), *with_core), build=build_join_tokens),
        Kind(
            resource=WORKER_CONFIG,
            watched=(*worker_configs.watched(), *with_core),
            build=build_worker_configs,
            # Each machine that has not joined yet waits for its Node, which costs nothing: all share one watch.
            questions=10_000,
        ),
    )
    wanted = resources(provider).values()
    return tuple(each for each in found if each.resource in wanted)


def settings_of(options: Mapping[str, Any], *, in_cluster: bool) -> Settings:
    """The planners' settings from the command's options."""
    return Settings(
        catalogue=catalogue(),
        k0s_image=options.get("k0s_image") or None,
        etcd_image=options.get("etcd_image") or None,
        cluster_domain=options["cluster_domain"],
        privileged_namespaces=frozenset(options["privileged_namespaces"]),
        network_policies=options["network_policies"],
        reaches_tenants=in_cluster,
        priority_class=options["priority_class"] or "",
    )


def run_operator(options: Mapping[str, Any]) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code; what went wrong is logged in one line."""
    logs.configure(options["log_format"], options["log_level"])
    try:
        with _rare_collections():
            asyncio.run(_run(options))
    except credentials.CredentialsError as error:
        log.error("%s", error)
        return 2
    except (ApiError, PartEnded, OSError) as error:
        log.error("ended: %s", error)
        return 1
    return 0


#: Container objects made and not freed after which the youngest are searched for garbage in cycles; how often that is
#: until the next older are, too (`gc.set_threshold`). Caches and modules have none, and are most of what there is.
_THRESHOLDS = (20_000, 20, 20)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Search for garbage in cycles less often; everything else is freed by counting references.

    A search of everything takes a fifth of a second with a thousand tenants, in which nothing else is done. As Python
    comes, there is one each time what is kept has grown by a quarter: a fifth of all CPU while caches fill.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def _spare(operator: Operator) -> None:
    """Once the caches are filled, what is there is never searched again."""
    await operator.synced.wait()
    gc.freeze()


async def _run(options: Mapping[str, Any]) -> None:
    kubeconfig: Path | None = options["kubeconfig"]
    namespaces = tuple(options["namespaces"])
    access = await credentials.from_kubeconfig(kubeconfig) if kubeconfig else credentials.in_cluster()
    settings = settings_of(options, in_cluster=kubeconfig is None)
    if namespaces:
        log.info("looking after %s only; nodes and StorageClasses are not read", ", ".join(namespaces))
    operator = Operator(
        access,
        kinds(settings, cluster_wide=not namespaces, provider=options["provider"] or ""),
        options=Options(
            namespaces=namespaces,
            workers=options["concurrency"],
            health_address=options["health_address"],
            metrics_address=options["metrics_address"],
            lease_namespace=os.environ.get("POD_NAMESPACE") or "hosted-cp",
            webhook_namespace=os.environ.get("POD_NAMESPACE") or "hosted-cp",
            provider=options["provider"] or "",
            identity=f"{os.environ.get('POD_NAME') or os.uname().nodename}_{os.getpid()}_{datetime.now(UTC):%H%M%S%f}",
        ),
    )
    sparing = asyncio.create_task(_spare(operator), name="freeze")
    try:
        await operator.run()
    finally:
        sparing.cancel()
