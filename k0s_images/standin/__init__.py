"""A stand-in for the `k0s` command: real upstream components under a small supervisor, where no k0s can be had.

Run as `python3 -m k0s_images.standin`. It follows k0s' documented interface (command line, ClusterConfig, data
directory, PKI, tokens, worker-config ConfigMaps) so that everything built on k0s can be run for real on a machine that
reaches no release server and no image registry. It was written from that documentation and from answers observed on a
running k0s, shares no code with it, and is not a product: `k0s version` says what it is.

The package depends on the standard library, PyYAML and cryptography (38 or newer) alone, and on nothing else of this
repository: an image may copy this one folder.
"""
