# Two commands on a fresh machine with Python 3.11: `make demo`, `make test`.
PY ?= python3
V ?= .venv
EXTRAS ?= export,dev
# Files of tests that run at once where jobs wait more than they compute; 0: one after the other, in one process. With 2
# the tests that stop a job in the middle may find it finished on a machine of two cores.
FILES_AT_ONCE ?= 0
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
	$(V)/bin/python -c "from fsf_core.stages.precompile import compile_loops; compile_loops()"
	touch $@

demo: setup
	$(V)/bin/fsf demo demo

# The longest files come first, so that none is left alone at the end; the folder has a short path, for Ray's sockets.
# Drills are timed, and run by themselves.
test: unit
	$(V)/bin/python -m pytest -n auto tests/integration/export
	folder=$$(mktemp -d) && $(V)/bin/python -m pytest -n $(FILES_AT_ONCE) --dist loadfile --no-loadscope-reorder \
	  --basetemp $$folder tests/e2e tests/crash tests/gpu tests/integration --ignore tests/integration/export && rm -r $$folder
	$(V)/bin/python -m pytest tests/drills

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
