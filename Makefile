# Everything a developer or a new user calls. What is slow to build is cached outside the checkout (HOSTED_CP_CACHE).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help venv ready preflight demo demo-down demo-capi demo-capi-down test test-unit test-component test-e2e test-all lint bench crds components images docs lock

PYTHON ?= python3
CACHE := $(or $(HOSTED_CP_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hosted-cp)
VENV := $(CACHE)/venv-$(shell { $(PYTHON) -V; cat requirements/dev.txt; } | sha256sum | cut -c1-16)
PY := $(VENV)/bin/python
export PYTHONPATH := $(CURDIR)
export PATH := $(VENV)/bin:$(PATH)
# Nobody's production cluster ever meets our tests.
unexport KUBECONFIG

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

# No prerequisite: the lock file's digest is in the folder's name, and a fresh clone's newer file must not remake what
# others are using. Two that find it missing make it once.
$(VENV)/.ready:
	@mkdir -p $(CACHE)
	@flock $(CACHE)/.venv.lock bash -ec '[ ! -e $@ ] || exit 0; \
	  echo "$$(date +%T)  installing the Python environment (usually 1 min)" >&2; \
	  rm -rf $(VENV); $(PYTHON) -m venv $(VENV); \
	  $(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt; \
	  touch $@'

venv: $(VENV)/.ready  ## the Python environment, from the hash-pinned lock file
	@echo $(VENV)

lock:  ## renew the lock files from pyproject.toml (needs uv)
	echo 'hatchling>=1.27' | uv pip compile -q --upgrade - --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o deploy/requirements-build.txt
	uv pip compile -q --upgrade pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements/runtime.txt
	uv pip compile -q --upgrade pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements/dev.txt

preflight:  ## what this machine lacks for demo and tests
	@$(PYTHON) -m e2e.lab preflight

demo:  ## a Cluster manifest becomes a control plane; a worker joins from another network
	@$(PYTHON) -m e2e.lab preflight --install
	@$(MAKE) -s venv >/dev/null
	@$(PY) -m e2e.demo

demo-down:  ## remove every trace of the demo
	@$(MAKE) -s venv >/dev/null
	@$(PY) -m e2e.demo down

demo-capi:  ## a cluster of Cluster API: machines boot, join, are scaled and moved to another version
	@$(PYTHON) -m e2e.lab preflight --install
	@$(MAKE) -s venv >/dev/null
	@$(PY) -m e2e.demo_capi

demo-capi-down:  ## remove every trace of that demo
	@$(MAKE) -s venv >/dev/null
	@$(PY) -m e2e.demo_capi down

# What needs root, packages and programs is prepared first, so that a fresh machine can run the tests.
ready:
	@$(PYTHON) -m e2e.lab preflight --install
	@$(MAKE) -s venv >/dev/null

test: ready  ## lint, unit, component and end-to-end tests
	@$(PY) -m tests.stages lint unit build component contract e2e

lint: ready  ## ruff, mypy --strict, import-linter
	@$(PY) -m tests.stages lint

test-unit: ready  ## pure rooms; no cluster
	@$(PY) -m tests.stages unit

test-component: ready  ## the operator against a real kube-apiserver and etcd
	@$(PY) -m tests.stages component

test-e2e: ready  ## what we rely on of k0s; control planes and workers in the lab
	@$(PY) -m tests.stages contract e2e

test-all: ready  ## everything, with the long sweeps
	@$(PY) -m tests.stages lint unit build component contract e2e examples sweep former-core

crds: ready  ## generate crds/ from the models
	@$(PY) -m hosted_cp.api.crds --write crds/

components: ready  ## what clusterctl installs, as a repository in out/components
	@$(PY) -m release.components --write out/components

docs: ready  ## generate docs/kinds.md from the models
	@$(PY) -m hosted_cp.api.docs --write docs/kinds.md

images: ready  ## build all images, and say where they are
	@$(PY) -m k0s_images images

bench: ready  ## time and requests, as a table and a picture in out/
	@$(PY) -m e2e.bench
