"""What the spec of a `K0sWorkerConfig` means: every fault with field and remedy, as in `checks`.

A fault here would else show on a machine that never joins, where nobody looks. So it is told before any machine is
made, and to who writes the object. What needs a Secret, a ConfigMap or a Machine is judged by
`hosted_cp.machines.checks`, which has it all; so are Butane's dialects and how arguments are split. The rules on files,
versions and Windows are k0smotron's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from hosted_cp.api import checks, text
from hosted_cp.api.control_plane_checks import Support, version_problems
from hosted_cp.api.problems import Problem
from hosted_cp.api.worker_config import ContentSource, File, Ignition, K0sWorkerConfigSpec, Provisioner

#: Where the join token is put, unless `workingDir` says otherwise.
DEFAULT_WORKING_DIR = "/etc"
TOKEN_FILE = "k0s.token"  # noqa: S105 - a file's name
#: Label of the bootstrap Secret by which Cluster API finds it.
CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"

#: `0644`, `644`, and as Go and Python write octal numbers.
_MODE = re.compile(r"(0o)?0*[0-7]{1,4}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/].*", re.DOTALL)
_WINDOWS_SINCE = (1, 34, 2)
_CORE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)", re.ASCII)
_BUTANE_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}(-experimental)?", re.ASCII)
#: What the bootstrap data itself gives to `k0s worker`.
_OUR_FLAGS = ("--token-file",)


def problems(spec: K0sWorkerConfigSpec, *, support: Support | None = None) -> tuple[Problem, ...]:
    """Everything that is wrong with the spec. `support`: see `control_plane_checks.problems`."""
    provisioner = spec.provisioner or Provisioner()
    windows = provisioner.platform == "windows"
    return (
        *version_problems(spec.version, support=support),
        *(windows_problems(spec.version) if windows else ()),
        *_provisioner(provisioner),
        *_files(spec, windows=windows),
        *_directories(spec, windows=windows),
        *_download(spec),
        *_arguments(spec),
        *_commands("spec.preK0sCommands", spec.pre_k0s_commands),
        *_commands("spec.postK0sCommands", spec.post_k0s_commands),
        *_secret_metadata(spec),
    )


def warnings(spec: K0sWorkerConfigSpec) -> tuple[Problem, ...]:
    """What is set and does nothing. k0smotron is silent about it, so manifests have it; nobody is stopped by it."""
    given = spec.provisioner or Provisioner()
    found = []
    if given.type != "ignition" and given.ignition is not None:
        found.append(
            Problem(
                field="spec.provisioner.ignition",
                fault=f"is set, and type {given.type} does not use it",
                remedy="set type ignition, or leave it out",
            )
        )
    if given.type == "ignition" and given.custom_user_data_ref is not None:
        found.append(
            Problem(
                field="spec.provisioner.customUserDataRef",
                fault="is set, and type ignition does not use it",
                remedy="write it as ignition.additionalConfig",
            )
        )
    for field, value in (("downloadURL", spec.download_url), ("downloadSHA256", spec.download_sha256)):
        if value and spec.pre_installed_k0s:
            found.append(
                Problem(
                    field=f"spec.{field}",
                    fault="is set, and with preInstalledK0s nothing is downloaded",
                    remedy="leave out one of the two",
                )
            )
    return tuple(found)


def template_problems(spec: K0sWorkerConfigSpec, *, support: Support | None = None) -> tuple[Problem, ...]:
    """The same for the spec in a template."""
    found = problems(spec, support=support)
    return tuple(replace(each, field=each.field.replace("spec.", "spec.template.spec.", 1)) for each in found)


def windows_problems(version: str | None, *, field: str = "spec.version") -> Iterator[Problem]:
    """Why a worker on Windows cannot be of this version. Also for a Machine's version (`field` names it)."""
    found = _CORE.match(version or "")
    if found and tuple(map(int, found.groups())) < _WINDOWS_SINCE:
        yield Problem(
            field=field,
            fault=f"{(version or '')[:64]} has no workers on Windows that k0s supports",
            remedy="use v1.34.2+k0s or newer",
        )


_POWERSHELL = ("powershell", "powershell-xml")


def _provisioner(given: Provisioner) -> Iterator[Problem]:
    field = "spec.provisioner"
    if given.type in _POWERSHELL and given.platform != "windows":
        yield Problem(
            field=f"{field}.platform",
            fault=f"is {given.platform}, which does not run what type {given.type} makes",
            remedy="set windows, or use type cloud-config",
        )
    if given.type == "ignition" and given.platform != "linux":
        yield Problem(
            field=f"{field}.platform", fault="is windows, where there is no Ignition", remedy="use type powershell"
        )
    if given.type == "ignition" and given.ignition is None:
        yield Problem(
            field=f"{field}.ignition",
            fault="is missing, and type ignition needs it",
            remedy="add variant and version, such as fcos and 1.5.0",
        )
    if given.ignition is not None:
        yield from _ignition(given.ignition, f"{field}.ignition")
    if given.custom_user_data_ref is not None:
        yield from _source(given.custom_user_data_ref, f"{field}.customUserDataRef")


def _ignition(given: Ignition, field: str) -> Iterator[Problem]:
    if not _BUTANE_VERSION.fullmatch(given.version):
        yield Problem(
            field=f"{field}.version",
            fault=f"{given.version[:64]!r} is no version of a Butane variant",
            remedy="write one such as 1.5.0",
        )
    if not given.additional_config:
        return
    try:
        config = text.load(given.additional_config)
    except text.TextError as error:
        yield Problem(
            field=f"{field}.additionalConfig", fault=str(error).replace("it ", "", 1), remedy="write a Butane config"
        )
        return
    if not isinstance(config, Mapping):
        yield Problem(field=f"{field}.additionalConfig", fault="is no object", remedy="write a Butane config")
        return
    for key in ("variant", "version"):
        if not isinstance(config.get(key), str):
            yield Problem(
                field=f"{field}.additionalConfig",
                fault=f"has no {key}, and is a Butane config of its own",
                remedy=f"write {key}: {getattr(given, key)} into it",
            )


def token_path(spec: K0sWorkerConfigSpec) -> str:
    """Where the join token is put on the machine."""
    folder = spec.working_dir or DEFAULT_WORKING_DIR
    windows = spec.provisioner is not None and spec.provisioner.platform == "windows"
    separator = "\\" if windows and "\\" in folder else "/"
    return f"{folder.rstrip(separator)}{separator}{TOKEN_FILE}"


def _files(spec: K0sWorkerConfigSpec, *, windows: bool) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    key: Callable[[str], str] = (lambda path: path.replace("\\", "/").lower()) if windows else (lambda path: path)
    for index, file in enumerate(spec.files or ()):
        field = f"spec.files[{index}]"
        path = file.path or ""
        yield from _path(f"{field}.path", path, windows=windows, what="of the file")
        if path and key(path) in seen:
            yield Problem(
                field=f"{field}.path",
                fault=f"{path[:253]} is also that of spec.files[{seen[key(path)]}]",
                remedy="give each file its own path",
            )
        elif path and key(path) == key(token_path(spec)):
            yield Problem(
                field=f"{field}.path",
                fault=f"{path[:253]} is where the join token is put",
                remedy="use another path, or set spec.workingDir",
            )
        seen.setdefault(key(path), index)
        yield from _content(file, field)


def _content(file: File, field: str) -> Iterator[Problem]:
    if file.permissions and not _MODE.fullmatch(file.permissions):
        yield Problem(
            field=f"{field}.permissions",
            fault=f"{file.permissions[:64]!r} is no mode in octal",
            remedy='write one such as "0644", in quotes',
        )
    # Go's clients write "" where nothing was said.
    if file.content and file.content_from is not None:
        yield Problem(field=field, fault="has both content and contentFrom", remedy="leave out one of the two")
    elif file.content_from is not None:
        yield from _source(file.content_from, f"{field}.contentFrom")
    elif file.content is None:
        yield Problem(
            field=field,
            fault="has neither content nor contentFrom",
            remedy='add one of the two (content: "" for an empty file)',
        )


def _source(source: ContentSource, field: str) -> Iterator[Problem]:
    given = {"secretRef": source.secret_ref, "configMapRef": source.config_map_ref}
    references = {name: each for name, each in given.items() if each is not None}
    if len(references) != 1:
        yield Problem(
            field=field,
            fault="names both a Secret and a ConfigMap" if references else "names neither a Secret nor a ConfigMap",
            remedy="give exactly one of secretRef and configMapRef",
        )
    for name, each in references.items():
        for part, value in (("name", each.name), ("key", each.key)):
            if not value:
                yield Problem(field=f"{field}.{name}.{part}", fault="is empty", remedy=f"write the {part}")


def _directories(spec: K0sWorkerConfigSpec, *, windows: bool) -> Iterator[Problem]:
    yield from _path("spec.k0sInstallDir", spec.k0s_install_dir, windows=windows, what="of a directory")
    if spec.working_dir:
        yield from _path("spec.workingDir", spec.working_dir, windows=windows, what="of a directory")


def _path(field: str, path: str, *, windows: bool, what: str) -> Iterator[Problem]:
    # On Windows, paths from / are taken as those of the drive of the system: k0smotron's defaults are such.
    absolute = path.startswith("/") or (windows and bool(_WINDOWS_PATH.fullmatch(path)))
    steps = re.split(r"[\\/]" if windows else "/", path)
    if not path:
        yield Problem(field=field, fault="is missing", remedy=f"write the absolute path {what}")
    elif not absolute or ".." in steps:
        example = "/etc/example or C:\\example" if windows else "/etc/example"
        yield Problem(
            field=field,
            fault=f"{path[:253]!r} is no absolute path",
            remedy=f"write the whole path {what} without .., such as {example}",
        )
    elif _CONTROL.search(path):
        yield Problem(field=field, fault="has a control character in it", remedy="write a path without line breaks")


def _download(spec: K0sWorkerConfigSpec) -> Iterator[Problem]:
    url = spec.download_url
    if url:
        try:
            parts = urlsplit(url)
            well_formed = (
                parts.scheme in ("http", "https", "oci") and bool(parts.hostname) and not re.search(r"\s", url)
            )
        except ValueError:
            well_formed = False
        if not well_formed or _CONTROL.search(url):
            yield Problem(
                field="spec.downloadURL",
                fault="is no URL of scheme http, https or oci",
                remedy="write one such as https://example.org/k0s-v1.36.3+k0s.2-amd64",
            )


def _arguments(spec: K0sWorkerConfigSpec) -> Iterator[Problem]:
    for index, argument in enumerate(spec.args):
        field = f"spec.args[{index}]"
        if not argument or "\0" in argument:
            yield Problem(field=field, fault="is no argument of a command", remedy="write a flag, such as --debug")
        elif argument.partition("=")[0] in _OUR_FLAGS:
            yield Problem(
                field=field,
                fault=f"sets {argument.partition('=')[0]}, which is set already",
                remedy="leave it out; spec.workingDir says where the token is put",
            )


def _commands(field: str, commands: Iterable[str]) -> Iterator[Problem]:
    for index, command in enumerate(commands):
        if not command.strip() or "\0" in command:
            yield Problem(field=f"{field}[{index}]", fault="is no command", remedy="write one, or leave it out")


def _secret_metadata(spec: K0sWorkerConfigSpec) -> Iterator[Problem]:
    if spec.secret_metadata is None:
        return
    yield from checks.metadata(spec.secret_metadata, field="spec.secretMetadata")
    if CLUSTER_LABEL in spec.secret_metadata.labels:
        yield Problem(
            field=f"spec.secretMetadata.labels[{CLUSTER_LABEL}]",
            fault="is set by the operator, and Cluster API finds the Secret by it",
            remedy="leave it out",
        )
