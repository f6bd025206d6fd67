# Everything a fresh machine needs is Python 3.11, pip and make: uv is brought along where it is not there.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never

.PHONY: demo test lint format bench clean

demo: .venv/demo.stamp
	.venv/bin/campaigns demo

test: .venv/dev.stamp
	.venv/bin/pytest -n 2 --dist loadfile $(ARGS)

lint: .venv/dev.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

format: .venv/dev.stamp
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/dev.stamp
	.venv/bin/python tests/bench/bench.py $(ARGS)

# The packages are installed strictly editable: a new file is seen after the next sync, which its folder triggers.
SOURCES := pyproject.toml uv.lock campaigns blocks flows deployments deployments/demo

.venv/demo.stamp: $(SOURCES) | $(UV)
	$(UV) sync --frozen --quiet --inexact --no-dev
	@touch $@

.venv/dev.stamp: $(SOURCES) | $(UV)
	$(UV) sync --frozen --quiet
	@touch $@ .venv/demo.stamp

.uv/bin/uv:
	python3 -m pip install --quiet --target .uv uv

clean:
	rm -rf .venv .uv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
