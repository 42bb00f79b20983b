# Two commands do everything: `make serve` and `make test`. See README.md.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help serve test lint bench soak clean

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

serve: export ASSETSERVER_SERVER__PORT = $(PORT)
serve: .venv/.serve ## publish the sample site and serve it on http://127.0.0.1:$(PORT)
	@$(BIN)/assetserver publish static/v1 --prod -m 'first version' --config static/assetserver.toml
	@echo 'Then try, in another terminal:'
	@echo '  $(BIN)/assetserver publish static/v2 --prod -m "second version" --config static/assetserver.toml'
	@echo '  $(BIN)/assetserver rollback --config static/assetserver.toml'
	@$(BIN)/assetserver serve --config static/assetserver.toml

lint: .venv/.test ## format check, lint, types
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

test: .venv/.test lint ## every check and every test
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

bench: .venv/.test ## CPU per request against stock Starlette, nginx and others; publishing, uploads (needs wrk, nginx)
	$(BIN)/python benchmarks/bench_static.py
	$(BIN)/python benchmarks/bench_publish.py
	$(BIN)/python benchmarks/bench_uploads.py
	$(BIN)/python benchmarks/bench_origin.py --peers

soak: .venv/.test ## what takes minutes: 200,000 files, a file of 5 GiB
	SOAK=1 $(BIN)/pytest tests/releases/test_large.py

clean: ## remove what make made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info
