"""A hosted control plane that Cluster API asks for: the same tenant, and what the provider contract says beyond it."""
