"""cert-manager, which can make the webhook's certificates instead of the webhook, for tests of that."""
