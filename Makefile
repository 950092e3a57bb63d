# Two commands on a fresh machine with Python 3.11: `make demo`, `make test`.
PY ?= python3
V ?= .venv
EXTRAS ?= export,dev
# uv does not read pip's configuration: pass on its folders of local wheels, if there are any.
FIND := $(or $(PIP_FIND_LINKS),$(shell $(PY) -m pip config get global.find-links 2>/dev/null))

# --compile-bytecode, because uv leaves compiling to the first import, or to every import of every process where
# PYTHONDONTWRITEBYTECODE is set, as in many container images: the start of a job then takes twice the CPU.
INSTALL = $(V)/bin/uv pip install -q --compile-bytecode --python $(V)/bin/python $(foreach d,$(FIND),--find-links $(d)) -c constraints.txt

.PHONY: setup demo test lint unit bench bench-full bench-gpu constraints clean
setup: $(V)/.ok

$(V)/.ok: pyproject.toml constraints.txt
	$(PY) -m venv $(V)
	$(V)/bin/python -m pip install -q uv
	$(INSTALL) -e '.[$(EXTRAS)]'
	$(V)/bin/python -m compileall -q fsf_core jobs
	touch $@

demo: setup
	$(V)/bin/fsf demo demo

test: unit
	$(V)/bin/python -m pytest -n auto tests/integration/export
	$(V)/bin/python -m pytest tests/integration tests/gpu tests/e2e tests/crash tests/drills --ignore tests/integration/export

unit: setup
	$(V)/bin/python -m pytest -n auto tests/unit

lint: setup
	$(V)/bin/ruff check .
	$(V)/bin/ruff format --check .
	$(V)/bin/mypy
	$(V)/bin/lint-imports

bench: setup
	$(INSTALL) -e '.[export,dev,bench]'
	$(V)/bin/python -m tests.bench.bench

bench-full: setup
	$(INSTALL) -e '.[export,dev,bench]'
	$(V)/bin/python -m tests.bench.bench --full

# Give BUDGET_S to bound the time; the same command goes on with what is missing.
bench-gpu: setup
	$(INSTALL) -e '.[cuda,export,dev]'
	$(V)/bin/python -m tests.bench.bench_gpu --out build/gpu $(if $(BUDGET_S),--budget-s $(BUDGET_S))

# The versions that the tests passed with; no URLs and no hashes, so that any index serves them.
constraints:
	$(V)/bin/uv pip compile -q --universal --python-version 3.11 --extra cuda --extra export --extra dev --extra bench --extra s3 --extra gcs --extra azure --extra delta --extra up-aws --extra up-gcp \
	  --no-annotate --no-header --no-emit-index-url -o constraints.txt pyproject.toml

clean:
	rm -rf $(V) demo .pytest_cache .mypy_cache .ruff_cache
