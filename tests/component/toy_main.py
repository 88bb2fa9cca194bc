"""A real process that runs the Toy operator: `python -m tests.component.toy_main KUBECONFIG NAMESPACE`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from hosted_cp.kube import resources
from hosted_cp.kube.credentials import from_kubeconfig
from hosted_cp.operator import Operator, Options
from tests.component.toy import TOY, toy_kind


async def main(kubeconfig: Path, namespace: str) -> None:
    """Run until a signal comes."""
    resources.register(TOY)
    options = Options(namespaces=(namespace,), lease_namespace=namespace, health_address="127.0.0.1:0")
    operator = Operator(await from_kubeconfig(kubeconfig), [toy_kind()], options=options)
    await operator.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
