# make demo         two real training runs that share one oracle; leaves ./hyperoracle-demo/
# make test         all tests but the long ones: at most 6 minutes on two cores
# make test-fast    the inner loop, under 2 minutes: no test that starts processes or trains
# make test-long    learning tests and other tests of many minutes
# make test-surroundings   the tests in surroundings unlike this machine's (ONLY="nohup narrow")
# make images-test  the images and docker-compose.yml, built and run by podman, where it can be
# make check        format, lint, types, imports, known vulnerabilities of dependencies
# make format       let ruff put the code in order
#
# Each target sets up what it needs: a Python 3.11 or newer, make and a C++ compiler suffice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := protocol client server trainers
SOURCES := $(foreach package,$(PACKAGES),$(package)/src)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MANIFESTS := pyproject.toml constraints.txt $(PACKAGES:%=%/pyproject.toml)

# Two workers that take tests from each other when they have no more of their own.
PYTEST = TMPDIR="$$(.ci/scratch.sh)" OMP_NUM_THREADS=1 $(BIN)/pytest
IN_TWO = -n 2 --dist worksteal
# pytest's rewritten tests are kept between runs: compiling them takes each worker 6 seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-long test-surroundings images-test check format install clean

demo: $(VENV)/.installed
	$(BIN)/hyperoracle demo $(DEMO_ARGUMENTS)

test: $(VENV)/.installed-tools
	$(PYTEST) $(IN_TWO) $(TESTS)

test-fast: $(VENV)/.installed-tools
	$(PYTEST) $(IN_TWO) -m "not long and not slow" $(TESTS)

test-long: $(VENV)/.installed-tools
	$(PYTEST) -m "long or not long" --timeout 3600

test-surroundings: $(VENV)/.installed-tools
	TMPDIR=$$(.ci/scratch.sh) .ci/surroundings.sh $(ONLY) -- $(IN_TWO) $(TESTS)

images-test: $(VENV)/.installed
	@$(PIP) --group images
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python .ci/images.py $(IMAGES_ARGUMENTS)

check: $(VENV)/.installed-tools
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(PACKAGES:%=-p hyperoracle_%)
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python .ci/audit.py

format: $(VENV)/.installed-tools
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

install: $(VENV)/.installed

$(VENV)/.created: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "HyperOracle needs Python 3.11 or newer; say which with make PYTHON=..."; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(MANIFESTS)
	@echo "Installing HyperOracle (some minutes the first time; hnswlib is compiled) ..."
	@$(PIP) $(PACKAGES:%=-e ./%)
	@touch $@

$(VENV)/.installed-tools: $(VENV)/.installed
	@echo "Installing what checks and tests need ..."
	@$(PIP) --group check --group test
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis hyperoracle-demo
