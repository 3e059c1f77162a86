# Everything runs in the project's own environment, made on first use from PyPI; nothing needs root.
# PYTHON chooses the interpreter (3.11 or later), VENV the place of the environment.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
LIT    := $(BIN)/lit -sv test
SOURCES := tiny_dialect passes targets pipelines examples docs test

.DEFAULT_GOAL := help
.PHONY: help demo lifelong sensor test test-slow accuracy accuracy-smoke bench bench-check bench-record tune lint format readme clean oracles

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.run ## compile the digits network for two ISAs and adapt it on the emulated device
	$(BIN)/python examples/digits/demo.py

lifelong: $(VENV)/.run ## new classes, then a new domain, from a stream: what is learned and what forgotten
	$(BIN)/python examples/lifelong/lifelong.py

sensor: $(VENV)/.run ## move a 1-D motion classifier to another mounting on the emulated device
	$(BIN)/python examples/sensor/motion.py

test: $(VENV)/.run ## all quick tests: pytest, then lit
	$(BIN)/pytest -m "not slow" --numprocesses auto --dist loadfile
	$(LIT)

test-slow: $(VENV)/.run ## the tests that take minutes
	$(BIN)/pytest -m slow

bench: $(VENV)/.run ## instructions, instructions a MAC and code bytes of each layer, beside peers
	$(BIN)/tiny-bench --suite bench/suite.json

bench-check: $(VENV)/.run ## fail where a total has grown by more than 1 % since it was recorded
	$(BIN)/tiny-bench --suite bench/suite.json --summary --check

bench-record: $(VENV)/.run ## record the totals of now, with the model zoo at hand
	$(BIN)/tiny-bench --suite bench/suite.json --summary --record

tune: $(VENV)/.run ## measure the blockings of all kernels and write the table that they follow
	$(BIN)/tiny-bench --tune targets/tiny_targets/kernels/blocking.json

accuracy: $(VENV)/.run ## every row of docs/results.md, three seeds: 3 hours on 2 cores, resumable; needs TINY_DATA, PyTorch
	$(BIN)/tiny-accuracy docs/results_study.json -o build/accuracy --jobs 2 --page docs/results.md

accuracy-smoke: $(VENV)/.run ## the same kinds of rows on the shipped model, held to bounds: minutes
	$(BIN)/tiny-accuracy examples/digits/study.json -o build/accuracy-smoke --page build/accuracy-smoke/page.md

lint: $(VENV)/.lint ## ruff, pyright (strict) and the layering test; changes nothing
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest test/unit/test_layering.py

format: $(VENV)/.lint ## format the sources and apply safe fixes
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

readme: $(VENV)/.run ## run the commands in the README and docs/ again and show their output there
	$(BIN)/python docs/refresh_readme.py

oracles: $(VENV)/.run ## install what imports and packages are held against: ONNX Runtime, LiteRT, PyTorch, PlatformIO
	$(BIN)/python -m pip install --quiet --editable '.[oracles,metadata]'

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@# Some distributions ship Python without ensurepip; their own pip can then fill the environment.
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
	  && $(PYTHON) -m pip --python $(BIN)/python install pip; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[emulate,test]'
	@touch $@

$(VENV)/.lint: pyproject.toml $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable '.[emulate,test,lint]'
	@touch $@
