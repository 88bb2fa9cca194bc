"""Where every `k0s` begins: most of the program is imported only by the commands that need it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from k0s_images.standin import kubectl
from k0s_images.standin.errors import Fatal


def main(words: Sequence[str]) -> int:
    """Run one command; the exit code."""
    if words and words[0] in kubectl.NAMES:
        try:
            return kubectl.run(words[1:])
        except Fatal as fault:
            print(f"Error: {fault}", file=sys.stderr)
            return 1
    from k0s_images.standin import cli

    return cli.main(words)
