"""k0s' own formats: what its config, command line and tokens look like, and what each range of its versions can do.

Pure: no I/O, no clock, no randomness. Nothing here knows how a control plane is run; it serves pods and machines alike.
"""
