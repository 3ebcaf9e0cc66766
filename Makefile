# make run and make test need nothing but python3 (3.11 or newer) and make itself.
PYTHON ?= python3
BIN := .venv/bin
STUDY ?= studies/digits.toml

.PHONY: run test coverage faults gallery check oldest docs bench clean

run: .venv/installed
	$(BIN)/manyfit run $(STUDY)

test: .venv/installed-dev
	$(BIN)/pytest tests -m "not faults and not gallery" -n 2 --dist loadscope

# The same, counting lines: a third slower.
coverage: .venv/installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests -m "not faults and not gallery" -n 2 --dist loadscope
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

faults: .venv/installed-dev
	$(BIN)/pytest tests --three-numbers -n 2 --dist loadscope

# Some 110 models of other people's kinds, each in lanes, by fit and by plain Keras; both backends and engines of what `test` runs once.
gallery: .venv/installed-dev
	$(BIN)/pytest tests -m gallery -n 2 --dist loadscope

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory docs

# The same packages in their oldest versions that pyproject.toml allows, before those that are installed.
OLDEST := optuna keras jax
oldest: .oldest/installed
	PYTHONPATH=$(CURDIR)/.oldest $(BIN)/python -m pytest tests/unit tests/engines -m "not faults and not gallery" -n 2 --dist loadscope

.oldest/installed: .venv/installed-dev
	$(BIN)/pip install -q --no-deps --upgrade --target .oldest $$($(BIN)/python tests/oldest.py $(OLDEST))
	touch $@

# The site, in site/: from docs/, README.md and the docstrings.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

bench: .venv/installed-dev
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/lanes.py
	$(BIN)/python benchmarks/quality.py --curves tests/assets/digits-curves.json

.venv/installed: pyproject.toml constraints.txt search/__init__.py
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "manyfit needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[tensorflow,jax]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[tensorflow,jax,arrow,cmaes,tensorboard,dev,docs]'
	touch $@

clean:
	rm -rf .venv .oldest site .mypy_cache .ruff_cache .pytest_cache .coverage
