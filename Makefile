# `make demo` shows it, `make check` proves it, `make test` is the inner loop.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .stamps

.PHONY: demo check test soak pictures bench clean

# What `check` installs is enough for the demo, which alone needs less.
demo: $(or $(wildcard $(STAMP)/python),$(STAMP)/program)
	$(BIN)/tidegate demo

check: $(STAMP)/python $(STAMP)/tools
	$(BIN)/python tools/run-checks

test: $(STAMP)/python
	$(BIN)/pytest -m "not real"

soak: $(STAMP)/python
	SIMULATION_SEEDS=10000 $(BIN)/pytest --timeout 0 tests/simulation -k every_world
	SIMULATION_SEEDS=20 SIMULATION_HOURS=168 $(BIN)/pytest --timeout 0 tests/simulation -k every_world
	DELIVERY_RUNS=10000 $(BIN)/pytest --timeout 0 tests/core/delivery/test_delivery_model.py
	DISCONNECTS=100000 $(BIN)/pytest --timeout 0 -s tests/test_disconnects.py -k however_many
	PUBLISHER_KILLS=10 $(BIN)/pytest --timeout 0 -s tests/failures/test_publisher_kills.py
	FUZZ_INPUTS=20000 $(BIN)/pytest --timeout 0 tests/test_foreign_input.py
	OUTAGE_FASTER=1 $(BIN)/pytest --timeout 0 tests/deploy/test_outage.py
	LONG_RUN_MINUTES=240 $(BIN)/pytest --timeout 0 -s tests/failures/test_long_run.py -k nothing_grows
	BUDGET_S=1800 $(BIN)/pytest --timeout 0 -s tests/web/test_budget.py

# All states of the page into build/pictures; those that the documentation shows into docs/pictures as well.
pictures: $(STAMP)/python
	$(BIN)/python tests/support/take_pictures.py build/pictures

bench: $(STAMP)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m bench install
	$(BIN)/python -m bench cpu --blocks 3 --seconds 2
	$(BIN)/python -m bench burst --blocks 3 --seconds 2

$(STAMP)/program: EXTRAS := [all]
$(STAMP)/python: EXTRAS := [dev]
$(STAMP)/program $(STAMP)/python: pyproject.toml constraints.txt $(wildcard src/tidegate/*/*.c)
	mkdir -p $(STAMP)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.$(EXTRAS)'
	touch $@

$(STAMP)/tools: tools/install-check-tools tools/autobahn-constraints.txt tools/glances-constraints.txt package-lock.json
	mkdir -p $(STAMP)
	tools/install-check-tools
	touch $@

clean:
	rm -rf .venv .autobahn .glances node_modules $(STAMP) build dist
