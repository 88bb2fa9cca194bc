"""The command line of `k0s install worker`, and which arguments it can hold.

k0s writes its arguments into a service file of the machine's init system, and does not quote them for its language.
Observed of k0s 1.36: for systemd only spaces are escaped (`%n` becomes the unit's name, `$HOME` a variable, quotes and
backslashes go); OpenRC's and SysV's files are read by a shell. What none of them can hold is refused
(`argument_problems`); what only SysV's script cannot hold (a space, `<`, `;`) is refused on such a machine, by the
machine (`needs_real_init`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from hosted_cp.api.problems import Problem
from hosted_cp.machines.quoting import PLAIN_WORD
from hosted_cp.machines.worker import Platform, Worker, WorkerError, binary_path, machine_label, token_path

_KUBELET = "kubelet-extra-args"
_HOSTNAME = "--hostname-override"
_PROVIDER = "--provider-id"

#: What systemd, or the shell that reads OpenRC's and SysV's scripts, takes for something else even within k0s' quotes.
_BROKEN = frozenset("\"'\\$%`")
_BROKEN_ON_WINDOWS = frozenset('"')


def install_argv(worker: Worker) -> list[str]:
    """`k0s install worker` with everything, in the order of k0smotron. Raises `WorkerError`.

    The user's flags come after ours, so that his labels and taints are added, and of a flag that counts once his wins;
    his kubelet arguments are put behind ours in the one flag that there can be.
    """
    label = machine_label(worker)
    own, kubelet = _split(words(worker))
    argv = [binary_path(worker), "install", "worker", "--token-file", token_path(worker)]
    if label:
        argv.append(f"--labels={label}")
    if worker.taints:
        argv.append(f"--taints={','.join(worker.taints)}")
    argv += own
    extra = list(kubelet)
    if worker.provider_id and not _names(kubelet, _PROVIDER):
        extra.insert(0, f"{_PROVIDER}={worker.provider_id}")
    if not (worker.use_system_hostname or worker.pool or _names(kubelet, _HOSTNAME)):
        extra.insert(0, f"{_HOSTNAME}={worker.name}")
    if extra:
        argv.append(f"--{_KUBELET}={' '.join(extra)}")
    return argv


def words(worker: Worker) -> list[str]:
    """The entries of `args`, split as the machine's shell would split them, to which k0smotron hands them: on Windows a
    backslash is a letter like others. Raises `WorkerError`."""
    found = [_words(entry, worker.platform) for entry in worker.args]
    if None in found:
        raise WorkerError("spec.args: a quotation mark is not closed")
    return [word for entry in found for word in entry or ()]


def _words(entry: str, platform: Platform) -> list[str] | None:
    lexer = shlex.shlex(entry, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if platform is Platform.WINDOWS:
        lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:
        return None


def _split(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags, and what was given as the kubelet's arguments."""
    own: list[str] = []
    kubelet: list[str] = []
    rest = iter(given)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != f"--{_KUBELET}":
            own.append(word)
        else:
            value = value if equals else next(rest, "")
            kubelet += [value.strip()] if value.strip() else []
    return own, kubelet


def _names(kubelet: Sequence[str], flag: str) -> bool:
    return any(part.partition("=")[0] == flag for value in kubelet for part in value.split())


def needs_real_init(worker: Worker) -> bool:
    """Whether an init script in the style of SysV, as k0s writes it, would take these arguments apart, or run them."""
    return not all(PLAIN_WORD.fullmatch(word) for word in install_argv(worker))


def argument_problems(worker: Worker, *, field: str = "spec") -> Iterator[Problem]:
    """Arguments that would not reach `k0s worker` as they are written."""
    first = None
    for index, entry in enumerate(worker.args):
        place = f"{field}.args[{index}]"
        found = _words(entry, worker.platform)
        if found is None:
            yield Problem(field=place, fault="a quotation mark is not closed", remedy="close it")
            continue
        yield from _unspeakable(place, "".join(found), worker)
        if ";" in found:
            yield Problem(field=place, fault="is a semicolon by itself, which systemd takes apart", remedy="remove it")
        if any(word.partition("=")[0] == "--token-file" for word in found):
            yield Problem(field=place, fault="--token-file is set already", remedy="remove it")
        if first is None and found:
            first = found[0]
            if not first.startswith("-"):
                yield Problem(field=place, fault="does not begin with a flag", remedy="write flags: --name=value")
    for name, value in (
        ("k0sInstallDir", worker.install_dir),
        ("workingDir", worker.working_dir),
        ("the provider's id", worker.provider_id),
    ):
        place = f"{field}.{name}" if " " not in name else name
        yield from _unspeakable(place, value, worker)


def _unspeakable(place: str, text: str, worker: Worker) -> Iterator[Problem]:
    broken = _BROKEN_ON_WINDOWS if worker.platform is Platform.WINDOWS else _BROKEN
    found = sorted({each for each in text if each in broken})
    if any(ord(each) < 0x20 or ord(each) == 0x7F for each in text):
        yield Problem(field=place, fault="holds a control character", remedy="remove it")
    elif found:
        yield Problem(
            field=place,
            fault=f"holds {' '.join(found)}, which k0s does not quote for the service manager it hands it to",
            remedy="write it without, or put the setting into a worker profile of the cluster's k0s config",
        )
