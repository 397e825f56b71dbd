# make            what can be done here
# make run        raw files to a registered model, on the embedded storms
.DEFAULT_GOAL := help
.PHONY: help run ui weights check check-types check-sql test test-slow notebooks tutorial bench bench-scale
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/ready
TUTORIAL_READY := $(VENV)/tutorial
LESSONS := $(patsubst notebooks/colab/%,tutorial/%,$(wildcard notebooks/colab/*.ipynb))
PEERS ?= .venv-peers
SOURCES ?= sources
TRAINING := --model.preset small --train.max_steps 1200 --train.validate_every 100
PEERS_READY := $(PEERS)/ready

export DO_NOT_TRACK ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS ?= 120

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp file makes set-up happen once, and again when the requirements change.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY) ## raw files of the embedded storms to a registered model
	$(BIN)/trajfoundry run

ui: $(READY) ## the Prefect and MLflow interfaces, with a worker
	$(BIN)/trajfoundry ui

# Both parts are looked up where they are finished. SOURCES is the folder of the files of the corpus.
weights: $(READY) ## a wheel of weights of public data, from SOURCES=FOLDER
	$(BIN)/trajfoundry run --corpus open --model.family foundry $(TRAINING) --source-folder $(SOURCES)
	$(BIN)/trajfoundry weights

check: $(READY) ## style, types, import contracts and SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory --jobs 2 check-types check-sql

check-types: $(READY)
	$(BIN)/mypy

check-sql: $(READY)
	$(BIN)/sqlfluff lint sql

# Each process computes on one thread: threads that wait for each other busily cost more than they do.
test: check ## the checks and the tests, in minutes
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
		$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test-slow: $(READY) ## the tests that take long: kills, servers, whole runs
	$(BIN)/python -m pytest -m slow

notebooks: $(READY) ## the readers' copies of the notebooks, from their sources
	$(BIN)/python -m notebooks.copies

# A reader writes into a copy of the copy, which nothing overwrites. A container is often root.
$(LESSONS): tutorial/%: | notebooks/colab/%
	@mkdir -p tutorial
	@cp notebooks/colab/$* $@

$(TUTORIAL_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tutorial]' 'jupyterlab>=4'
	@touch $@

tutorial: $(TUTORIAL_READY) $(LESSONS) ## the notebooks in Jupyter, on this machine alone
	$(BIN)/jupyter lab --ip 127.0.0.1 --allow-root tutorial

# What we measure against has an environment of its own: it must never decide our versions.
$(PEERS_READY): tests/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/peers.txt
	@touch $@

bench: $(READY) $(PEERS_READY) ## the measurements against peers
	TRAJFOUNDRY_PEERS=$(abspath $(PEERS)) $(BIN)/python -m pytest -m benchmark

bench-scale: $(READY) ## up to a million made-up trips, with a gigabyte for the database
	$(BIN)/python -m pytest -m scale
