"""`hosted-cp`: the operator and the tools beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

#: Every option can also be given as `HOSTED_CP_<NAME>` in the environment.
_CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "HOSTED_CP"}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="hosted-cp")
def main() -> None:
    """Host many tenants' k0s control planes inside one Kubernetes cluster."""


@main.command(context_settings=_CONTEXT)
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Speak to the cluster of this file. Without it the pod's service account is used.",
)
@click.option(
    "--namespace", "namespaces", multiple=True, help="Look after tenants of this namespace only (repeatable)."
)
@click.option(
    "--provider",
    type=click.Choice(["control-plane", "bootstrap"]),
    help="Be this provider of Cluster API alone, with a Lease and a webhook of its own; as `clusterctl` installs it.",
)
@click.option(
    "--health-address",
    metavar="HOST:PORT",
    default="127.0.0.1:8081",
    show_default=True,
    help="Where /healthz and /readyz answer.",
)
@click.option(
    "--metrics-address",
    metavar="HOST:PORT",
    default="127.0.0.1:8080",
    show_default=True,
    help="Where /metrics answers.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="How many tenants are worked on at once.",
)
@click.option(
    "--k0s-image", metavar="REPOSITORY", help="Repository of the k0s image, without tag, for tenants that name none."
)
@click.option("--etcd-image", metavar="IMAGE", help="The etcd image, with tag, for tenants that name none.")
@click.option(
    "--privileged-namespace",
    "privileged_namespaces",
    multiple=True,
    help="Allow hostPath and service accounts for tenants of this namespace (repeatable).",
)
@click.option(
    "--network-policies/--no-network-policies",
    default=False,
    show_default=True,
    help="Make NetworkPolicies for tenants; only where something enforces them.",
)
@click.option(
    "--priority-class",
    metavar="NAME",
    default="",
    help="PriorityClass of the tenants' pods, which must exist. Without it the cluster's default holds.",
)
@click.option(
    "--cluster-domain", default="cluster.local", show_default=True, help="DNS domain of the management cluster."
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def run(**options: object) -> None:
    """Run the operator."""
    from hosted_cp.cli.run import run_operator  # the operator's imports cost half a second; `render` need not pay them

    sys.exit(run_operator(options))


@main.command(context_settings=_CONTEXT)
@click.option(
    "-f",
    "--filename",
    "file",
    required=True,
    type=click.File("rb"),
    help="A manifest with objects of ours (Clusters, JoinTokenRequests, K0smotronControlPlanes, K0sWorkerConfigs, or"
    " templates of these); - for standard input. What they belong to (Cluster API's Cluster, Machines) is read from the"
    " same file.",
)
@click.option("--k0s-image", metavar="REPOSITORY", help="As for `run`.")
@click.option("--etcd-image", metavar="IMAGE", help="As for `run`.")
def render(file: BinaryIO, k0s_image: str | None, etcd_image: str | None) -> None:
    """Print every object that would be created, without a cluster.

    What cannot be known yet is marked; secrets are shown as recipes.
    """
    from hosted_cp.cli.render import render_manifest

    text, problems = render_manifest(file.read(), k0s_image=k0s_image, etcd_image=etcd_image)
    click.echo(text, nl=False)
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


@main.command(context_settings=_CONTEXT)
@click.option(
    "--address",
    metavar="HOST:PORT",
    default="127.0.0.1:9443",
    show_default=True,
    help="Where the API server's questions are answered, over HTTPS.",
)
@click.option(
    "--metrics-address", metavar="HOST:PORT", default="", help="Where /metrics answers. Without it there are none."
)
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="As for `run`; only certificates are kept there.",
)
@click.option("--namespace", default="", help="Where the Secrets with the certificates are; the pod's by default.")
@click.option(
    "--service",
    metavar="NAME",
    default="hosted-cp-webhook",
    show_default=True,
    help="Name of the Service that leads here, for the certificate; the Secrets are named after it.",
)
@click.option(
    "--host", "hosts", multiple=True, help="A further name or address that the certificate is for (repeatable)."
)
@click.option(
    "--cert-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use this certificate instead of making one, and again when it changes.",
)
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Its private key.")
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(0, 300),
    default=5.0,
    show_default=True,
    help="When asked to end: for how long new questions are still answered.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def webhook(**options: object) -> None:
    """Convert between versions and check objects, for the API server."""
    from hosted_cp.cli.webhook import run_webhook

    sys.exit(run_webhook(options))


@main.command()
def crds() -> None:
    """Print the CustomResourceDefinitions."""
    from hosted_cp.api.crds import manifests

    click.echo(manifests(), nl=False)
