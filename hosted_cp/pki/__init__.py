"""Keys and certificates: recipes to make them, facts about those that exist, and rules for what counts as current.

Pure: no clock, no randomness, no I/O. `recipes` says how a Secret is made and makes it from injected entropy, time and
keys; `facts` reads from a Secret what may be known in public; `renewal` and `authority` judge by those facts alone, so
that no decision ever looks at a private key.
"""
