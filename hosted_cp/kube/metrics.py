"""What Prometheus is told. Nothing here is labelled with a tenant's name: their number has no bound.

One object for one operator, with a registry of its own, so that tests can run several in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hosted_cp.kube.client import Sample
from hosted_cp.kube.store import Store

_SHORT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Certificates are counted by how soon they end.
_DAY = 86_400.0
_HORIZONS = {"1d": _DAY, "7d": 7 * _DAY, "30d": 30 * _DAY, "365d": 365 * _DAY}


class Metrics:
    """All metrics of one operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "hosted_cp_api_requests", "Requests to API servers.", ["verb", "kind", "code"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "hosted_cp_api_request_seconds", "Their duration.", ["verb"], buckets=_SHORT, registry=self.registry
        )
        self._wait = Histogram(
            "hosted_cp_queue_wait_seconds", "From being enqueued to being worked on.", ["controller"],
            buckets=_SHORT, registry=self.registry,
        )  # fmt: skip
        self._reconcile = Histogram(
            "hosted_cp_reconcile_seconds", "Work on one key.", ["controller", "outcome"],
            buckets=_SHORT, registry=self.registry,
        )  # fmt: skip
        self._lag = Gauge(
            "hosted_cp_loop_lag_seconds", "By how much the event loop was late, last time.", registry=self.registry
        )
        self._leader = Gauge("hosted_cp_leader", "1 while this process leads.", registry=self.registry)
        # To find the child of a set of labels takes a lock and a check of each; they are few, and asked for always.
        self._request_count = cache(lambda verb, kind, code: self._requests.labels(verb, kind, str(code)))
        self._request_time = cache(self._request_seconds.labels)
        self._reconcile_time = cache(self._reconcile.labels)

    def request(self, sample: Sample) -> None:
        """One finished request."""
        self._request_count(sample.verb, sample.kind, sample.code).inc()
        if sample.verb != "watch":
            self._request_time(sample.verb).observe(sample.seconds)

    def waited(self, controller: str) -> Callable[[float], None]:
        """For a queue: how long each key waited."""
        return self._wait.labels(controller).observe

    def reconciled(self, controller: str, outcome: str, seconds: float) -> None:
        """Work on one key is done."""
        self._reconcile_time(controller, outcome).observe(seconds)

    def lag(self, seconds: float) -> None:
        """How late the event loop was."""
        self._lag.set(seconds)

    def leads(self, yes: bool) -> None:
        """Whether this process leads."""
        self._leader.set(1 if yes else 0)

    def queue(self, controller: str, depth: Callable[[], int]) -> None:
        """Show the depth of a queue whenever somebody asks."""

        def collect() -> Iterable[GaugeMetricFamily]:
            family = GaugeMetricFamily("hosted_cp_queue_depth", "Keys waiting for a worker.", labels=["controller"])
            family.add_metric([controller], depth())
            yield family

        self.collect(collect)

    def conditions(self, store: Store) -> None:
        """Count the objects of a kind by the status of each of their conditions, when asked."""

        def collect() -> Iterable[GaugeMetricFamily]:
            counts: dict[tuple[str, str], int] = {}
            for each in store:
                for condition in each.get("status", "conditions", default=()):
                    key = (str(condition.get("type")), str(condition.get("status")))
                    counts[key] = counts.get(key, 0) + 1
            name = f"hosted_cp_{store.resource.plural}"
            family = GaugeMetricFamily(name, f"{store.resource.kind}s by condition.", labels=["condition", "status"])
            for key, count in sorted(counts.items()):
                family.add_metric(list(key), count)
            yield family

        self.collect(collect)

    def certificates(self, secrets: Store, *, now: Callable[[], datetime]) -> None:
        """How many certificates in Secrets that somebody controls end how soon, and when the first one does."""

        def collect() -> Iterable[GaugeMetricFamily]:
            left = [
                (certificate.not_after - now()).total_seconds()
                for each in secrets
                if each.controller_uid and each.secret is not None
                for certificate in each.secret.certificates.values()
            ]
            first = GaugeMetricFamily("hosted_cp_certificate_expiry_seconds", "Until the first certificate ends.")
            if left:
                first.add_metric([], min(left))
            yield first
            counts = GaugeMetricFamily(
                "hosted_cp_certificates_expiring", "Certificates that end within this time.", labels=["within"]
            )
            for name, horizon in _HORIZONS.items():
                counts.add_metric([name], sum(each <= horizon for each in left))
            yield counts

        self.collect(collect)

    def refused(self, kinds: Callable[[], Iterable[str]]) -> None:
        """Show which kinds the API server does not let us follow."""

        def collect() -> Iterable[GaugeMetricFamily]:
            family = GaugeMetricFamily(
                "hosted_cp_refused_kinds", "1 for a kind that may not be listed or watched.", labels=["kind"]
            )
            for kind in kinds():
                family.add_metric([kind], 1)
            yield family

        self.collect(collect)

    def collect(self, collect: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        """Add metrics that are computed when somebody asks."""
        self.registry.register(_Computed(collect))

    def text(self) -> bytes:
        """What `/metrics` answers."""
        return generate_latest(self.registry)


class _Computed(Collector):
    def __init__(self, collect: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._collect()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # several queues show one name; the names are known to be ours
