# The single entry: `make demo` runs the main job, `make test` the tests; both set up what they need.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV ?= .venv
CLIENTS ?= .clients
BIN := $(VENV)/bin
JOBS ?= 2
NIGHTLY ?= .nightly
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo demo-docker demo-maven check test unit sim sim-nightly integration faults chaos e2e bench docs golden lock clean

setup: $(VENV)/.ready $(CLIENTS)/.ready

$(VENV)/.ready: requirements-dev.lock pyproject.toml deploy/debian-packages.txt
	deploy/setup-debian.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {sys.version}")'
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

$(CLIENTS)/.ready: requirements-clients.lock $(VENV)/.ready
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --require-hashes -r requirements-clients.lock
	touch $@

$(VENV)/.ready-e2e: deploy/debian-packages-e2e.txt $(VENV)/.ready
	deploy/setup-debian.sh debian-packages-e2e.txt
	touch $@

demo: setup ## Four authorized and two regular nodes do the main job, live, in under three minutes.
	$(BIN)/pyrsia-node demo

demo-docker: setup ## The same for images: import by four nodes, pull through a fifth, push, tag history.
	$(BIN)/pyrsia-node demo docker

demo-maven: setup ## The same for Maven: rebuild from source by four nodes, a build through a fifth, explain.
	$(BIN)/pyrsia-node demo maven

check: setup ## Formatting, lint, types, import contracts, dependencies, spelling.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/tidy

test: setup ## Everything that fits in twenty minutes on two cores.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not nightly" --ignore tests/tidy

unit: setup
	$(BIN)/python -m pytest -q -n $(JOBS) tests/unit tests/property tests/conformance

sim: setup ## 10,000 seeded schedules of the consensus core, and the planted bugs.
	$(BIN)/python -m consensus.sim --schedules 9500 --n 4,7 --jobs $(JOBS)
	$(BIN)/python -m consensus.sim --schedules 500 --n 4,7 --jobs $(JOBS) --signatures real --seed 1000000
	$(BIN)/python -m consensus.sim --mutants --jobs $(JOBS)

sim-nightly: setup ## 100,000 schedules, 100,000 Twins scenarios, forks, planted bugs; killed, it goes on.
	$(BIN)/python -m consensus.sim.nightly --jobs $(JOBS) $(NIGHTLY)

integration: setup
	$(BIN)/python -m pytest -q -n $(JOBS) tests/integration

faults: setup ## Every durable write of three blocks fails, in every way; then a restart and fsck.
	$(BIN)/python -m tests.faults --keep

chaos: setup ## Thirty minutes of faults against seven real nodes in namespaces; root only.
	$(BIN)/python -m pytest -q -m nightly tests/chaos
	$(BIN)/python -m tests.chaos --nodes 7 --seconds 1800 --power-cuts 20 --keep

e2e: setup $(VENV)/.ready-e2e ## Whole networks, real clients, the wide table of rebuilds.
	$(BIN)/python -m pytest -m nightly tests/e2e tests/integration

bench: setup ## Prints the tables of docs/benchmarks.md and writes benchmarks/results/.
	$(BIN)/python -m benchmarks

docs: setup
	$(BIN)/mkdocs build --strict

golden: setup ## Rewrite the golden hashes of wire and disk formats; read the diff before you commit it.
	PYRSIA_GOLDEN=write $(BIN)/python -m pytest -q -p no:randomly tests -k golden

lock: ## Resolve the lock files again (hashes, no addresses).
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group clients -o requirements-clients.lock

clean:
	rm -rf $(VENV) $(CLIENTS) .demo .bench site
