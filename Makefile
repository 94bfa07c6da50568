# Needs only Python >= 3.11, git and make; everything else goes into .venv.
#
#   make demo    a real delivery, killed midway and resumed
#   make test    everything a change must pass (check, then pytest)
#   make check   format, lint, types, architecture, generated docs; no tests
#   make fix     what a tool can repair by itself
#   make bench   the figures; arguments in ARGS, e.g. make bench ARGS="journal"
#   make docs    the pages, in build/docs/index.html
#   make coverage, make clean
#
# PYTHON=python3.12 make test   chooses the interpreter; without it the newest one found is used.

PYTHON ?=
VENV ?= .venv
WORKERS ?= 2
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
export VENV

.PHONY: demo test check fix bench docs coverage clean
# Two recipes installing into one environment at the same time would break it.
.NOTPARALLEL:

demo: $(VENV)/.runtime
	@$(BIN)/upload-core demo $(ARGS)

test: check
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/.dev
	@scripts/check

fix: $(VENV)/.dev
	@scripts/fix

bench: $(VENV)/.bench
	@$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(VENV)/.dev
	@scripts/cog -r
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

coverage: $(VENV)/.dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='adapters/*' --fail-under=90
	$(BIN)/coverage report --include='upload_core/*' --fail-under=95

clean:
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: an install runs again only after pyproject.toml has changed. The code itself is
# installed in place, so editing it needs no install.
$(VENV)/.created:
	@scripts/make-venv "$(VENV)" $(PYTHON)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created pyproject.toml
	@echo "Installing upload-core into $(VENV)"
	@$(PIP) --editable '.[parquet]'
	@touch $@

$(VENV)/.bench: $(VENV)/.created pyproject.toml
	@echo "Installing upload-core and its peers into $(VENV)"
	@$(PIP) --editable '.[bench]'
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	@echo "Installing upload-core and its development tools into $(VENV); the first time takes a minute or two"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.runtime $@
