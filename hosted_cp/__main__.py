"""`python -m hosted_cp`: the command, from a checkout where it is not installed."""

from __future__ import annotations

from hosted_cp.cli.main import main

if __name__ == "__main__":
    main(prog_name="hosted-cp")
