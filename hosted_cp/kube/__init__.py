"""Speaking with API servers: client, caches, work queue, lease, events, the loop."""
