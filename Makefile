# `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin

# Python 3.11 or later, whichever of its names it has here.
FIND_PYTHON = for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$name"; exit; fi; done

.PHONY: help run dev check test test-long test-all coverage faults bench growth scaling plan load promises fuzz mutants lint format messages screenshots lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## set everything up, and open the sale on PORT (8000)
	@exec $(BIN)/python -m flashsale.local

dev: $(VENV)/.installed  ## as run, with DEBUG and reload on change
	@DEBUG=on exec $(BIN)/python -m flashsale.local

# Each of the JOBS processes (two a core, if not told; one of pure tests) has a Redis, a database and web servers of its own.
PYTEST = $(BIN)/python -m pytest --dist worksteal --numprocesses

check: $(VENV)/.installed-dev lint  ## while writing: lint, types, and the tests that need no server and no browser
	@$(PYTEST) $(or $(JOBS),logical) -m pure

test: $(VENV)/.installed-dev  ## every rule, every answer, the pages in a real browser, the race, the crash, the restart
	@$(PYTEST) $(or $(JOBS),auto) -m "not long"

test-long: $(VENV)/.installed-dev  ## what `make test` leaves out: each cut and fault, cluster, sentinels, PostgreSQL, nginx
	@$(PYTEST) $(or $(JOBS),auto) -m long

# All of them, also when one fails; then it fails at the end.
test-all:  ## lint, test and test-long
	@failed=; for part in lint test test-long; do $(MAKE) $$part || failed="$$failed $$part"; done; \
	[ -z "$$failed" ] || { echo "flashsale: failed:$$failed" >&2; exit 1; }

# Apart from pytest's own processes, servers and commands import it by PYTHONPATH.
coverage: export PYTHONPATH := $(CURDIR)
coverage: export COVERAGE_FILE := $(CURDIR)/.coverage/data
coverage: $(VENV)/.installed-dev  ## which lines and branches of Python `make test` does not reach
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/python -m coverage run -m pytest --numprocesses $(or $(JOBS),auto) --dist worksteal -m "not long"
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

faults: $(VENV)/.installed-dev  ## break everything on purpose, N times (10), from SEED (1), JOBS (1) at a time
	@$(BIN)/python -m tests.faults $(or $(N),10) $(or $(SEED),1) $(or $(JOBS),1)

bench: $(VENV)/.installed-dev  ## measure side by side with Go, Express and others: OPTIONS="--rounds 3 --save", or --help
	@$(BIN)/python -m tests.load.bench $(OPTIONS)

growth: $(VENV)/.installed-dev  ## measure how costs grow, and draw it into docs/
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-plots.txt
	@$(BIN)/python -m tests.load.growth

scaling: $(VENV)/.installed-dev  ## measure where each part is full, simulate rushes, write docs/scaling.md: all, or these STEPS
	@$(BIN)/python -m tests.load.scaling $(STEPS)

plan: $(VENV)/.installed-dev  ## tell what a crowd of SHOPPERS (100000) for STOCK (1000) units takes
	@$(BIN)/python -m tests.load.scaling.plans $(or $(SHOPPERS),100000) $(or $(STOCK),1000)

load: $(VENV)/.installed-dev  ## send a crowd, and check what came of it: PROFILE (rush), USERS, TIME (seconds), HOST (its own)
	@exec $(BIN)/python -m tests.load --profile "$(or $(PROFILE),rush)" --host "$(HOST)" \
		$(if $(USERS),--users "$(USERS)") $(if $(TIME),--seconds "$(TIME)")

promises: $(VENV)/.installed-dev  ## measure each promise about time: all, or these NAMES; as many ROUNDS
	@$(BIN)/python -m tests.load.promises $(NAMES) $(if $(ROUNDS),--rounds $(ROUNDS))

fuzz: $(VENV)/.installed-dev  ## send what no client would, and expect documented answers: CASES (100,000), SEED (1)
	@$(BIN)/python -m tests.fuzz $(or $(CASES),100000) $(or $(SEED),1)

mutants: $(VENV)/.installed-dev  ## plant bugs, JOBS (two a core) at a time, and expect the tests to catch each
	@$(BIN)/python -m tests.mutants $(if $(JOBS),--jobs $(JOBS))

lint: $(VENV)/.installed-dev  ## check style and types
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet .
	@SECRET_KEY=only-for-types ALLOWED_HOSTS=localhost $(BIN)/python -m mypy
	@$(BIN)/python -m djlint --quiet --check --lint templates

format: $(VENV)/.installed-dev  ## rewrite the code in the house style
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m djlint --quiet --reformat templates

messages: $(VENV)/.installed-dev  ## gather what pages say into sales/locale/, and compile it (needs gettext)
	@SECRET_KEY=only-for-messages ALLOWED_HOSTS=localhost $(BIN)/python manage.py makemessages --verbosity=0 \
		--locale=de --no-location --no-obsolete --ignore="$(VENV)" --ignore=var --ignore=tests
	@cd sales && SECRET_KEY=only-for-messages ALLOWED_HOSTS=localhost ../$(BIN)/python ../manage.py compilemessages \
		--verbosity=0

screenshots: $(VENV)/.installed-dev  ## take pictures of all pages in all states into docs/screenshots/
	@$(BIN)/python -m pytest tests/screenshots.py

lock: $(VENV)/.installed-dev  ## pin the packages of pyproject.toml anew
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml -o requirements.txt
	@$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml --group dev \
		--constraint requirements.txt -o requirements-dev.txt
	@$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-header --group plots \
		--constraint requirements-dev.txt -o requirements-plots.txt

clean:  ## remove the virtual environment and caches; var/ with its data stays
	@rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.made:
	@fail() { echo "flashsale: $$1" >&2; exit 1; }; \
	python=$$($(FIND_PYTHON)); \
	[ -n "$$python" ] || fail "Python 3.11 or later is needed; found: $$(python3 --version 2>&1)"; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python's venv is missing; on Debian: apt install $${python##*/}-venv"; \
	case "$(VENV):$$PWD" in /*) ;; *:*:*) fail "Python cannot make $(VENV) under a path with a colon. Rename $$PWD."; esac; \
	why=$$(mkdir -p $(VENV) 2>&1 && touch $(VENV) 2>&1) || \
		fail "cannot make $(VENV) in $$PWD ($${why##*: }). Make that folder writable, or clone into one of yours."; \
	"$$python" -m venv $(VENV) || fail "cannot make $(VENV); the lines above say why."
	@touch $@

$(VENV)/.installed: $(VENV)/.made requirements.txt
	@echo "Installing packages; this is done once …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "Installing the tests' packages; this is done once …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@
