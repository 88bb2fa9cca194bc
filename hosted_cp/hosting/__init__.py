"""A control plane in pods: which objects one tenant consists of, and the plan that brings them about.

Pure: one module for each child object, and `hosted_cp.hosting.children` with their ordered list. A module answers
`wanted(tenant)` with the objects it wants; an object whose inputs are not known yet is simply not among them. To add a
child object: a new module, one line in the list of `children.py`, its golden files. Rooms of their own are `etcd`, the
store that a tenant may have, and `capi`, what Cluster API asks for beyond the tenant.
"""
