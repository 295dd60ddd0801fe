# Penstock's commands on a development machine. They need GNU make and Python >= 3.11, nothing else:
# the first one that wants .venv makes it, from pinned and hashed dependencies.
#
#   make demo ARGS=--exit          PYTHON=/path/to/python3.12 make test
#   make test PYTEST_ARGS="-x tests/limiter"
#   make lock ARGS=--upgrade          make bench ONLY=front

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz bench openapi audit replay bugs lock chart chaos soak chaos-bugs fmt clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := .venv/.installed
PYTHONS = $(or $(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 python)
PYTEST_ARGS ?= -n 3 --dist worksteal

# What an interpreter says about itself. A name on the PATH proves little: version managers put there names that
# only print an error, and Debian packages venv without ensurepip.
STATE := import sys; from importlib.util import find_spec; \
	print("old" if sys.version_info < (3, 11) else \
	"ready" if find_spec("venv") and find_spec("ensurepip") else "bare")
USABLE := import sys, pip; sys.exit(sys.version_info < (3, 11))

define ENSURE_VENV
if ! $(BIN)/python -c '$(USABLE)' 2>/dev/null; then \
  found=; bare=; \
  for candidate in $(PYTHONS); do \
    case "$$("$$candidate" -c '$(STATE)' 2>/dev/null || true)" in \
      ready) found=$$candidate; break ;; \
      bare) bare=$${bare:-$$candidate} ;; \
    esac; \
  done; \
  if [ -z "$$found" ] && [ -n "$$bare" ]; then \
    echo "penstock: $$bare cannot make virtual environments (no venv or ensurepip): install them" \
      "(Debian, Ubuntu: apt install python3-venv) or name another Python: make PYTHON=/path/to/python" >&2; \
    exit 1; \
  fi; \
  if [ -z "$$found" ]; then \
    echo "penstock: no Python >= 3.11 among: $(PYTHONS). Install one" \
      "or say where it is: make PYTHON=/path/to/python" >&2; \
    exit 1; \
  fi; \
  echo "Making .venv with $$("$$found" --version)"; \
  "$$found" -m venv --clear .venv; \
fi
endef

help:
	@echo 'make demo    run the whole service on this machine and send it some jobs (ARGS=--exit: end after that)'
	@echo 'make test    every check that CI runs: format, lint, types, import rules, tests (PYTEST_ARGS=...)'
	@echo 'make bench   measure it beside what is used instead, into bench/results/ and docs/performance.md (ONLY=front)'
	@echo 'make fuzz    send the API what schemathesis thinks of, and more of the kind (CASES=100000 SEED=...)'
	@echo 'make replay  tell what happens in a schedule of the simulation (SEED=7), or play many (SEED=0-9999)'
	@echo 'make bugs    put known bugs in, one at a time, and list which schedule of the simulation catches each'
	@echo 'make soak    kill, freeze and cut off real processes by new schedules (MINUTES=...)'
	@echo 'make chaos   the schedule of one SEED=... again (SECONDS_OF_FAULTS=15: the short ones of make test)'
	@echo 'make chaos-bugs   whether the tests of real processes notice known bugs'
	@echo 'make chart   render the Helm chart with Helm itself, and check what comes of it'
	@echo 'make lock    pin the dependencies of pyproject.toml again (ARGS=--upgrade: to the newest versions)'
	@echo 'make audit   look the locked dependencies up among known vulnerabilities (needs the network)'
	@echo 'make openapi write docs/openapi.json anew, which has to be in step with the API'
	@echo 'make fmt     format the code and fix what ruff can fix'
	@echo 'make clean   remove .venv and caches, never the data in .penstock'

demo: $(INSTALLED)
	@exec $(BIN)/penstock demo $(ARGS)

test: $(INSTALLED)
	@echo '== format: ruff format --check' && $(BIN)/ruff format --check .
	@echo '== lint: ruff check' && $(BIN)/ruff check .
	@echo '== types: mypy --strict' && $(BIN)/mypy
	@echo '== imports: lint-imports' && $(BIN)/lint-imports --no-logo
	@echo '== tests: pytest' && $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(INSTALLED)
	@$(BIN)/python -m bench $(ONLY) $(ARGS)

# In an environment of its own: what looks for weak dependencies is none of them.
audit: $(INSTALLED)
	@$(BIN)/python -m venv .venv/audit
	@.venv/audit/bin/python -m pip --disable-pip-version-check install -q pip-audit
	@.venv/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock -r requirements-build.lock \
	  -r requirements-dev.lock $(ARGS)

fuzz: $(INSTALLED)
	@$(BIN)/python -m tests.fuzz --cases $(or $(CASES),100000) $(if $(SEED),--seed $(SEED))

openapi: $(INSTALLED)
	@$(BIN)/python -m tests.api.openapi_file

replay: $(INSTALLED)
	@$(BIN)/python -m tests.simulation $(SEED)

bugs: $(INSTALLED)
	@$(BIN)/python -m tests.simulation bugs

soak: $(INSTALLED)
	@$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),10)

chart: $(INSTALLED)
	@$(BIN)/python -m tests.project.chart

chaos: $(INSTALLED)
	@$(BIN)/python -m tests.chaos.soak --seed $(or $(SEED),1) $(if $(SECONDS_OF_FAULTS),--seconds $(SECONDS_OF_FAULTS))

chaos-bugs: $(INSTALLED)
	@$(BIN)/python -m tests.chaos.bugs

fmt: $(INSTALLED)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The development lock is made first and seeds the other two, so that all three pin the same versions. No file may
# name a registry: whoever installs from it chooses one.
lock: COMPILE = "$$uv" pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
lock:
	@set -e; \
	uv=$(UV); \
	for candidate in uv $(BIN)/uv; do uv=$${uv:-$$(command -v $$candidate || true)}; done; \
	if [ -z "$$uv" ]; then $(ENSURE_VENV); $(PIP) install -q uv; uv=$(BIN)/uv; fi; \
	$(COMPILE) $(ARGS) pyproject.toml --group dev -o requirements-dev.lock; \
	cp requirements-dev.lock requirements.lock; \
	cp requirements-dev.lock requirements-build.lock; \
	$(COMPILE) pyproject.toml -o requirements.lock; \
	$(COMPILE) --group build -o requirements-build.lock; \
	echo 'Locked: requirements.lock, requirements-build.lock, requirements-dev.lock'

clean:
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements-dev.lock pyproject.toml
	@set -e; $(ENSURE_VENV); \
	echo 'Installing the locked dependencies into .venv (a minute or two the first time)'; \
	$(PIP) install -q --require-hashes -r requirements-dev.lock; \
	$(PIP) install -q --no-deps --no-build-isolation -e .; \
	touch $@
