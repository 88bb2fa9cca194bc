"""Contract tests: each rule of k0s that hosted-cp relies on, asserted from outside.

They run `k0s controller` as a plain process in a network and mount namespace of its own, with no cluster around it, and
compare what it does with `facts/<version>/`: answers observed on a running k0s of that version. The same tests run
against a real k0s (`K0S_BINARY=/path/to/k0s`) and, without one, against the stand-in; both must pass, which is what
makes the stand-in trustworthy.

    pytest e2e/contract                                    the stand-in, both versions
    K0S_BINARY=/path/to/k0s pytest e2e/contract            a real one (several: separated by `:`)
    python -m e2e.contract.observe /path/to/k0s            renew the facts of its version
    python -m e2e.contract.config_cases /path/to/k0s       renew the verdicts on configurations

They need root. Wherever k0s does what its documentation does not say, the facts win and the stand-in follows.
"""
