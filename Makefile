# Everything a contributor or a newcomer needs; `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= all
RUN ?= runs/demo
JOBS ?= 2
FUZZ_SECONDS ?= 600
export OMP_NUM_THREADS ?= 1
export GUERDON_QUICK ?=

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test check format lint types layers doctest \
	readme examples docs bench bench-fast bench-demo bench-classic levels parity \
	fuzz soak test-ray test-gymnasium-1.4 clean

help: ## list the targets
	@grep -hE '^[a-z0-9.-]+:.*## ' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{printf "  %-20s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamp is renewed when a pin or a dependency changes.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed ## make .venv and install Guerdon with all extras

install-dev: $(VENV)/.installed-dev ## the same, and the tools of contributors

demo: install ## search a reward for DoorKey-8x8 with a model on this machine's CPU
	$(BIN)/guerdon search guerdon/DoorKey-8x8-v0 --llm embedded \
		--candidates 14 --rounds 3 --steps 100000 --seeds 5 --out $(RUN)

test: install-dev ## run the tests
	$(BIN)/python -m pytest -n $(JOBS) -q

format: install-dev ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install-dev ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install-dev ## strict type check
	$(BIN)/mypy

layers: install-dev ## no import points up
	$(BIN)/lint-imports

doctest: install-dev ## examples inside docstrings
	$(BIN)/python -m pytest -q --doctest-modules guerdon \
		--ignore=guerdon/llm/server.py --ignore=guerdon/__main__.py \
		--ignore=guerdon/cli/__main__.py

readme: install-dev ## run the code blocks of README and docs
	$(BIN)/python tests/run_readme.py README.md CONTRIBUTING.md docs/*.md

examples: install-dev ## run every example and notebook
	$(BIN)/python tests/run_examples.py

check: lint types layers test doctest readme examples docs ## all of the above

docs: install-dev ## build the documentation, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: install ## speed of the language and of the SB3 adapter (minutes)
	$(BIN)/python -m benchmarks.language
	$(BIN)/python -m benchmarks.sb3_adapter
	$(BIN)/python -m benchmarks.jail

# Each benchmark is a process of its own; QUICK=1 only sees whether all of them run.
bench-fast: install ## speed of the fast path, one table of it all (hours)
	$(BIN)/python -m benchmarks.fast_table --run $(if $(QUICK),--quick)

bench-demo: install ## the demo's search, its numbers kept (minutes, more with a model)
	$(BIN)/python -m benchmarks.demo_search

bench-classic: install ## searches in classic control (an hour)
	$(BIN)/python -m benchmarks.classic_search

levels: install-dev ## compare 10,000 levels of each kind with MiniGrid's
	$(BIN)/python tests/envs/grid/level_samples.py 10000

parity: install-dev ## play a million steps beside MiniGrid, byte for byte
	$(BIN)/python tests/envs/grid/parity.py 1000000

fuzz: install-dev ## coverage-guided fuzzing of the language (10 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[fuzz]'
	mkdir -p .fuzz/new
	$(BIN)/python -m tests.fuzz.fuzz_language .fuzz/new tests/fuzz/corpus \
		-max_total_time=$(FUZZ_SECONDS) -max_len=4000 -timeout=5 -rss_limit_mb=2048 \
		-artifact_prefix=.fuzz/ -verbosity=1 -print_final_stats=1
	cp -n .fuzz/new/* tests/fuzz/corpus/

test-ray: install-dev ## install the extra ray and run its tests (minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest -q tests/agents/test_ray_pool.py \
		tests/agents/test_ray_node.py tests/test_run_ray.py

soak: install-dev ## 200 struck runs and searches with failing models (half an hour)
	$(BIN)/python -m benchmarks.soak

test-gymnasium-1.4: ## the tests with Gymnasium 1.4 instead of 1.2
	grep -v '^gymnasium==' constraints.txt > .constraints-1.4.txt
	echo 'gymnasium==1.4.0' >> .constraints-1.4.txt
	$(PYTHON) -m venv .venv-1.4
	.venv-1.4/bin/python -m pip install --quiet --constraint .constraints-1.4.txt torch
	.venv-1.4/bin/python -m pip install --quiet --constraint .constraints-1.4.txt \
		--editable '.[dev]'
	.venv-1.4/bin/python -m pytest -n $(JOBS) -q

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) .venv-1.4 site build .constraints-1.4.txt
