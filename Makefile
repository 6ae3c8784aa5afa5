# `make quickstart` and `make test` set up everything they need in .venv, with nothing but Python on the machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export NO_MKDOCS_2_WARNING := 1

.PHONY: quickstart test test-dist docs lint format dist clean install

quickstart: $(INSTALLED)
	$(BIN)/python tools/quickstart.py

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules $(PYTEST_OPTIONS) tests delvm_mm

# Strictly: a dead link or a page that mkdocs.yml does not list ends it. The tests build it too.
docs: $(INSTALLED)
	$(BIN)/mkdocs build
	@echo "open build/site/index.html through a server: $(BIN)/python -m http.server -d build/site"

# Wheel and sdist in an environment of their own: installs everything anew, and is left out of `make test`.
test-dist: $(INSTALLED)
	DELVM_MM_TEST_DIST=1 $(BIN)/python -m pytest -s tests/test_dist.py

# The sdist, and the wheel that is built of it.
dist: $(INSTALLED)
	rm -rf build dist
	$(BIN)/python -m build --no-isolation
	ls -l dist

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/codespell delvm delvm_mm configs tools tests docs README.md CHANGELOG.md CONTRIBUTING.md

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

# mmpose 1.3.2 requires chumpy, which no longer installs and which nothing here uses: it has a script of its own.
$(INSTALLED): setup.py tools/install_mmpose.sh tools/mended_xtcocotools.py
	$(PYTHON) -c "import sys; sys.exit('Python 3.10 to 3.14 is needed, this is ' + sys.version) if not (3, 10) <= sys.version_info[:2] <= (3, 14) else 0"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip setuptools wheel
	$(BIN)/python -m pip install -e .[onedl,tests,webui,docs]
	sh tools/install_mmpose.sh $(BIN)/python
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info work_dirs/quickstart work_dirs/from_scratch work_dirs/mini_long .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
