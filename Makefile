# One way to do each common thing. Every target makes the virtual environment it needs, from the lock.
#
#   PYTHON=python3.13   the interpreter to use, else the first suitable one of PYTHONS
#   ARGS="-k drain"     more arguments for pytest, the bench, the demo, the fuzzer or the lock
#   ROW=fanout-300      the bench measures this row alone; make bench ARGS=--list names them
#   SECONDS=10          the demo ends by itself after this long, the fuzzer looks for so long

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Those first for which there is a wheel that carries a redis-server.
PYTHONS := python3.12 python3.11 python3.13 python3.14 python3
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

SECONDS ?=
ROW :=
ARGS :=

# What the container needs to build the project with, from the lock as well.
BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

# An environment made with another interpreter than the one asked for now is made again.
ifdef PYTHON
ifneq ($(shell cat $(READY) 2>/dev/null),$(PYTHON))
.PHONY: $(READY)
endif
endif

.PHONY: help demo test unit check bench fuzz lock clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(READY) ## a simulated run, from a private redis-server to a WebSocket client; SECONDS=10 ends it
	@$(BIN)/python -m deploy.demo $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

test: $(READY) ## every test, with a real redis-server and real sockets
	@$(BIN)/python -m pytest $(ARGS)

unit: $(READY) ## the quick half of the tests: no process, no port
	@$(BIN)/python -m pytest -m "not integration" $(ARGS)

check: $(READY) ## lint, format, types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy --strict

bench: $(READY) ## the daemons beside their peers, about 30 min; ROW=fanout-300 one row in less than a minute
	@$(BIN)/python -m bench $(ROW) $(ARGS)

fuzz: $(READY) ## look for counterexamples; SECONDS=600 for so long, ARGS="--seed 7 resp" again
	@$(BIN)/python -m fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

lock: ## resolve the dependencies anew into the lock files; ARGS=--upgrade takes newer ones
	@$(find_python) && $$python -m venv --clear $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet --only-binary :all: uv
	@$(uv_compile) pyproject.toml --all-extras --output-file requirements.lock
	@$(uv_compile) pyproject.toml --constraint requirements.lock --output-file requirements-runtime.lock
	@$(VENV)-lock/bin/python -c '$(BUILD_REQUIRES)' | \
		$(uv_compile) - --constraint requirements.lock --output-file requirements-build.lock
	@rm -rf $(VENV)-lock

clean: ## remove the virtual environment and everything else that can be made again
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every package with its hash and as a wheel: no compiler is needed. The project itself comes last, editable.
$(READY): requirements.lock pyproject.toml
	@$(find_python) && echo "making $(VENV) with $$python" >&2 && $$python -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
		--requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation \
		--editable .
	@printf '%s' '$(PYTHON)' > $@

define find_python
python=; for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	if $$candidate -c '$(SUITABLE)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "no suitable Python: 3.11 or newer with venv and pip is needed, tried: $(or $(PYTHON),$(PYTHONS))" >&2; exit 1; \
fi
endef

define uv_compile
$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS)
endef
