# Everything a fresh machine needs is Python 3.11, pip and make, and for the tests Node 20 with npm: uv is brought along
# where it is not there, and PostgreSQL comes with the Python packages.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RIG := tests/support/supabase_rig
export UV_PYTHON_DOWNLOADS := never
# Some machines tell Python to keep no bytecode, without which each process takes two to three times as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test faults outages fuzz audit lint format bench bench-peers docs pictures clean

demo: .venv/demo.stamp
	.venv/bin/campaigns demo

test: .venv/dev.stamp $(RIG)/node_modules/installed.stamp
	.venv/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

N := 50
SEED := 1

faults: .venv/dev.stamp $(RIG)/node_modules/installed.stamp
	PYTHONPATH=tests/support .venv/bin/python tests/faults/faults.py --count $(N) --seed $(SEED) $(ARGS)

outages: .venv/dev.stamp $(RIG)/node_modules/installed.stamp
	PYTHONPATH=tests/support .venv/bin/python tests/faults/outages.py

CASES := 1000000

fuzz: .venv/dev.stamp
	$(UV) sync --frozen --quiet --inexact --group fuzz
	.venv/bin/python tests/fuzz/fuzz.py --cases $(CASES) $(ARGS)

audit: | $(UV)
	UV=$(UV) .ci/audit

lint: .venv/dev.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

format: .venv/dev.stamp
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/dev.stamp $(RIG)/node_modules/installed.stamp
	PYTHONPATH=tests/support .venv/bin/python tests/bench/bench.py $(ARGS)

bench-peers: .venv/dev.stamp $(RIG)/node_modules/installed.stamp
	PYTHONPATH=tests/support .venv/bin/python tests/bench/peers.py $(ARGS)

# The packages are installed strictly editable: a new file is seen after the next sync, which its folder triggers.
SOURCES := pyproject.toml uv.lock $(shell find campaigns blocks flows deployments -type d ! -name __pycache__)

.venv/demo.stamp: $(SOURCES) | $(UV)
	$(UV) sync --frozen --quiet --inexact --no-dev
	@touch $@

.venv/dev.stamp: $(SOURCES) | $(UV)
	$(UV) sync --frozen --quiet
	@touch $@ .venv/demo.stamp

# Supabase's API server, for the tests. Without npm those that need it are skipped, and say so.
$(RIG)/node_modules/installed.stamp: $(RIG)/package-lock.json
	@if command -v npm >/dev/null; then \
	    cd $(RIG) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/installed.stamp; \
	else echo "npm is not there: the tests with Supabase will be skipped" >&2; fi

.uv/bin/uv:
	python3 -m pip install --quiet --target .uv uv

# The pages of the reference are written anew from the code.
docs: .venv/dev.stamp
	.venv/bin/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "site/index.html"

pictures: .venv/dev.stamp
	PYTHONPATH=tests/support .venv/bin/python tests/pictures/pictures.py

clean:
	rm -rf .venv .uv $(RIG)/node_modules build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
