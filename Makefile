# Everything that is done to this project more than once. `make help` lists it.
#
# PYTHON is the interpreter the virtual environment is made from; all else runs inside it.
# ARGS goes to pytest, the demo or the benchmark: make unit ARGS='-k cancel'.
# DATA is a workflow in WfCommons JSON, or several: make bench-workflows DATA='a.json b.json'; or questions: make paid-once DATA=FILE.

PYTHON ?= python3
ARGS   ?=
JOBS   ?= 2
DATA   ?=

VENV := .venv
BIN  := $(VENV)/bin
LOCK := requirements/test.lock

.DEFAULT_GOAL := help
.PHONY: help venv test check lint types boundaries unit integration e2e fault fault-long soak paid-once systemd cgroups-vm demo demo-gemini bench bench-long bench-peers bench-scale bench-pauses bench-workflows bench-fairness bench-workers bench-quota lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- environment ---

venv: $(VENV)/.project ## make .venv with the locked set and the project in it

# A changed lock makes the environment anew, so that it never holds more than the lock says.
$(VENV)/.locked: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("gemflow needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(LOCK)
	@touch $@

# Without build isolation: the build backend is in the lock like all else.
$(VENV)/.project: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# --- checks ---

test: check ## lint, types, import boundaries and all tests, JOBS files at a time
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: lint types boundaries

lint: venv ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## mypy --strict
	$(BIN)/mypy

boundaries: venv ## which room may import which (.importlinter)
	$(BIN)/lint-imports

unit: venv ## tests of single rooms: no daemon, no sockets
	$(BIN)/python -m pytest tests/unit $(ARGS)

integration: venv ## conformance suites, and rooms together with real files and sockets
	$(BIN)/python -m pytest tests/conformance tests/integration $(ARGS)

e2e: venv ## tests of a real gemflowd with a real gemflowctl
	$(BIN)/python -m pytest tests/e2e $(ARGS)

fault: venv ## tests that kill the daemon and its workers
	$(BIN)/python -m pytest tests/fault $(ARGS)

soak: venv ## ten minutes of good and bad tasks together (GEMFLOW_SOAK=seconds), not part of `test`
	GEMFLOW_SOAK=$${GEMFLOW_SOAK:-600} $(BIN)/python -m pytest tests/fault/test_soak.py -s --timeout=0 $(ARGS)

fault-long: venv ## the same for long (GEMFLOW_FAULT_LONG=1), not part of `test`
	GEMFLOW_FAULT_LONG=1 $(BIN)/python -m pytest tests/fault --timeout=0 $(ARGS)

paid-once: venv ## the questions of DATA=FILE (JSON lines with `question`) once each, while the daemon is killed; not part of `test`
	@test -n '$(DATA)' || { echo "name a file of questions: make paid-once DATA=FILE" >&2; exit 2; }
	GEMFLOW_QUESTIONS='$(abspath $(DATA))' $(BIN)/python -m pytest tests/fault/test_paid_once.py -s --timeout=0 $(ARGS)

systemd: venv ## tests under a real systemd; skipped by name where none can be started
	$(BIN)/python -m pytest tests/systemd $(ARGS)

cgroups-vm: venv ## workers in delegated control groups, in a virtual machine (needs qemu, see tests/systemd/vm); not part of `test`
	@VM_PYTHON=$(BIN)/python tests/systemd/vm $(ARGS) || { code=$$?; [ $$code = 77 ] || exit $$code; }

# --- to look at ---

demo: venv ## a flow from start to end, with the stand-in for the model
	$(BIN)/python examples/demo.py --offline $(ARGS)

demo-gemini: venv ## the same with the real model; needs GEMINI_API_KEY
	$(BIN)/python examples/demo.py --gemini $(ARGS)

bench: venv ## every figure with its target, short; ARGS='--only throughput trips' for some
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks --short $(ARGS)

bench-long: venv ## the same with as many tasks as docs/performance.md speaks of: about ten minutes
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: venv ## other task systems in the same run, in environments of their own (build/peers); ARGS='--only ray dask'
	$(BIN)/python -m benchmarks.peers.install
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-scale: venv ## memory, rates and restart with a million tasks queued (ARGS='--tasks 10000000' for ten)
	$(BIN)/python -m benchmarks.scale $(or $(ARGS),--tasks 1000000)

bench-pauses: venv ## how long others wait while large flows are received, settled, cancelled and deleted
	$(BIN)/python -m benchmarks.pauses $(ARGS)

bench-workflows: venv ## makespan of real workflow graphs against their lower bound; DATA=FILE
	@test -n '$(DATA)' || { echo "name workflows in WfCommons JSON 1.5: make bench-workflows DATA='FILE ...'" >&2; exit 2; }
	$(BIN)/python -m benchmarks.workflows $(DATA) $(ARGS)

bench-fairness: venv ## whether a large flow, or a million waiting tasks, keep small ones waiting
	$(BIN)/python -m benchmarks.fairness $(ARGS)

bench-quota: venv ## a quota in real time: how near to what it allows, and how many calls are answered 429 (4 minutes)
	$(BIN)/python -m benchmarks.quota $(ARGS)

bench-workers: venv ## what it costs that workers are replaced, how soon a fresh one works, 2,000 coroutines
	$(BIN)/python -m benchmarks.workers $(ARGS)

# --- upkeep ---

# Resolved in an environment of its own: what is pinned is what pyproject.toml asks for, not what somebody tried out.
lock: ## pin the newest versions that pyproject.toml allows
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]' hatchling editables
	(sed '/^#/!d' $(LOCK); build/lock/bin/python -m pip freeze --exclude gemflow) >build/test.lock
	@! grep -nE '://|^-|@' build/test.lock || { echo 'the lock would hold an address, a path or an option' >&2; exit 1; }
	mv build/test.lock $(LOCK)
	rm -rf build/lock

clean: ## remove all that was made here
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
