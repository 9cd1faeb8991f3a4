# What a person types here. Every target installs what it needs first (harness/setup).

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

FILE ?= examples/hello.mill
ROUNDS ?= 300
SEEDS ?= 1000
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test check sim crash record jepsen schema smoke bench

help: ## show this help
	@echo 'mill: make TARGET'
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# Containers need Linux: elsewhere all of it is done in a virtual machine.
ifeq ($(shell uname -s),Darwin)

setup demo dev test check sim crash record jepsen schema smoke bench:
	@FILE='$(FILE)' ROUNDS='$(ROUNDS)' SEEDS='$(SEEDS)' SEED='$(SEED)' MINUTES='$(MINUTES)' \
	PART='$(PART)' harness/lima $@

else

setup: ## install what building and testing need (Debian or Ubuntu, root)
	@harness/setup --test

demo: ## a service in a real container on this machine, from nothing to gone again
	@harness/setup --demo
	@harness/demo

dev: ## run FILE (examples/hello.mill) on this machine until Ctrl-C
	@harness/setup --demo
	@harness/demo --dev $(FILE)

test: ## all tests: unit, harness and end to end
	@harness/setup --test
	cargo nextest run

check: ## formatting, lints and style rules
	@harness/setup --test
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo nextest run -E 'binary(harness) and test(/^tidy/)'

schema: ## the API asked for all that its document allows, and for what it doesn't
	@harness/setup --test
	cargo build
	@harness/schema

smoke: ## only the end-to-end tests, or those with MILL_TEST_FILTER=name in their names
	@harness/setup --test
	@harness/smoke

sim: ## the seeded simulation: SEEDS=1000 runs, or the one of SEED=n
	@harness/setup --test
	SEEDS=$(SEEDS) SEED=$(SEED) cargo nextest run --lib -E 'test(every_seed_keeps)'

crash: ## kill -9 under writes, then restart: ROUNDS=300 times
	@harness/setup --test
	CRASH_ROUNDS=$(ROUNDS) cargo test --test harness crash::kill -- --nocapture
	CRASH_ROUNDS=$$(( $(ROUNDS) / 10 )) cargo test --test smoke crash::a_killed -- --nocapture
	MILL_TEST_STRIDE=1 cargo test --test harness container::adoption -- --nocapture
	MILL_TEST_LIVES=200 cargo test --test harness container::limits::many -- --nocapture

record: ## write this version's log into harness/recorded/, for later versions to read
	@harness/setup --test
	cargo nextest run --run-ignored only -E 'test(recorded::record::record)'

jepsen: ## histories under faults are linearizable: MINUTES=10 of them, what breaks chosen by SEED=n
	@harness/setup --test
	JEPSEN_MINUTES=$(MINUTES) JEPSEN_SEED=$(SEED) cargo test --test smoke linearizable::histories -- --nocapture

bench: ## measure mill beside its peers, into docs/performance.md: all, or PART=name
	@harness/setup --bench
	cargo bench --bench figures -- $(PART)

endif
