# Everything a fresh clone needs is Python 3.11+ and make; each target sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test bench docs clean

setup: $(STAMP)

# torch goes first and pinned: unpinned, its name resolves to a CUDA build of several gigabytes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sortal needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup
	rm -rf .demo
	$(BIN)/sortal train examples/shop/train.csv --dev examples/shop/dev.csv --test examples/shop/test.csv \
		--text text --label intent --epochs 5 --out .demo
	$(BIN)/python examples/ten_predictions.py .demo/model examples/shop/test.csv

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

bench: setup
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.quality

# The pages open from the disk: site/index.html
docs: setup
	$(BIN)/python -m mkdocs build

clean:
	rm -rf $(VENV) .demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis
