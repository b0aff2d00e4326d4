# make demo [KEEP=1]   a lab of three hypervisors, networks of three types, VMs, pings
# make test            everything: lint, unit and functional tests, side by side, through tox
# make setup           what both need; they call it themselves

.PHONY: setup demo test clean

setup:
	@devstack/setup.sh

demo: setup
	@KEEP=$(KEEP) .venv/bin/python -m devstack.labs.demo

test: setup
	@.venv/bin/tox run-parallel --parallel all

clean:
	rm -rf .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
