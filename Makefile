# Everything a clone needs: `make demo` and `make test` set up a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test test-fast test-long test-route lint docs bars bitstreams clean

demo: $(VENV)/.ready  ## Text from the embedded model in simulated hardware, every logit checked
	$(BIN)/tritape generate "It is a truth universally acknowledged, that" --tokens 48 --temperature 0.7 --seed 1

test: $(VENV)/.ready  ## Everything but place and route
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not route and not long"

test-fast: $(VENV)/.ready  ## Units and model only
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not route and not long and not slow"

test-long: $(VENV)/.ready  ## Text through the boards in Verilator, more widths: minutes of compiling
	$(BIN)/pytest -m long

test-route: $(VENV)/.ready  ## Place and route, some ten minutes
	$(BIN)/pytest -m route

bitstreams: $(VENV)/.ready  ## Every board's archive, unattended, with the log in build/bitstreams.log
	@mkdir -p build
	$(BIN)/python -m tritape.rtl_gen.bitstreams $(BOARDS) > build/bitstreams.log 2>&1 || (tail -n 40 build/bitstreams.log; exit 1)

bars: $(VENV)/.ready  ## Measure every figure that README and docs state
	$(BIN)/python benchmarks/bars.py

lint: $(VENV)/.dev  ## Style, types, and the order of the floors
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

docs: $(VENV)/.dev  ## Warnings are errors
	$(BIN)/sphinx-build -W -q docs docs/_build

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build docs/_build docs/reference *.egg-info
