# Everything here needs Python 3.11 with pip and venv, and nothing else. `make` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The first of these that suits makes .venv. The tested set has no wheels for 3.10 or for 3.13.
PYTHON ?= python3.11 python3.12 python3
SUITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
CONSTRAINTS := requirements/constraints.txt

# Written last, so a set-up that was cut short is never taken for a finished one. It holds the
# folder's path: a copied or moved .venv would still run the package of the folder it came from.
STAMP := .venv/.mmagic-cm-ready
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
STALE := stale
endif

# The imports on which everything else stands, and what to do if one of them fails.
define CHECK
import importlib
import re
import sys
import warnings

warnings.simplefilter('ignore')
again = 'remove .venv and run `make setup` again'
for name in ('torchvision', 'cv2', 'mmengine'):
    try:
        importlib.import_module(name)
    except Exception as error:
        text = ' '.join(f'{type(error).__name__}: {error}'.split())
        advice = again
        if re.search(r'torchvision::nms|torchvision.*undefined symbol', text):
            advice = 'torch and torchvision are not a matched pair from one index; ' + again
        elif re.search(r'lib[\w.+-]+\.so[\w.]*: cannot open shared object', text):
            advice = 'the system lacks that shared library; install it with the package manager'
        sys.exit(f'Set-up failed: `import {name}` says "{text}": {advice}.')
endef
export CHECK

.PHONY: help setup demo test test-slow lint format docs clean stale

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# OpenMP's threads wait for each other by spinning. On a core that another program wants, too, that
# made training 13 times slower (measured with one busy process on two cores); with a short spin, 2
# to 3 times.
export GOMP_SPINCOUNT ?= 10000

setup: $(STAMP)  ## make .venv and install the tested set into it (skipped when up to date)
	@echo 'The set-up in .venv is up to date.'

demo: $(STAMP)  ## train a consistency model on digits, sample and judge it (minutes, no GPU)
	@$(PY) demo/digits_demo.py $(ARGS)

# Processes that run tests; 0: pytest's own one, as a debugger wants it.
JOBS ?= 2

test: $(STAMP)  ## run the tests; ARGS='-k samplers' and the like go to pytest, JOBS=0 for one process
	@$(PY) -m pytest -n $(JOBS) --dist loadgroup -m 'not slow' $(ARGS)

test-slow: $(STAMP)  ## run the tests that take longer
	@$(PY) -m pytest -n $(JOBS) --dist loadgroup -m slow $(ARGS)

lint: $(STAMP)  ## check the style (ruff)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(STAMP)  ## mend the style where ruff can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(STAMP)  ## build the documents (Sphinx) into docs/_build/html
	@$(PY) -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo 'The documents are in docs/_build/html/index.html.'

clean:  ## remove caches and build products; .venv and work_dirs/ stay
	@rm -rf build dist docs/_build docs/api ./*.egg-info .pytest_cache .ruff_cache
	@find . \( -name .venv -o -name .git -o -name work_dirs \) -prune -o \
	    -name __pycache__ -type d -exec rm -rf {} +

$(STAMP): pyproject.toml $(CONSTRAINTS) $(STALE)
	@rm -f $@
	@if ! { $(PY) -c '$(SUITS)' && $(PY) -c 'import pip'; } 2>/dev/null; then \
	    for python in $(PYTHON) none; do \
	        if $$python -c '$(SUITS)' 2>/dev/null; then break; fi; \
	    done; \
	    if [ $$python = none ]; then \
	        echo 'Set-up failed: none of "$(PYTHON)" is a Python 3.11 or 3.12 with pip and venv;' \
	            'install one (Debian, Ubuntu: python3.11-venv) or name it:' \
	            'make setup PYTHON=/path/to/python3.11' >&2; \
	        exit 1; \
	    fi; \
	    $$python -m venv --clear .venv; \
	fi
	@echo 'Installing the tested set into .venv: about 7 GB, a few minutes.'
	@$(PIP) install -q -c $(CONSTRAINTS) -e '.[mmagic,eval,web,docs,dev]'
# Three OpenCV distributions come in, all unpack into cv2/, and the last one wins. Only the headless
# one loads on a machine without libGL (servers, containers), so it goes last, on every machine.
	@$(PIP) install -q -c $(CONSTRAINTS) --no-deps --force-reinstall opencv-python-headless
	@$(PY) -c "$$CHECK"
	@echo '$(CURDIR)' > $@
