# Everything a machine needs is installed by these targets: Python 3.11 or later, and for the tests Java, Maven and apt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := schemas log capture sinks tailrace
CODECS := $(shell sed -n 's/^    "\(.*\.py\)",$$/\1/p' setup.py)
WORKERS ?= 2

.PHONY: build demo lint test test-cases test-mutants bench clean

build: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Tailrace needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip

# The editable install compiles the codecs in place; it is done again when one of them changes.
$(VENV)/.dev: $(VENV)/bin/python pyproject.toml setup.py $(CODECS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,demo]'
	touch $@ $(VENV)/.demo

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml setup.py $(CODECS)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m tailrace.demo

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES) tests benchmarks
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict deploy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/check-jsonschema --schemafile tailrace/pipeline.schema.json deploy/pipeline.yaml
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/shellcheck --external-sources --source-path SCRIPTDIR tests/bed/*.sh .ci/run

test: build
	tests/bed/install.sh
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-cases: build
	tests/bed/install.sh
	$(BIN)/python -m pytest -n $(WORKERS) -m case --cases build/cases.json; ended=$$?; \
	PYTHONPATH=tests $(BIN)/python -m cases build/cases.json && exit $$ended

test-mutants: build
	tests/bed/install.sh POSTGRES18 MYSQL80 MARIADB118 KAFKA REGISTRY
	PYTHONPATH=tests $(BIN)/python -m mutants

bench: build
	tests/bed/install.sh POSTGRES18 MARIADB118 MYSQL80 KAFKA REGISTRY
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info
	find $(SOURCES) . -maxdepth 3 -name '*.so' -not -path './$(VENV)/*' -delete
