# Two commands matter: `make demo` and `make test`. Both set everything up first; a second run installs nothing.

PYTHON ?= $(shell command -v python3.13 >/dev/null 2>&1 && python3.13 -c '' 2>/dev/null && echo python3.13 || \
                  { command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12; } || \
                  { command -v python3.11 >/dev/null 2>&1 && python3.11 -c '' 2>/dev/null && echo python3.11; } || echo python3)
BIN := .venv/bin
STAMP := .venv/.installed

export PYTHONDONTWRITEBYTECODE := $(PYTHONDONTWRITEBYTECODE)

.PHONY: help setup demo test test-fast bench chaos lint format lock up clean
help:            ## these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## build .venv from the lock, generate secrets into .env
	@$(BIN)/cuff setup --quiet

demo: setup      ## the main job: a simulated hospital, two nights, real Airflow
	@$(BIN)/cuff demo

up: setup        ## keep Airflow, the live door, the API and MLflow running until Ctrl-C
	@$(BIN)/cuff up

# What starts servers, a browser or a whole Airflow runs alone: beside other work its clocks would measure the others.
ALONE := airflow or browser or postgres or kafka
test: setup      ## every test that this machine can run; PYTEST_ARGS="…" chooses
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not ($(ALONE))' --cov --cov-report=
	$(BIN)/python -m pytest -m '$(ALONE)' --cov --cov-append --cov-report=term:skip-covered --cov-fail-under=90
endif

test-fast: setup ## the small, fast tests only
	$(BIN)/python -m pytest -m 'not slow and not airflow and not browser and not postgres and not kafka' $(PYTEST_ARGS)

# CUFF_CHAOS_SIZE=small for a quick look; CHAOS_ARGS="kills" chooses. An hour and more in full, on two cores.
chaos: setup     ## the live door under kills, failing disks, mutated messages, slow neighbours
	$(BIN)/python -m bench.chaos $(CHAOS_ARGS)

bench: setup     ## a table of ratios, each measured against a peer in the same run
	$(BIN)/python -m bench $(BENCH_ARGS)

lint: setup      ## ruff, mypy, sqlfluff
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint dbt_project/models

format: setup    ## let ruff sort imports and mend what it can
	$(BIN)/ruff check --fix .

lock: $(STAMP)   ## compile requirements.in into the hash-locked requirements.txt
	$(BIN)/uv pip compile requirements.in -o requirements.txt --universal --python-version 3.11 --generate-hashes --no-header --upgrade

clean:           ## remove all state (keeps .venv and .env)
	rm -rf var

# uv itself comes out of the same lock, by pip with hashes; uv then installs the rest in seconds.
$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Cuff needs Python 3.11, 3.12 or 3.13, and %s is %d.%d; name one with PYTHON=…" % ("$(PYTHON)", *v))'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/^    # via/p' requirements.txt > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip sync --python .venv --require-hashes requirements.txt
	@$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
