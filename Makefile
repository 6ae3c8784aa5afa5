# `make quickstart` and `make test` set up everything they need in .venv, with nothing but Python on the machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: quickstart test lint format clean install

quickstart: $(INSTALLED)
	$(BIN)/python tools/quickstart.py

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

# mmpose 1.3.2 requires chumpy, which no longer installs and which nothing here uses: hence --no-deps. The wheels of
# xtcocotools were built for numpy 1: it is built from source, and where there is no compiler numpy 1 is used instead.
$(INSTALLED): setup.py tools/install_mmpose.sh
	$(PYTHON) -c "import sys; sys.exit('Python 3.10 to 3.12 is needed, this is ' + sys.version) if not (3, 10) <= sys.version_info[:2] <= (3, 12) else 0"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip setuptools wheel
	$(BIN)/python -m pip install -e .[onedl,tests]
	sh tools/install_mmpose.sh $(BIN)/python
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info work_dirs/quickstart work_dirs/mini_long .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
