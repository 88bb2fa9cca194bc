"""The real Cluster API core manager, and a provider of infrastructure that makes edge machines of the lab."""
