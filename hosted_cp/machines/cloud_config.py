"""cloud-config: what cloud-init reads on most Linux machines (and cloudbase-init on Windows).

k0smotron begins it with `## template: jinja`, so that cloud-init's template engine interprets whatever a user's file
holds between double braces, and fails on what it does not understand. Here the header is written only on demand
(`Worker.instance_data`), and even then nothing but plain look-ups of instance data in `args` is left to the engine:
every other brace that could open something is written as an escape of YAML.

The user's own cloud-config does not follow in the same document, where its `runcmd` would silently replace ours (the
last of two equal keys wins), but as a second part of a MIME message, which is cloud-init's own way. It is merged by its
own `merge_how`; if it has none, lists are appended.
"""

from __future__ import annotations

import base64
import hashlib
import re

from hosted_cp.machines.commands import linux_commands
from hosted_cp.machines.files import Written, written
from hosted_cp.machines.quoting import yaml_block, yaml_scalar
from hosted_cp.machines.windows import run_script
from hosted_cp.machines.worker import Platform, Resolved, Worker, WorkerError

_HEADER = "#cloud-config\n"
_TEMPLATE_HEADER = "## template: jinja\n"

#: A look-up of instance data and nothing else: no filters, calls, strings or operators.
INSTANCE_DATA = re.compile(r"\{\{ *(?:ds|v1)(?:\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]+\])+ *\}\}")

#: Variables that k0smotron's feature gate `CloudInitVars` gives to a user's template. Without them cloud-init fails on
#: the machine, or fills in nothing, where nobody looks.
_K0SMOTRONS = re.compile(rb"\bk0smotron_(?:k0sDownloadCommands|k0sInstallCommand|k0sStartCommand|files)\b")

_MERGE = "list(append)+dict(no_replace,recurse_list)+str()"


def cloud_config(worker: Worker, resolved: Resolved) -> bytes:
    """The user data. Raises `WorkerError`."""
    windows = worker.platform is Platform.WINDOWS
    commands = [run_script()] if windows else linux_commands(worker)
    templated = worker.instance_data and any(INSTANCE_DATA.search(command) for command in commands)
    lines = [_TEMPLATE_HEADER + _HEADER if templated else _HEADER, "write_files:\n"]
    lines += [_file(each) for each in written(worker, resolved)]
    lines.append("runcmd:\n")
    for command in commands:
        own = templated and command not in (*worker.pre_commands, *worker.post_commands)
        lines.append(f"  - {_text(command, indent='    ', instance_data=own)}\n")
    document = "".join(lines)
    if worker.custom is None:
        return document.encode()
    custom = resolved.content(worker.custom)
    if (variable := _K0SMOTRONS.search(custom)) is not None:
        raise WorkerError(
            f"spec.provisioner.customUserDataRef: the text asks for {variable[0].decode()}, a variable of k0smotron's"
            " feature gate CloudInitVars, and here there is none: take the k0smotron_ variables out, because what they"
            " stand for is a part of the user data beside this one"
        )
    return _two_parts(document.encode(), custom)


def _file(file: Written) -> str:
    text = _plain_text(file.content)
    lines = [f"  - path: {yaml_scalar(file.path)}"]
    if text is None:
        lines += ["    encoding: b64", f'    content: "{base64.b64encode(file.content).decode()}"']
    else:
        lines.append(f"    content: {_text(text, indent='      ')}")
    if file.permissions:
        lines.append(f'    permissions: "{file.permissions}"')
    return "\n".join([*lines, ""])


def _text(text: str, *, indent: str, instance_data: bool = False) -> str:
    if not instance_data:
        return yaml_block(text, indent=indent) or yaml_scalar(text)
    return yaml_scalar(text, keep=lambda expression: INSTANCE_DATA.fullmatch(expression) is not None)


def _plain_text(content: bytes) -> str | None:
    """The content, if it is text that no reader of YAML, of any version, could be tempted to change."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return text if all(each in "\n\t" or each.isprintable() for each in text) else None


# --- several parts ---------------------------------------------------------------------------------------------------


def _two_parts(ours: bytes, custom: bytes) -> bytes:
    """A MIME message of our cloud-config and the user's own data, whatever cloud-init can tell by its first line."""
    boundary = hashlib.sha256(ours + b"\0" + custom).hexdigest()[:32]
    merge = "" if b"merge_how" in custom or b"merge_type" in custom else f"Merge-Type: {_MERGE}\n"
    lines = [
        f'Content-Type: multipart/mixed; boundary="{boundary}"\nMIME-Version: 1.0\n\n',
        f'--{boundary}\nContent-Type: {_type(ours)}; charset="utf-8"\nMIME-Version: 1.0\n{_body(ours)}',
        f'--{boundary}\nContent-Type: {_type(custom)}; charset="utf-8"\nMIME-Version: 1.0\n{merge}{_body(custom)}',
        f"--{boundary}--\n",
    ]
    return "".join(lines).encode()


#: First line -> type of the part; cloud-init's own table (`handlers.INCLUSION_TYPES_MAP`), of what is text.
_TYPES = {
    b"## template: jinja": "text/jinja2",
    b"#!": "text/x-shellscript",
    b"#cloud-config-archive": "text/cloud-config-archive",
    b"#cloud-config-jsonp": "text/cloud-config-jsonp",
    b"#cloud-boothook": "text/cloud-boothook",
    b"#include-once": "text/x-include-once-url",
    b"#include": "text/x-include-url",
    b"#upstart-job": "text/upstart-job",
    b"#part-handler": "text/part-handler",
}


def _type(data: bytes) -> str:
    """Users leave out the first line of a cloud-config, since k0smotron writes it for them."""
    return next((kind for start, kind in _TYPES.items() if data.startswith(start)), "text/cloud-config")


def _body(data: bytes) -> str:
    """Headers' end and content. A line of ours is plain ASCII, but may be longer than mail allows, which nobody minds
    here; the user's goes as base64 unless it is plain."""
    if data.isascii() and b"\r" not in data and b"\0" not in data:
        return f"Content-Transfer-Encoding: 7bit\n\n{data.decode()}\n"
    return f"Content-Transfer-Encoding: base64\n\n{base64.encodebytes(data).decode()}"
