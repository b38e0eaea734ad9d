# Everything happens in .venv; `make VENV=/somewhere/else test` uses another.
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: install test lint verify train lectures sanitize clean

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

lectures: install
	minigrad lectures open

# The tests of the kernels with every index checked by Cython and every address by the compiler.
sanitize: install
	rm -rf build/sanitized && mkdir -p build/sanitized
	cp -r setup.py pyproject.toml README.md LICENSE MANIFEST.in kernels minigrad tests build/sanitized
	cd build/sanitized && rm -f minigrad/*.so && sed -i 's/boundscheck=False/boundscheck=True/' kernels/*.pyx && \
	  CFLAGS="-fsanitize=address -g" LDFLAGS=-fsanitize=address MINIGRAD_REQUIRE_KERNELS=1 \
	  python setup.py -q build_ext --inplace && \
	  ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$$(gcc -print-file-name=libasan.so) PYTHONPATH=. \
	  python -m pytest -q tests/test_kernels.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -f minigrad/*.so kernels/*.c $(VENV)/installed
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -r {} +
