"""`make bench`: how fast the product is and what it asks of others, beside its budgets (DESIGN, section 9).

Two parts. `lab` starts tenants in the lab, with real pods, and says where the seconds between `kubectl apply` and the
first successful call go, beside the same objects applied by hand. `scale` runs the real operator process against a real
API server with many tenants whose pods are played, and counts requests, CPU and memory.

Times depend on the machine and on what else it does; counts do not. So counts are what to compare first.
"""
