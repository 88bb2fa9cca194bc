"""Asks an etcd how many keys it has: `etcd_question.py ADDRESS CA-FILE [CERTIFICATE-AND-KEY-FILE]`.

A program of its own, because it has to run in the network of the lab's node. Only TLS refusals end with `refused: `.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys


def main(address: str, authority: str, pair: str | None = None) -> int:
    """Print etcd's answer as JSON. Returns the exit code."""
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    if pair:
        context.load_cert_chain(pair)
    connection = http.client.HTTPSConnection(address, 2379, context=context, timeout=10)
    try:
        # From the first key to the last: "\\0" to "\\0".
        connection.request("POST", "/v3/kv/range", json.dumps({"key": "AA==", "range_end": "AA==", "count_only": True}))
        answer = json.loads(connection.getresponse().read())
    except (ssl.SSLError, ConnectionResetError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"count": int(answer.get("count", 0))}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
