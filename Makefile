# Everything that is done with this repository. `make` alone says what there is.
#
# Recipes run from the top of the repository; what is longer than a line is in tools/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

CARGO ?= cargo
PREFIX ?= /usr/local
BINDIR = $(PREFIX)/bin
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
# Whether `make demo` leaves the fabric up: KEEP=1.
KEEP ?=
# Whether benchmarks are short: QUICK=1; which cells of `make bench` (all), and how many pairs of each (5).
QUICK ?=
RECORD ?=
CELLS ?=
PAIRS ?=
# How long `make fuzz` runs each target, in seconds.
SECONDS_EACH ?= 60

# Tests and the demonstration share one profile, so that what is shown is what is tested.
DEBUG_BINARY = target/debug/fairway

.PHONY: help
help: ## Say what there is
	@echo 'usage: make TARGET'
	@echo
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 16

# ---- Use

.PHONY: demo
demo: ## Raise a fabric in network namespaces and let real programs talk across it (KEEP=1 leaves it up)
	@tools/deps demo
	@$(MAKE) --no-print-directory build
	@FAIRWAY=$(DEBUG_BINARY) KEEP=$(KEEP) tools/demo

.PHONY: demo-down
demo-down: build ## Remove what `make demo KEEP=1` left up
	@FAIRWAY=$(DEBUG_BINARY) tools/demo-down

.PHONY: build
build: ## Build the fairway command for the demonstration and the tests
	@$(CARGO) build --locked -p fairway

.PHONY: install
install: ## Build for speed and install the command, its unit and completions (PREFIX, DESTDIR)
	@tools/deps build
	$(CARGO) build --locked --release -p fairway
	DESTDIR='$(DESTDIR)' BINDIR='$(BINDIR)' UNITDIR='$(UNITDIR)' PREFIX='$(PREFIX)' tools/install

.PHONY: deps
deps: ## Install the packages that builds, tests and the demonstration need, where they are missing
	@tools/deps test

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean

# ---- Check: `make test` is what CI runs, the fastest failures first

.PHONY: test
test: format layers scripts documents golden generated clippy units guard doc portable e2e licences ## Run everything that CI runs

.PHONY: format
format: ## Check the format of the code
	@tools/stage 'format'
	$(CARGO) fmt --all --check

.PHONY: layers
layers: ## Check that dependencies point down and that pure crates are pure
	@tools/stage 'layers'
	tools/check-layers

.PHONY: scripts
scripts: ## Check the scripts
	@tools/stage 'scripts'
	tools/check-scripts
	tools/check-unit

.PHONY: documents
documents: ## Check the links of the documents
	@tools/stage 'documents'
	tools/check-documents

.PHONY: golden
golden: ## Check that the golden vectors are those that the independent program computes
	@tools/stage 'golden vectors'
	tools/golden-vectors.py --check
	tools/session-vectors.py --check

.PHONY: generated
generated: ## Check that generated documents are up to date
	@tools/stage 'generated documents'
	$(CARGO) test --locked --workspace --test reference

.PHONY: clippy
clippy: ## Check the code with clippy
	@tools/stage 'clippy'
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: units
units: ## Run unit, property, simulation, hostile-bytes and namespace tests of the crates
	@tools/stage 'tests of the crates'
	tools/units

.PHONY: guard
guard: ## Count the instructions of the engine's work and compare with what is committed (RECORD=1 writes them down)
	@tools/stage 'instructions'
	tools/guard $(if $(RECORD),--record)

.PHONY: doc
doc: ## Build the documentation of the code
	@tools/stage 'documentation of the code'
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps

.PHONY: portable
portable: ## Build for aarch64, and run there what depends on the machine
	@tools/stage 'aarch64'
	tools/portable

.PHONY: e2e
e2e: build ## Run the end-to-end tests: real programs across fabrics in namespaces
	@tools/stage 'end to end'
	tools/e2e

.PHONY: licences
licences: ## Check the dependencies and their licences
	@tools/stage 'dependencies and licences'
	tools/check-licences

# ---- Measure, attack

.PHONY: bench
bench: ## Measure Fairway beside the kernel and tunnels over one line, as root (QUICK=1, CELLS='a b', PAIRS=n)
	@$(CARGO) build --locked --release -p fairway -p fairway-bench
	@$(CARGO) bench --locked --quiet -p fairway-session --bench workers --no-run
	@target/release/fairway-bench $(if $(QUICK),--quick) $(if $(PAIRS),--pairs $(PAIRS)) \
		$(foreach cell,$(CELLS),--only $(cell))

.PHONY: bench-peers
bench-peers: ## Install what `make bench` measures Fairway against
	@tools/bench-peers target/bench/peers

.PHONY: bench-parts
bench-parts: ## Measure wire formats, the FIB and the session engine alone (QUICK=1 only tries that it runs)
	$(if $(QUICK),QUICK=$(QUICK)) $(CARGO) bench --locked -p fairway-wire -p fairway-policy -p fairway-session

.PHONY: fuzz
fuzz: ## Fuzz each target for SECONDS_EACH seconds (needs a nightly compiler and cargo-fuzz)
	@for target in $$(cd fuzz/fuzz_targets && ls); do \
		tools/stage "fuzz $${target%.rs}"; \
		$(CARGO) +nightly fuzz run "$${target%.rs}" -- -max_total_time=$(SECONDS_EACH); \
	done
