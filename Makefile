# Every target is one or two lines; each runs in the active environment.
.PHONY: install check test slow lint types imports format ci bench

install:
	pip install -e '.[dev]'
check: format lint types imports test
test:
	python -m pytest
slow:
	python -m pytest -m slow
lint:
	ruff check .
types:
	mypy
imports:
	lint-imports
format:
	ruff format .
ci:
	bash .ci/run
bench:
	python benchmarks/segment.py
