"""The command line of `k0s`, as far as a hosted control plane and its workers use it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from k0s_images.standin import config as configuration
from k0s_images.standin import (
    documents,
    kubeconfig,
    kubectl,
    log,
    pki,
    service,
    status,
    sysinfo,
    tokens,
    versions,
)
from k0s_images.standin.certificates import published_ca
from k0s_images.standin.config import ClusterConfig, join_host_port
from k0s_images.standin.errors import Fatal
from k0s_images.standin.flags import Flag, Help, Parsed, parse
from k0s_images.standin.kube import Api, ApiError
from k0s_images.standin.layout import Layout
from k0s_images.standin.versions import Release

STAND_IN = "stand-in"

_COMMON = (
    Flag("debug", "bool", short="d", help="debug logging"),
    Flag("debugListenOn", default=":6060", help="accepted, without effect"),
    Flag("verbose", "bool", short="v", help="verbose logging"),
)
_PLACE = (
    Flag("data-dir", default="/var/lib/k0s", help="data directory"),
    Flag("status-socket", help="path of the status socket (default: <rundir>/status.sock)"),
)
_CONFIG = Flag("config", short="c", help="config file, '-' for standard input (default /etc/k0s/k0s.yaml)")
_WORKER = (
    Flag("cri-socket", help="container runtime to use instead of our own: remote:unix:///..."),
    Flag("enable-cloud-provider", "bool", help="kubelet --cloud-provider=external"),
    Flag("ignore-pre-flight-checks", "bool", help="continue when checks fail"),
    Flag("iptables-mode", help="nft, legacy or auto"),
    Flag("kubelet-extra-args", help="arguments for kubelet"),
    Flag("kubelet-root-dir", help="kubelet's root directory"),
    Flag("labels", "map", help="labels of the node"),
    Flag("logging", "map", short="l", help="component=level list"),
    Flag("profile", default="default", help="worker profile"),
    Flag("taints", "strings", help="taints of the node, key=value:effect"),
    Flag("token-file", help="file with the join token"),
)
_CONTROLLER = (
    *_COMMON, *_PLACE, *_WORKER, _CONFIG,
    Flag("api-server-stop-timeout", "duration", help="how long the API server may take to stop"),
    Flag("disable-components", "strings", help="components not to run"),
    Flag("enable-dynamic-config", "bool", help="not supported by the stand-in"),
    Flag("enable-k0s-cloud-provider", "bool", help="not supported by the stand-in"),
    Flag("enable-metrics-scraper", "bool", help="not supported by the stand-in"),
    Flag("enable-worker", "bool", help="not supported by the stand-in"),
    Flag("feature-gates", "map", help="k0s' own feature gates"),
    Flag("init-only", "bool", help="prepare directories and certificates, then exit"),
    Flag("k0s-cloud-provider-port", "int", 10258, help="accepted, without effect"),
    Flag("k0s-cloud-provider-update-frequency", "duration", 120.0, help="accepted, without effect"),
    Flag("kube-controller-manager-extra-args", help="arguments for kube-controller-manager"),
    Flag("no-taints", "bool", help="only with --enable-worker"),
    Flag("single", "bool", help="not supported by the stand-in"),
)  # fmt: skip


def _places(given: Parsed) -> Layout:
    socket = given["status-socket"]
    return Layout(data=Path(given["data-dir"]), socket=Path(socket) if socket else None)


def join_token(given: Parsed) -> str | None:
    """The join token from the argument, `--token-file` or `K0S_TOKEN`; `Fatal` if more than one gives it."""
    sources = [bool(given.arguments), bool(given["token-file"]), bool(os.environ.get("K0S_TOKEN"))]
    if sum(sources) > 1:
        raise Fatal(
            "you can only pass one token source: either as a CLI argument, via '--token-file [path]', or via K0S_TOKEN"
        )
    if len(given.arguments) > 1:
        raise Fatal(f"accepts at most 1 arg(s), received {len(given.arguments)}")
    if given.arguments:
        return given.arguments[0]
    if given["token-file"]:
        try:
            content = Path(given["token-file"]).read_text()
        except OSError as fault:
            raise Fatal(f"failed to read token file: {fault}") from None
        if not content.strip():
            raise Fatal(f"token file {given['token-file']!r} is empty")
        return content
    return os.environ.get("K0S_TOKEN") or None


def disabled_components(names: Sequence[str], release: Release) -> frozenset[str]:
    """The components that shall not run; `Fatal` for an unknown name."""
    for name in names:
        if name not in release.components | release.ignored_components:
            raise Fatal(f"unknown component {name}")
    return frozenset(names) & release.components


def _controller(words: Sequence[str], release: Release) -> int:
    from k0s_images.standin.controller import Controller, Options

    flags = [f for f in _CONTROLLER if f.name not in release.unknown_flags]
    given = parse(words, flags, usage="k0s controller [join-token] [flags]")
    log.set_debug(given["debug"])
    for name in (
        "enable-worker",
        "single",
        "enable-dynamic-config",
        "enable-k0s-cloud-provider",
        "enable-metrics-scraper",
    ):
        if given[name]:
            raise Fatal(f"--{name} is not supported by the k0s stand-in")
    disabled = disabled_components(given["disable-components"], release)
    places = _places(given)
    token = join_token(given)
    config = configuration.load(given["config"] or None, release)
    extra = given["kube-controller-manager-extra-args"]
    for word in extra.split():
        name, _, value = word.removeprefix("--").partition("=")
        config.spec["controllerManager"].setdefault("extraArgs", {})[name] = value
    if token and not _joined(config, places):
        raise Fatal(
            "joining a controller by token is not supported by the k0s stand-in: give the replicas the same PKI"
        )
    sysinfo.check(places.data, ignore=given["ignore-pre-flight-checks"])
    stop_timeout = given.values.get("api-server-stop-timeout")
    options = Options(
        config=config, layout=places, release=release, disabled=disabled, levels=given["logging"],
        init_only=given["init-only"], argv=("k0s", "controller", *words),
        **({"api_server_stop_timeout": stop_timeout} if stop_timeout else {}),
    )  # fmt: skip
    return Controller(options).run()


def _joined(config: ClusterConfig, places: Layout) -> bool:
    """Whether this controller is part of a cluster already; then a token is ignored."""
    if config.spec["storage"]["type"] == "etcd" and config.external_etcd is None:
        return (places.etcd_data / "member" / "snap" / "db").is_file()
    return (places.pki / "ca.crt").is_file() and (places.pki / "ca.key").is_file()


def _worker(words: Sequence[str], release: Release) -> int:
    from k0s_images.standin.worker import Options, run

    given = parse(words, (*_COMMON, *_PLACE, *_WORKER), usage="k0s worker [join-token] [flags]")
    log.set_debug(given["debug"])
    token = join_token(given)
    places = _places(given)
    sysinfo.check(places.data, ignore=given["ignore-pre-flight-checks"])
    return run(Options(
        layout=places, release=release, token=token, profile=given["profile"], labels=given["labels"],
        taints=tuple(given["taints"]), kubelet_extra_args=given["kubelet-extra-args"],
        kubelet_root=Path(given["kubelet-root-dir"]) if given["kubelet-root-dir"] else None,
        cri_socket=given["cri-socket"], cloud_provider=given["enable-cloud-provider"], levels=given["logging"],
        argv=("k0s", "worker", *words),
    ))  # fmt: skip


def _install(words: Sequence[str], release: Release) -> int:
    role, rest = _verb(words, "install", ("worker",))
    known = [f for f in (*_COMMON, *_PLACE, *_WORKER) if f.name not in release.unknown_install_flags]
    own = (
        Flag("env", "array", short="e", help="environment of the service: NAME=value or NAME"),
        Flag("force", "bool", help="replace a service that is there"),
        Flag("start", "bool", help="start the service as well"),
    )
    given = parse(rest, (*known, *own), usage=f"k0s install {role} [flags]")
    log.set_debug(given["debug"])
    if given.arguments:
        raise Fatal(f'unknown command "{given.arguments[0]}" for "k0s install {role}"')
    service.install(
        role, service.arguments(given.values, given.given - {f.name for f in own}),
        environment=service.variables(given["env"], os.environ), force=given["force"], start_now=given["start"],
    )  # fmt: skip
    return 0


def _start(words: Sequence[str], _release: Release) -> int:
    parse(words, _COMMON, usage="k0s start [flags]")
    service.start()
    return 0


def _stop(words: Sequence[str], _release: Release) -> int:
    parse(words, _COMMON, usage="k0s stop [flags]")
    service.stop()
    return 0


def _admin(places: Layout) -> Api:
    """The running controller's API with its administrator's credentials; `Fatal` without a running controller."""
    state = status.ask(places.status_socket, "/status")
    if state["Role"] != "controller":
        raise Fatal("this command can only be run on a controller")
    data = Path(state.get("K0sVars", {}).get("DataDir", places.data))
    return Api(kubeconfig.read((data / "pki" / "admin.conf").read_bytes()))


def _running_config(places: Layout) -> tuple[ClusterConfig, Layout]:
    state = status.ask(places.status_socket, "/status")
    data = Path(state.get("K0sVars", {}).get("DataDir", places.data))
    return ClusterConfig(document=state["ClusterConfig"]), dataclasses.replace(places, data=data)


def _token(words: Sequence[str], _release: Release) -> int:
    verb, rest = _verb(words, "token", ("create", "invalidate", "list"))
    flags = [*_COMMON, *_PLACE]
    if verb == "create":
        flags += [Flag("role", default="worker"), Flag("expiry", "duration", 0.0), Flag("wait", "bool")]
    elif verb == "list":
        flags += [Flag("role")]
    given = parse(rest, flags, usage=f"k0s token {verb} [flags]")
    if verb != "invalidate" and given["role"] not in tokens.USERS:
        raise Fatal(f'unsupported role {given["role"]!r}; supported roles are "controller" and "worker"')
    places = _places(given)
    api = _admin(places)
    if verb == "create":
        config, where = _running_config(places)
        role = given["role"]
        if role == "controller" and not config.joinable:
            raise Fatal("refusing to create token: cannot join into current storage")
        secret = tokens.create(api, role=role, life=given["expiry"])
        server = f"https://{config.published}"
        if role == "controller" and config.external_port == config.api["port"]:
            server = (
                f"https://{join_host_port(config.external_host or config.api['address'], config.api['k0sApiPort'])}"
            )
        print(tokens.encode(server=server, ca=published_ca(where), token=secret, role=role))
    elif verb == "invalidate":
        if not given.arguments:
            raise Fatal("requires at least 1 arg(s), only received 0")
        tokens.invalidate(api, given.arguments)
    else:
        rows = tokens.listed(api, role=given["role"])
        print(f"{'ID':<9}{'ROLE':<9}EXPIRES AT")
        for row in rows:
            print(f"{row['id']:<9}{row['role']:<9}{row['expiry']}")
    return 0


def _kubeconfig(words: Sequence[str], release: Release) -> int:
    verb, rest = _verb(words, "kubeconfig", ("admin", "create"))
    extra = [_CONFIG, Flag("groups"), Flag("context-name", default="k0s"),
             Flag("certificate-expires-after", "duration", 8760 * 3600.0)]  # fmt: skip
    given = parse(rest, (*_COMMON, *_PLACE, *extra), usage=f"k0s kubeconfig {verb} [flags]")
    places = _places(given)
    if verb == "admin":
        config, places = _running_config(places)
        text = (places.admin_conf).read_text().replace(config.local_server, f"https://{config.published}")
        print(documents.dump(yaml.safe_load(text)), end="")
        return 0
    if len(given.arguments) != 1:
        raise Fatal(f"accepts 1 arg(s), received {len(given.arguments)}")
    config = configuration.load(given["config"] or None, release)
    source = pki.KeySource(threads=1)
    authority = pki.existing_authority(places.pki / "ca")
    user = given.arguments[0]
    key = source.take()
    life = dt.timedelta(seconds=given["certificate-expires-after"])
    certificate = pki.issue(authority, key, common_name=user, organization=given["groups"], life=life)
    source.close()
    print(kubeconfig.for_user(
        server=f"https://{config.published}", ca=authority.pem, certificate=pki.certificate_pem(certificate),
        key=pki.key_pem(key), name=given["context-name"], user=user), end="")  # fmt: skip
    return 0


def _status(words: Sequence[str], _release: Release) -> int:
    components = bool(words) and words[0] == "components"
    flags = [
        *_COMMON,
        Flag("status-socket"),
        Flag("out", short="o"),
        Flag("data-dir", default="/var/lib/k0s"),
        Flag("max-count", "int", 1),
    ]
    given = parse(words[1:] if components else words, flags, usage="k0s status [components] [flags]")
    places = _places(given)
    answer = status.ask(places.status_socket, "/components" if components else "/status")
    if components:
        print(documents.dump(answer, sort=True), end="")
    elif given["out"] in ("json", "yaml"):
        print(json.dumps(answer, indent=3) if given["out"] == "json" else documents.dump(answer, sort=True), end="\n")
    else:
        lines = {"Version": answer["Version"], "Process ID": answer["Pid"], "Role": answer["Role"]}
        lines |= {name: str(answer[name]).lower() for name in ("Workloads", "SingleNode")}
        print("\n".join(f"{name}: {value}" for name, value in lines.items()))
    return 0


def _version(words: Sequence[str], release: Release) -> int:
    given = parse(words, (Flag("all", "bool", short="a"), Flag("json", "bool", short="j")), usage="k0s version [flags]")
    # Build metadata of a semantic version: equal in precedence to the version it plays, and plainly not it.
    own = f"{release.version}.{STAND_IN}"
    everything = {"k0s": own, "kubernetes": release.kubernetes}
    if given["json"]:
        print(json.dumps(everything))
    elif given["all"]:
        print("\n".join(f"{name} : {version}" for name, version in everything.items()))
    else:
        print(own)
    return 0


def _config(words: Sequence[str], release: Release) -> int:
    verb, rest = _verb(words, "config", ("create", "validate"))
    given = parse(
        rest,
        (*_COMMON, _CONFIG, Flag("include-images", "bool"), Flag("feature-gates", "map")),
        usage=f"k0s config {verb}",
    )
    if verb == "validate":
        configuration.load(given["config"] or None, release)
        return 0
    document: Any = json.loads(json.dumps(configuration.parse(None, release).document))
    if not given["include-images"]:
        del document["spec"]["images"]
        document["spec"]["network"]["nodeLocalLoadBalancing"]["envoyProxy"].pop("image", None)
    print(documents.dump(document, sort=True), end="")
    return 0


def _kubectl(words: Sequence[str], _release: Release) -> int:
    return kubectl.run(words)


def _sysinfo(words: Sequence[str], _release: Release) -> int:
    flags = (Flag("controller", "bool", True), Flag("worker", "bool", True), Flag("output", short="o"))
    given = parse(words, (*_COMMON, *_PLACE, *flags), usage="k0s sysinfo [flags]")
    faults = 0
    for result in sysinfo.checks(Path(given["data-dir"])):
        print(f"{result.name}: {result.value} ({result.verdict})")
        faults += result.verdict == "rejected"
    return 1 if faults else 0


def _verb(words: Sequence[str], command: str, known: Sequence[str]) -> tuple[str, Sequence[str]]:
    if not words or words[0] in ("-h", "--help"):
        raise Help(f"Usage:\n  k0s {command} [command]\n\nAvailable Commands:\n" + "".join(f"  {k}\n" for k in known))
    if words[0] not in known:
        raise Fatal(f'unknown command "{words[0]}" for "k0s {command}"')
    return words[0], words[1:]


_COMMANDS: dict[str, Callable[[Sequence[str], Release], int]] = {
    "config": _config, "controller": _controller, "install": _install, "kubeconfig": _kubeconfig,
    **dict.fromkeys(kubectl.NAMES, _kubectl), "server": _controller, "start": _start, "status": _status, "stop": _stop,
    "sysinfo": _sysinfo, "token": _token, "version": _version, "worker": _worker,
}  # fmt: skip


def main(words: Sequence[str]) -> int:
    """Run one command; the exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print("k0s - a stand-in for tests: real Kubernetes components under a small supervisor. This is not k0s.\n")
        print("Usage:\n  k0s [command]\n\nAvailable Commands:\n" + "\n".join(f"  {name}" for name in sorted(_COMMANDS)))
        return 0
    try:
        command = _COMMANDS.get(words[0])
        if command is None:
            raise Fatal(f'unknown command "{words[0]}" for "k0s"')
        return command(words[1:], versions.chosen())
    except Help as text:
        print(text)
        return 0
    except (Fatal, ApiError) as fault:
        print(f"Error: {fault}", file=sys.stderr)
        return 1
