"""What the spec of a `K0sWorkerConfig` means: every fault with field and remedy, as in `checks`.

A fault here would else show on a machine that never joins, where nobody looks. So it is told before any machine is
made, and to who writes the object. What needs a Secret, a ConfigMap or a Machine is judged by
`hosted_cp.machines.checks`, which has it all; so is how arguments are split. The rules on files, versions and Windows
are k0smotron's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hosted_cp.api import butane, checks, machine_rules
from hosted_cp.api.control_plane_checks import Support, version_problems
from hosted_cp.api.problems import Problem
from hosted_cp.api.worker_config import ContentSource, File, K0sWorkerConfigSpec, Provisioner

#: Label of the bootstrap Secret by which Cluster API finds it.
CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"

#: What the bootstrap data itself gives to `k0s worker`.
_OUR_FLAGS = ("--token-file",)


def problems(spec: K0sWorkerConfigSpec, *, support: Support | None = None) -> tuple[Problem, ...]:
    """Everything that is wrong with the spec. `support`: see `control_plane_checks.problems`."""
    provisioner = spec.provisioner or Provisioner()
    windows = provisioner.platform == "windows"
    return (
        *version_problems(spec.version, support=support),
        *(machine_rules.windows_problems(spec.version) if windows else ()),
        *_provisioner(provisioner),
        *_files(spec, windows=windows),
        *_directories(spec, windows=windows),
        *_download(spec, windows=windows),
        *_arguments(spec),
        *machine_rules.command_problems("spec.preK0sCommands", spec.pre_k0s_commands),
        *machine_rules.command_problems("spec.postK0sCommands", spec.post_k0s_commands),
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


def _provisioner(given: Provisioner) -> Iterator[Problem]:
    field = "spec.provisioner"
    yield from machine_rules.format_problems(field, type=given.type, platform=given.platform)
    if given.type == "ignition" and given.ignition is None:
        yield machine_rules.ignition_missing(field)
    if given.instance_data and (given.type, given.platform) != ("cloud-config", "linux"):
        yield Problem(
            field=f"{field}.instanceData",
            fault=f"is set, and nothing fills in data of the instance in type {given.type} on {given.platform}",
            remedy="leave it out, or use type cloud-config on linux",
        )
    if given.type == "ignition" and given.ignition is not None:
        yield from butane.problems(
            variant=given.ignition.variant,
            version=given.ignition.version,
            additional=given.ignition.additional_config or "",
            field=f"{field}.ignition",
        )
    if given.custom_user_data_ref is not None:
        yield from _source(given.custom_user_data_ref, f"{field}.customUserDataRef")


def _files(spec: K0sWorkerConfigSpec, *, windows: bool) -> Iterator[Problem]:
    files = spec.files or ()
    named = ((file.path or "", file.permissions or "") for file in files)
    yield from machine_rules.file_problems(
        named, field="spec.files", working_dir=spec.working_dir or "", windows=windows
    )
    for index, file in enumerate(files):
        yield from _content(file, f"spec.files[{index}]")


def _content(file: File, field: str) -> Iterator[Problem]:
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
    given = {"spec.k0sInstallDir": spec.k0s_install_dir, "spec.workingDir": spec.working_dir}
    for field, path in given.items():
        if path or field == "spec.k0sInstallDir":
            yield from machine_rules.path_problems(field, path or "", windows=windows, what="of a directory")


def _download(spec: K0sWorkerConfigSpec, *, windows: bool) -> Iterator[Problem]:
    if spec.download_url:
        yield from machine_rules.url_problems("spec.downloadURL", spec.download_url, windows=windows)


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
