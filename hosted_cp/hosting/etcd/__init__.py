"""The store of a tenant with an etcd of its own: its objects, the right to begin, its command line, what ails it."""
