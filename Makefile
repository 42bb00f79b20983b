# Two commands do everything: `make serve` and `make test`. See README.md.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help serve test lint semantics bench soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One stamp per set of packages: nothing is installed again until pyproject.toml changes.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.serve: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ .venv/.serve

SAMPLE := --config static/assetserver.toml
# What leads to another port than the one that is there by default.
THERE = $(if $(filter-out 8000,$(PORT)),ASSETSERVER_SERVER__PORT=$(PORT) )
serve: export ASSETSERVER_SERVER__PORT = $(PORT)
serve: .venv/.serve ## serve the sample site on http://127.0.0.1:$(PORT); publish it first if nothing is live yet
	@$(BIN)/assetserver releases $(SAMPLE) 2>/dev/null | grep -q '^\*' || \
	  $(BIN)/assetserver publish static/v1 --prod -m 'first version' $(SAMPLE)
	@echo 'Then try, in another terminal:'
	@echo '  $(THERE)$(BIN)/assetserver publish static/v2 --prod -m "second version" $(SAMPLE)'
	@echo '  $(THERE)$(BIN)/assetserver rollback $(SAMPLE)'
	@$(BIN)/assetserver serve $(SAMPLE)

lint: .venv/.test ## format check, lint, types
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

# What is decided in semantics/ is covered by its own tests alone; while they are traced, on one core, the other one lints.
semantics: .venv/.test
	$(BIN)/coverage run -m pytest tests/semantics
	$(BIN)/coverage report

# Tests wait more than they compute: three processes per core.
TESTERS ?= $(shell expr 3 \* $$(nproc))
# They start Python a thousand times: it may keep what it compiled.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/.test ## every check and every test
	$(MAKE) --jobs=2 --output-sync=target lint semantics
	$(BIN)/pytest --ignore tests/semantics --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

QUESTIONS := requests latency files connections start peers static publish deltas uploads jobs images

# What cannot be measured is told at the end; the other questions go on.
bench: .venv/.test ## what requests, releases, publishing, uploads, jobs and images cost, against nginx and others (2 hours; BENCH=--quick: 20 minutes)
	$(BIN)/python benchmarks/install.py
	@failed=; for one in $(QUESTIONS); do \
	  echo "benchmarks/bench_$$one.py $(BENCH)"; $(BIN)/python benchmarks/bench_$$one.py $(BENCH) || failed="$$failed $$one"; \
	done; \
	$(BIN)/python benchmarks/report.py $(if $(BENCH),--results benchmarks/results/quick,--readme) && \
	if [ -n "$$failed" ]; then echo "not all of it is valid:$$failed" >&2; exit 1; fi

MINUTES ?= 10
soak: .venv/.test ## what takes minutes: 200,000 files, a file of 5 GiB; traffic while workers are killed (MINUTES=10)
	SOAK=1 $(BIN)/pytest tests/releases/test_large.py
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

clean: ## remove what make made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info
