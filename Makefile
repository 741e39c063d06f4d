# Needs Python 3.11 or newer, make and a package registry; makes the rest itself.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
FIGURES = status=$$?; $(BIN)/python -m tests.faults.figures build/faults.xml build/soak.xml docs/reliability-figures.md; exit $$status
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: serve test faults soak lint format bench constraints

serve: $(VENV)/.serve
	@$(BIN)/runwire serve --config config.yaml

test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile
	bash tests/wheel.sh $(BIN)/python

# The cases of faults with all their counts (an hour and more), and streams by the hundred thousand. What they saw is
# written to docs/reliability-figures.md.
faults: $(VENV)/.dev
	mkdir -p build
	FAULTS=full $(BIN)/python -m pytest tests/faults tests/e2e/test_shutdown.py tests/e2e/test_slow_readers.py \
		--ignore tests/faults/test_memory.py -o junit_family=xunit1 --junitxml build/faults.xml; $(FIGURES)

soak: $(VENV)/.dev
	mkdir -p build
	FAULTS=full $(BIN)/python -m pytest tests/faults/test_memory.py -o junit_family=xunit1 --junitxml build/soak.xml; $(FIGURES)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# Pins what a fresh environment resolves to today.
constraints:
	rm -rf build/fresh
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet --upgrade pip
	build/fresh/bin/python -m pip install --quiet -e '.[models,postgres,redis]' --group dev
	build/fresh/bin/python -m pip freeze --exclude-editable > constraints.txt

$(BIN)/python:
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[models,postgres,redis]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	$(INSTALL) --group dev
	@touch $@
