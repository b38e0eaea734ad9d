# Everything happens in .venv; `make VENV=/somewhere/else test` uses another.
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: install test lint verify train clean

install: $(VENV)/installed

# Made again when the kernels or the project files have changed.
$(VENV)/installed: setup.py pyproject.toml $(wildcard kernels/*)
	python3 -m venv $(VENV)
	MINIGRAD_REQUIRE_KERNELS=1 pip install -q -e '.[test,dev]'
	touch $@

test: install
	python -m pytest

lint: install
	ruff check .
	cython-lint kernels
	mypy

verify: install
	minigrad verify

train: install
	minigrad train

clean:
	rm -rf build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -f minigrad/*.so kernels/*.c $(VENV)/installed
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -r {} +
