# Every target sets up what it needs: .venv is made and filled on first use, and again when a pin changes.
# Needed on the machine: Python 3.11 or newer (with venv) and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# `make ui PORT=4000 HOST=0.0.0.0`, `make test WORKERS=8 ARGS="-k commit"`
HOST ?= 127.0.0.1
PORT ?= 3000
WORKERS ?= auto
ARGS ?=

# Where the demo keeps its lake and its Dagster instance; `make ui` opens the same.
DEMO_HOME ?= $(or $(LAKEFEED_DEMO_HOME),$(CURDIR)/.lakefeed/demo)
LINT_HOME := $(CURDIR)/.lakefeed/lint
DEMO_ENV := LAKEFEED_DEMO_HOME=$(DEMO_HOME) LAKEFEED_HOME=$(DEMO_HOME) DAGSTER_HOME=$(DEMO_HOME)/dagster

# Dagster reads dagster.yaml (no telemetry, no sign-up dialog) from its home only.
dagster_home = @mkdir -p $(1) && cp dagster.yaml $(1)/

# One thread a worker for the numeric libraries: the tests already use every core. Compiled tests are stored, also
# where the environment says otherwise: to rewrite their asserts takes half of the time of the collection.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

INSTALLED := $(VENV)/.installed
PINS := constraints.txt pyproject.toml sdk/pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help install wheel demo test test-live test-stack postgres browser docs pictures screenshots ui lint format bench soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with everything in it

$(INSTALLED): $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lakefeed needs Python 3.11 or newer; set PYTHON=python3.x")'
	@echo "Setting up $(VENV): a few minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e './sdk[anndata,cron,dask,http,huggingface,mcap,media,pandas,polars,postgres,s3,search,torch]' '.[demo,dev,docs,kubernetes]'
	@rm -rf build lakefeed_project.egg-info
	@touch $@

wheel: ## the package of the SDK, built from the files in sdk/, in dist/
	@mkdir -p dist
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist ./sdk
	@ls dist/*.whl

demo: $(INSTALLED) ## files to a trained model, through Dagster (80 seconds on two cores)
	$(call dagster_home,$(DEMO_HOME)/dagster)
	$(DEMO_ENV) $(BIN)/python -m dataset_assets.demo $(ARGS)

PYTEST = $(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## the library and the project on embedded parts (six minutes on two cores)
	$(PYTEST) -m "not live and not soak" $(ARGS)

test-live: $(INSTALLED) postgres browser ## the rest: what takes long, a live Dagster, PostgreSQL, S3, a browser, interpreters that are killed, the SDK alone
	$(PYTEST) -m "live and not soak" $(ARGS)

test-stack: $(INSTALLED) postgres ## what runs on PostgreSQL and S3, all of it, on servers of its own
	$(TEST_ENV) LAKEFEED_TEST_STACK=1 $(BIN)/python -m pytest -m stack --timeout 0 tests/stack $(ARGS)

# Only root can install it; anybody else is told what to install by the tests.
postgres:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || [ "$$(id -u)" -ne 0 ] \
		|| { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends postgresql; }

# As above: for the test of the UI.
browser:
	@command -v chromedriver >/dev/null || [ "$$(id -u)" -ne 0 ] \
		|| { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium chromium-driver; }

docs: $(INSTALLED) ## the documentation site, in build/site; a warning or a dead link is an error
	PYTHONPATH=docs/site $(BIN)/python -m lakefeed_site.build build/site
	@echo "open $(CURDIR)/build/site/index.html"

pictures: $(INSTALLED) ## the pictures of docs/concepts.md, from real runs
	PYTHONPATH=docs/site $(BIN)/python -m lakefeed_site.concept_pictures docs/images

screenshots: $(INSTALLED) browser demo ## the pictures in docs/images, from a running UI and the demo
	$(TEST_ENV) SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/python -m pytest tests/orchestration/test_live.py $(ARGS)
	$(DEMO_ENV) $(BIN)/python examples/lineage_picture.py $(DEMO_HOME)/training/resumed/model.pt docs/images/lineage.svg

ui: $(INSTALLED) ## Dagster's UI on the home of the demo
	$(call dagster_home,$(DEMO_HOME)/dagster)
	@$(DEMO_ENV) LAKEFEED_DAGSTER_URL=http://$(HOST):$(PORT) $(BIN)/python -m dataset_assets.demo.ui $(HOST) $(PORT) $(ARGS)

lint: $(INSTALLED) ## style, types, import rules, and that the definitions load
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(call dagster_home,$(LINT_HOME))
	DAGSTER_HOME=$(LINT_HOME) VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/dg check defs

format: $(INSTALLED) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# bench_*.py are for pytest-benchmark, _*.py are shared parts, the rest are scripts that compare.
SCRIPTS = $(filter-out sdk/benchmarks/bench_% sdk/benchmarks/_% sdk/benchmarks/conftest.py,$(sort $(wildcard sdk/benchmarks/*.py)))

bench: $(INSTALLED) ## benchmarks: the comparisons, then the timed ones
	@set -e; for script in $(SCRIPTS); do echo "== $$script"; $(BIN)/python $$script $(ARGS); done
	@ls sdk/benchmarks/bench_*.py >/dev/null 2>&1 || exit 0; \
		$(BIN)/python -m pytest -p benchmark --benchmark-only -o python_files='bench_*.py' sdk/benchmarks $(ARGS)

soak: $(INSTALLED) ## the long tests
	$(BIN)/python -m pytest -m soak --timeout 0 $(ARGS)

clean: ## remove the environment, the demo's home and the caches
	rm -rf $(VENV) .lakefeed build sdk/build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
