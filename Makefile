# Everything a clone needs: `make demo` and `make test` set up a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Tests wait now and then, for a board or a server: three keep two cores busy.
WORKERS ?= 3
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist worksteal
# Tests are hundreds of processes: what Python compiles is kept for the next one, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE
PIP = $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: prove demo test test-fast test-train test-long test-route fuzz faults soak speculation mutants coverage lint docs bars bitstreams lock locked clean

demo: $(VENV)/.ready  ## Text from the embedded model in simulated hardware, every logit checked
	$(BIN)/tritape generate "It is a truth universally acknowledged, that" --tokens 48 --temperature 0.7 --seed 1

test: $(VENV)/.test  ## Everything but training, place and route
	$(PYTEST) --ignore-glob="*/test_train_*.py" -m "not route and not long and not again"

test-fast: $(VENV)/.test  ## Units and model only
	$(PYTEST) --ignore-glob="*/test_train_*.py" -m "not route and not long and not again and not slow"

test-train: $(VENV)/.train  ## Training, which brings torch
	$(PYTEST) tests/test_train_*.py -m "not route and not long"

test-long: $(VENV)/.test  ## Text through the boards in Verilator, more widths, every unit in Verilator too: minutes of compiling
	$(BIN)/pytest -m "long or again"

test-route: $(VENV)/.test  ## Place and route, some ten minutes
	$(BIN)/pytest -m route

COUNT ?= 100000
FRAMES ?= 1000000
fuzz: $(VENV)/.test  ## FRAMES against the device's link, COUNT damaged inputs for every reader of outside bytes
	$(BIN)/python -m tritape.sim.faults.frames --count $(FRAMES) --jobs $(JOBS)
	$(BIN)/python tests/fuzz_readers.py --count $(COUNT) --jobs $(JOBS)

FAULTS ?= 15000
DESIGNS ?= pipelined
faults: $(VENV)/.test  ## FAULTS single faults in the simulated accelerator, each followed to its end; goes on where it was interrupted
	for design in $(DESIGNS); do \
		$(BIN)/python -m tritape.sim.faults.campaign --design $$design --count $(FAULTS) --jobs $(JOBS) --out benchmarks/faults.json || exit 1; \
	done

HOURS ?= 1
soak: $(VENV)/.test  ## A virtual board and its host for HOURS, every token checked, cables pulled, memory watched
	$(BIN)/python -m tritape.sim.soak --hours $(HOURS)

PROMPTS ?= 1000
speculation: $(VENV)/.test  ## PROMPTS with guesses against the golden model, then the tables of docs/speculation.md
	$(BIN)/python benchmarks/speculation.py check --prompts $(PROMPTS)
	$(BIN)/python benchmarks/speculation.py table
	$(BIN)/python benchmarks/speculation.py clients

prove: $(VENV)/.test  ## Every proof of docs/verification.md, and the fault that each must find: some ten minutes
	$(BIN)/python -m tritape.sim.proofs

MUTANTS ?= 240
mutants: $(VENV)/.test  ## MUTANTS single edits of hw/ that change its Verilog, and what notices each; goes on where it was interrupted
	$(BIN)/python -m tritape.sim.mutants.campaign --count $(MUTANTS) --out benchmarks/mutants.json

coverage: $(VENV)/.test  ## Lines and toggles of hw/'s Verilog that the benches and whole tokens reach, by file: a long time
	rm -rf build/coverage && mkdir -p build/coverage
	TRITAPE_COVERAGE=build/coverage $(BIN)/pytest -n $(JOBS) -p tritape.sim.coverage.plugin -m "not route and not long" \
		-k "not assertion and not too_far_ahead" tests/test_hw_*.py tests/test_sim_batch.py tests/test_sim_generate.py
	$(BIN)/python -m tritape.sim.coverage.report build/coverage --out benchmarks/coverage.json

bitstreams: $(VENV)/.boards  ## Every board's archive, unattended, with the log in build/bitstreams.log
	@mkdir -p build
	$(BIN)/python -m tritape.cli.bitstreams $(BOARDS) > build/bitstreams.log 2>&1 || (tail -n 40 build/bitstreams.log; exit 1)

bars: $(VENV)/.train  ## Measure every figure that README and docs state
	$(BIN)/python benchmarks/bars.py

lint: $(VENV)/.dev  ## Style, types, and the order of the floors
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

docs: $(VENV)/.dev  ## Warnings are errors
	$(BIN)/sphinx-build -W -q docs docs/_build

lock: $(VENV)/.dev  ## Write .ci/requirements.txt anew: what CI installs, each with its hashes
	$(BIN)/uv pip compile pyproject.toml --extra test --extra dev --generate-hashes --python $(BIN)/python --upgrade \
		--no-header --no-annotate --quiet --output-file .ci/requirements.txt

locked:  ## The environment of CI, from .ci/requirements.txt: pip refuses what has another hash
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes -r .ci/requirements.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $(VENV)/.ready && touch $(VENV)/.boards $(VENV)/.test $(VENV)/.dev

# One stamp for each set of packages: what it takes to use the commands, to build bitstreams, to test, to train, to develop
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.boards: $(VENV)/.ready
	$(PIP) -e ".[boards,litedram,plots]"
	@touch $@

$(VENV)/.test: $(VENV)/.ready
	$(PIP) -e ".[test]"
	@touch $@

$(VENV)/.train: $(VENV)/.ready
	$(PIP) -e ".[test-train]"
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(PIP) -e ".[test,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build docs/_build docs/reference *.egg-info
