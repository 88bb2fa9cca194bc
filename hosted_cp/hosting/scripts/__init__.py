"""The constant init scripts of pods. They take their input from files and environment, never from their text."""

from importlib.resources import files


def _code(name: str) -> str:
    """The script without its comments: they belong to its readers, and rewording one must not restart any pod."""
    lines = files(__name__).joinpath(name).read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("#"))


CERTS_INIT = files(__name__).joinpath("certs-init.sh").read_text()
ETCD_PERMIT = _code("etcd-permit.sh")
