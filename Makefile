# Needs only Python >= 3.11, git and make; everything else goes into .venv.
#
#   make demo    a real delivery, killed midway and resumed
#   make test    everything a change must pass (check, then pytest)
#   make interop only the tests against the archive's own validator, in an environment of their own
#   make check   format, lint, types, architecture, generated docs; no tests
#   make fix     what a tool can repair by itself
#   make bench   the figures; arguments in ARGS, e.g. make bench ARGS="journal"
#   make soak    the promises of reliability at a larger size: SIZE=nightly (the default) or release;
#                PROMISES="R3 R5" for these alone
#   make docs    the pages, in build/docs/index.html
#   make coverage, make clean
#
# PYTHON=python3.12 make test   chooses the interpreter; without it the newest one found is used.

PYTHON ?=
VENV ?= .venv
INTEROP ?= .venv-interop
PEERS ?= .venv-peers
OTHER ?= .venv-other
OTHER_PYTHON ?=
# Twice as many as the two cores this is for: half of what tests do is wait for processes and servers.
WORKERS ?= 4
ARGS ?=
SIZE ?= nightly
PROMISES ?=
BIN := $(VENV)/bin
# Compiling is left to whoever imports: most modules of what is installed nobody does.
INSTALL := -m pip --disable-pip-version-check install --quiet --no-compile
PIP := $(BIN)/python $(INSTALL)
export VENV
export PEERS
# Where it is set, each of the many programs that tests start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
export UPLOAD_CORE_INTEROP_PYTHON = $(abspath $(INTEROP))/bin/python
export UPLOAD_CORE_OTHER_PYTHON = $(abspath $(OTHER))/bin/python

.PHONY: demo test interop check fix bench soak docs coverage clean system-packages
# Two recipes installing into one environment at the same time would break it; `test` names some that have one each.
ifndef ALONGSIDE
.NOTPARALLEL:
endif

demo: $(VENV)/.runtime
	@$(BIN)/upload-core demo $(ARGS)

test: $(VENV)/.dev
	@$(MAKE) --no-print-directory ALONGSIDE=yes -j 4 check $(INTEROP)/.installed $(OTHER)/.installed system-packages
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

interop: $(VENV)/.dev $(INTEROP)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m interop tests/interop $(ARGS)

check: $(VENV)/.dev
	@scripts/check

fix: $(VENV)/.dev
	@scripts/fix

bench: $(VENV)/.bench $(PEERS)/.installed $(INTEROP)/.installed
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak: $(VENV)/.dev $(INTEROP)/.installed $(OTHER)/.installed system-packages
	UPLOAD_CORE_SIZE=$(SIZE) UPLOAD_CORE_PROMISES="$(PROMISES)" $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m promise -o timeout=0 $(ARGS)

system-packages:
	@scripts/install-system-packages

docs: $(VENV)/.dev
	@scripts/cog -r
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

coverage: $(VENV)/.dev $(INTEROP)/.installed $(OTHER)/.installed system-packages
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='adapters/*' --fail-under=90
	$(BIN)/coverage report --include='upload_core/*' --fail-under=95

clean:
	rm -rf $(VENV) $(INTEROP) $(PEERS) $(OTHER) build dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: an install runs again only after pyproject.toml has changed. The code itself is
# installed in place, so editing it needs no install.
$(VENV)/.created:
	@scripts/make-venv "$(VENV)" $(PYTHON)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created pyproject.toml
	@echo "Installing upload-core into $(VENV)"
	@$(PIP) --editable '.[parquet,report]'
	@touch $@

$(VENV)/.bench: $(VENV)/.created pyproject.toml
	@echo "Installing upload-core and its peers into $(VENV)"
	@$(PIP) --editable '.[bench]'
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	@echo "Installing upload-core and its development tools into $(VENV); the first time takes a minute or two"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.runtime $@

# The archive's package must not share an environment with ours: its tests show that ours needs nothing of it.
$(INTEROP)/.installed: tests/interop/requirements.txt
	@scripts/make-venv "$(INTEROP)" $(PYTHON)
	@echo "Installing the archive's own package into $(INTEROP)"
	@$(INTEROP)/bin/python $(INSTALL) --requirement tests/interop/requirements.txt
	@touch $@

# Another Python, on which the same seeds must give the same bytes: OTHER_PYTHON=python3.13, or the newest one found.
$(OTHER)/.installed: pyproject.toml | $(VENV)/.dev
	@scripts/make-other-python "$(OTHER)" "$(VENV)" $(OTHER_PYTHON)
	@touch $@

# Programs that transfers are measured beside; one of them wants a botocore of its own.
$(PEERS)/.installed: benchmarks/peers.txt
	@scripts/make-venv "$(PEERS)" $(PYTHON)
	@echo "Installing the programs to measure beside into $(PEERS)"
	@$(PEERS)/bin/python $(INSTALL) --requirement benchmarks/peers.txt
	@touch $@
