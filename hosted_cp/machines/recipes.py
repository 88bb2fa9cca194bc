"""How the bootstrap Secret of a machine is made (a `hosted_cp.planning.recipes.Recipe`).

The join token is minted in the same plan, by the same two steps as a `JoinTokenRequest`'s (`hosted_cp.k0s.tokens`): a
`Create` in the tenant with `BootstrapRecipe` and `material=material_name(id)` comes first, then the `Create` (or, for a
machine that was too slow for its first token, the `Replace`) of the bootstrap Secret with this recipe, to which the
executor hands on what it has just drawn. So the secret half stands in the tenant's Secret and in the user data only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hosted_cp.k0s import tokens
from hosted_cp.machines.render import render
from hosted_cp.machines.worker import Content, Resolved, SecretValue, Worker, WorkerError, secret_values
from hosted_cp.pki import kubeconfig
from hosted_cp.planning.recipes import Inputs, MaterialError

#: Keys of the bootstrap Secret (Cluster API's bootstrap contract).
VALUE_KEY = "value"
FORMAT_KEY = "format"

#: The Secret's type.
SECRET_TYPE = "cluster.x-k8s.io/secret"  # noqa: S105 - a name


@dataclass(frozen=True, kw_only=True)
class WorkerDataRecipe:
    """Makes `value` and `format` of a bootstrap Secret."""

    worker: Worker
    #: The join token's id.
    token_id: str
    #: URL of the API that the worker joins.
    server: str
    #: The Secret with the tenant's CA certificate, and its key; or with the kubeconfig in which that is.
    ca_secret: str
    ca_key: str = "tls.crt"
    kubeconfig: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        brought = dict.fromkeys(each.material for each in secret_values(self.worker))
        return (self.ca_secret, tokens.material_name(self.token_id), *brought)

    def printed(self) -> Mapping[str, Any]:
        """The inputs, not the text: a new release may word the text otherwise, and that is no reason to write the user
        data of a running machine again. Contents by their digests."""
        worker = self.worker
        key = f"CA of the kubeconfig {self.ca_key}" if self.kubeconfig else self.ca_key
        found: dict[str, Any] = {
            "recipe": "worker user data",
            "format": str(worker.format),
            "platform": str(worker.platform),
            "machine": worker.name,
            "pool": worker.pool,
            "version": str(worker.version),
            "token": f"<join token {self.token_id} for {self.server}, ca: {key} of Secret {self.ca_secret}>",
            "files": [
                {"path": each.path, "permissions": each.permissions, "content": _described(each.content)}
                for each in worker.files
            ],
            "commands": {
                "pre": [_described(each.encode(errors="surrogatepass")) for each in worker.pre_commands],
                "post": [_described(each.encode(errors="surrogatepass")) for each in worker.post_commands],
            },
            "args": list(worker.args),
            "taints": list(worker.taints),
            "k0s": {
                "downloadURL": worker.download_url,
                "checksum": worker.checksum,
                "preInstalled": worker.pre_installed,
                "installDir": worker.install_dir,
            },
            "workingDir": worker.working_dir,
            "useSystemHostname": worker.use_system_hostname,
            "providerID": worker.provider_id,
            "instanceData": worker.instance_data,
        }
        if worker.ignition is not None:
            found["ignition"] = {
                "variant": worker.ignition.variant,
                "version": worker.ignition.version,
                "additionalConfig": _described(worker.ignition.additional_config.encode(errors="surrogatepass")),
            }
        if worker.custom is not None:
            found["customUserData"] = _described(worker.custom)
        return found

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        """Raises `MaterialError`."""
        token = tokens.TokenRecipe(
            id=self.token_id, role=tokens.WORKER, server=self.server, ca_secret=self.ca_secret, ca_key=self.ca_key
        ).fulfil(self._with_ca(inputs))[tokens.TOKEN_KEY]
        contents = {each: _brought(inputs, each) for each in secret_values(self.worker)}
        try:
            data = render(self.worker, Resolved(token=token.decode(), contents=contents))
        except WorkerError as error:
            raise MaterialError(str(error)) from None
        return {VALUE_KEY: data.value, FORMAT_KEY: str(data.format).encode()}

    def _with_ca(self, inputs: Inputs) -> Inputs:
        """What the token is made of: where there is a kubeconfig, the CA in it takes its place."""
        if not self.kubeconfig:
            return inputs
        try:
            ca = kubeconfig.access(inputs.secrets.get(self.ca_secret, {}).get(self.ca_key, b"")).ca
        except kubeconfig.KubeconfigError as fault:
            raise MaterialError(f"the kubeconfig in Secret {self.ca_secret} {fault}") from None
        return replace(inputs, secrets={**inputs.secrets, self.ca_secret: {self.ca_key: ca}})

    def annotations(self, inputs: Inputs) -> Mapping[str, str]:
        """When the token ends, and which one it is: the tenant may have held it already."""
        return tokens.said_of(self.token_id, inputs)


def _brought(inputs: Inputs, value: SecretValue) -> bytes:
    content = inputs.secrets.get(value.material, {}).get(value.key)
    if content is None:
        raise MaterialError(f"{value.kind} {value.secret} has no key {value.key}")
    return content


def _described(content: Content) -> str:
    if isinstance(content, SecretValue):
        return f"<{content.key} of {content.kind} {content.secret}, digest {content.digest}>"
    return f"<{len(content)} bytes, digest {hashlib.sha256(content).hexdigest()[:32]}>"
