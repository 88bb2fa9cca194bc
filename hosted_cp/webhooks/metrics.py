"""What Prometheus is told about the webhook."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """All metrics of one webhook process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "hosted_cp_webhook_answers", "Questions answered.", ["what", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "hosted_cp_webhook_seconds",
            "From the head of a question to its answer.",
            ["what"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._certificate = Gauge(
            "hosted_cp_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate that is served with ends.",
            registry=self.registry,
        )
        self._loads = Counter(
            "hosted_cp_webhook_certificate_loads", "Certificates taken into use.", registry=self.registry
        )

    def answered(self, what: str, code: int, seconds: float) -> None:
        """One question was answered."""
        self._answers.labels(what, str(code)).inc()
        self._seconds.labels(what).observe(seconds)

    def serves_until(self, end: datetime) -> None:
        """A certificate was taken into use."""
        self._loads.inc()
        self._certificate.set(end.astimezone(UTC).timestamp())

    def text(self) -> bytes:
        """What `/metrics` answers."""
        return generate_latest(self.registry)
