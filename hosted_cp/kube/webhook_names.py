"""Names by which the webhook and the operator find what they share. The webhook's process and the operator's speak
through these objects alone.

One installation has one of each. An installation that is one provider of Cluster API alone (`hosted-cp run --provider`)
has names of its own, so that two of them do not meet, not even in one namespace."""

from __future__ import annotations

from dataclasses import dataclass

#: All CAs, PEM, that a certificate in use may be signed by: the current one first, then former ones.
BUNDLE = "ca.crt"


def installation(provider: str = "") -> str:
    """What an installation is called: its Deployment, its Lease, its configuration. `provider`: "" if it is all."""
    return f"hosted-cp-{provider}" if provider else "hosted-cp"


@dataclass(frozen=True, kw_only=True)
class Names:
    """Of one webhook."""

    #: Its Service, Deployment and service account.
    service: str
    #: The ValidatingWebhookConfiguration.
    configuration: str

    @property
    def ca_secret(self) -> str:
        """Secret with the CA that signs the webhook's certificate: `tls.crt`, `tls.key`, and under `BUNDLE` what to
        trust."""
        return ca_secret(self.service)


def names(provider: str = "") -> Names:
    """Of the webhook of an installation."""
    return Names(service=f"{installation(provider)}-webhook", configuration=installation(provider))


def ca_secret(service: str) -> str:
    """Where the webhook behind a Service keeps its CA."""
    return f"{service}-ca"


def serving_secret(service: str) -> str:
    """Where it keeps the certificate that is served with."""
    return f"{service}-tls"


#: Of an installation that is all.
SERVICE, CONFIGURATION = names().service, names().configuration
CA_SECRET = ca_secret(SERVICE)
SERVING_SECRET = serving_secret(SERVICE)
