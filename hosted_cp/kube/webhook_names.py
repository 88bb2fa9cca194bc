"""Names by which the webhook and the operator find what they share. The webhook's process and the operator's speak
through these objects alone."""

from __future__ import annotations

#: Name of the webhook's Service, Deployment and service account.
SERVICE = "hosted-cp-webhook"
#: Secret with the CA that signs the webhook's certificate: `tls.crt`, `tls.key`, and under `BUNDLE` what to trust.
CA_SECRET = "hosted-cp-webhook-ca"  # noqa: S105 - a name
#: Secret with the certificate that is served with.
SERVING_SECRET = "hosted-cp-webhook-tls"  # noqa: S105 - a name
#: All CAs, PEM, that a certificate in use may be signed by: the current one first, then former ones.
BUNDLE = "ca.crt"
#: Name of the ValidatingWebhookConfiguration.
CONFIGURATION = "hosted-cp"
