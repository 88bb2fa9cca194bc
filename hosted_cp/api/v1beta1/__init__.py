"""The kinds as they are served at `v1beta1`, for k0smotron's older manifests and clients.

Shapes are those of k0smotron's v1beta1. Nothing in the product reads these models: objects are stored and worked on at
v1beta2 (`hosted_cp.api`), and `hosted_cp.api.conversion` translates. They are here for what an API server needs of a
version: a schema, columns, and rules about changes. What v1beta2 refuses by type or bound is refused here, too: an
object that came in at v1beta1 must not be one that v1beta2 clients, the operator among them, cannot write any more.
"""
