"""The constant init scripts of pods. They take their input from files and environment, never from their text."""

from importlib.resources import files

CERTS_INIT = files(__name__).joinpath("certs-init.sh").read_text()
