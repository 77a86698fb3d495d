# pollstorm, from an empty clone: `make demo`.

PYTHON ?= python3
ONLY ?=
BIN := .venv/bin
STAMP := .venv/installed

export LC_ALL := C.UTF-8
unexport PYTHONPATH PYTHONHOME

.PHONY: help setup services perl browser demo test conformance overload fuzz survival matrix lint bench bench-long clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: services $(STAMP) ## .venv with all dependencies; memcached and MariaDB, if missing

services:
	@.ci/install-missing memcached:memcached mariadbd:mariadb-server \
		mariadb-install-db:mariadb-server

$(STAMP): pyproject.toml constraints.txt
	@.ci/install-missing $(PYTHON):python3
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) --version) is too old: pollstorm needs 3.11 or later," \
			"for example make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/install-missing ensurepip:python3-venv
	@$(PYTHON) -m venv .venv
	@echo "installing Python packages into .venv"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## a controversial poll through three ways of taking votes; report in reports/latest
	$(BIN)/pollstorm run controversial-poll --modes direct,cached,classic

perl:
	@perl -MCache::Memcached -e 1 2>/dev/null || \
		.ci/install-missing perl-cache-memcached:libcache-memcached-perl || \
		echo "without it the tests with a client in Perl are skipped" >&2

browser:
	@.ci/install-missing chromium:chromium || \
		echo "without it the tests that look at pages are skipped" >&2

test: setup perl browser ## the whole test suite, real services included
	$(BIN)/pytest

conformance: setup ## simulated memcached and database against the real ones, 100,000 commands
	POLLSTORM_CONFORMANCE_COMMANDS=$${POLLSTORM_CONFORMANCE_COMMANDS:-100000} $(BIN)/pytest \
		tests/test_memcached_contract.py tests/test_conformance_memcached.py \
		tests/test_conformance_database.py

overload: setup ## a site offered three times what it can take, for 30 s
	POLLSTORM_OVERLOAD_S=$${POLLSTORM_OVERLOAD_S:-30} $(BIN)/pytest tests/test_site_overload.py

fuzz: setup ## a real site against 100,000 hostile requests; POLLSTORM_FUZZ_SEED repeats a run
	POLLSTORM_FUZZ_REQUESTS=$${POLLSTORM_FUZZ_REQUESTS:-100000} \
		POLLSTORM_FUZZ_SEED=$${POLLSTORM_FUZZ_SEED:-$$(date +%s)} \
		$(BIN)/pytest -s tests/test_hostile.py

survival: setup ## a run interrupted and killed at each of its twelve steps leaves nothing behind
	POLLSTORM_SURVIVAL=all $(BIN)/pytest tests/test_survival.py

matrix: setup ## every fault in every mode, against what is expected; goes on where it stopped
	$(BIN)/pollstorm matrix

lint: $(STAMP) ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## speed, as ratios; one figure with ONLY=name
	$(BIN)/python -m bench $(ONLY)

bench-long: setup ## is the gate to be believed? 40 equal and 20 slowed versions, more than an hour
	$(BIN)/python -m bench.long_gate

clean: ## remove .venv, builds and caches; reports stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
