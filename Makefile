# Sandhog: `make demo` shows it at work, `make test` proves it. Both set up whatever they need, once.
#
# Build artefacts live outside the checkout, in $(SANDHOG_CACHE), where a fresh clone finds them again.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export SANDHOG_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sandhog
# One profile for the demo, the tests and the measurements: what is tested is what ships, and is built once.
export CARGO_TARGET_DIR := $(SANDHOG_CACHE)/target
export SANDHOG_PLUGINS := $(SANDHOG_CACHE)/guest-target/wasm32-wasip2/release
export SANDHOG_DASHBOARD := $(SANDHOG_CACHE)/dashboard/site

JS_PLUGINS := plugins/hog-js plugins/mail
C_PLUGINS := plugins/wordcount
PYTHON_PLUGINS := plugins/hog-python plugins/invoice
PYTHON := sdk/python/sandhog_sdk sdk/python/tests $(PYTHON_PLUGINS)

BROKER ?= embedded
PICTURES ?= demo/pictures

.PHONY: help
help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: setup dashboard ## Thumbnail pictures while hogs spin (BROKER=redis, PICTURES=folder; KEEP=1 keeps the dashboard up)
	@$(MAKE) -j2 sandhog demo-plugins
	@BROKER=$(BROKER) PICTURES=$(PICTURES) KEEP=$(KEEP) scripts/demo.sh

.PHONY: test
test: lint build previous ## Run everything that proves it: lints, unit, conformance, simulation, whole-system
	cargo test --release --workspace --locked
	CARGO_TARGET_DIR=$(SANDHOG_CACHE)/guest-native cargo test --locked --manifest-path plugins/Cargo.toml --workspace
	@scripts/dashboard.sh test
	@scripts/dashboard.sh browser
	@scripts/js.sh npm test --workspaces --silent
	@scripts/python.sh types $(PYTHON)
	@scripts/python.sh test sdk/python $(PYTHON_PLUGINS)

.PHONY: screenshots
screenshots: daemon ## Take a picture of each view of the dashboard: light, dark, and on a phone (INTO=folder)
	@scripts/dashboard.sh screenshots $(or $(INTO),$(SANDHOG_CACHE)/screenshots)

.PHONY: chaos
chaos: daemon previous ## Break things while jobs run, and check that nothing is lost (SECONDS=60, ON=cluster; or SEED=n to play one again)
	CHAOS_SEED=$(SEED) CHAOS_ON=$(ON) CHAOS_SECONDS=$(if $(SEED),,$(SECONDS)) cargo test --release --workspace --locked --test chaos

.PHONY: latency
latency: daemon ## Measure what a neighbour waits beside hostile guests, on a machine that does nothing else
	cargo test --release --workspace --locked --test hostile -- --ignored --test-threads 1 latency

.PHONY: bench
bench: build kernels peers ## Measure (CASE=name runs some of it; with SUBJECT=name, of one subject)
	$(CARGO_TARGET_DIR)/release/sandhog-bench $(CASE) $(if $(CASE),$(SUBJECT))

.PHONY: peers
peers: setup ## Build the job systems that are measured beside Sandhog
	@scripts/setup.sh languages
	@scripts/peers.sh

.PHONY: soak
soak: SECONDS = 3600
soak: daemon ## Mixed load and deploys for long: nothing may grow (SECONDS=3600)
	$(CARGO_TARGET_DIR)/release/sandhog-soak $(SECONDS)

# Instrumented as `cargo fuzz` does it, but with the stable compiler and nothing to install. Everything is built anew for
# it, into a folder of its own.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
TARGET ?= config
SECONDS ?= 60

# The seeds come from a build of the whole workspace: a part of it needs other features of its dependencies, and would
# have them built anew.
.PHONY: fuzz
fuzz: ## Fuzz (TARGET=config, component, host_calls or control; SECONDS=60)
	cargo build --release --locked --workspace
	$(CARGO_TARGET_DIR)/release/fuzz-seeds $(TARGET) fuzz/corpus/$(TARGET)
	mkdir -p fuzz/artifacts/$(TARGET)
	RUSTFLAGS="$(FUZZ_FLAGS)" CARGO_TARGET_DIR=$(SANDHOG_CACHE)/fuzz-target cargo run --release --locked \
	  --target $$(rustc -vV | sed -n 's/^host: //p') --manifest-path fuzz/Cargo.toml --bin $(TARGET) -- \
	  -max_total_time=$(SECONDS) -artifact_prefix=fuzz/artifacts/$(TARGET)/ fuzz/corpus/$(TARGET)

.PHONY: lint
lint: setup ## Formatter, clippy and the links of the docs, all warnings denied
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path plugins/Cargo.toml
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --workspace --locked check bans licenses sources; fi
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --release --workspace --no-deps --document-private-items --locked
	CARGO_TARGET_DIR=$(SANDHOG_CACHE)/guest-native cargo clippy --locked --manifest-path plugins/Cargo.toml --workspace --all-targets -- -D warnings

.PHONY: build
build: daemon languages ## Build the daemon and the plugins, in every language

# The command alone. Its dependencies are those of the whole workspace, or else they would be built again with it. (cargo has
# jobs of its own, and not those of make.)
.PHONY: sandhog
sandhog: setup
	@scripts/dashboard.sh build-if-node
	env -u MAKEFLAGS cargo build --release --locked --workspace --bin sandhog

# Everything is built anew for it.
.PHONY: dist
dist: setup dashboard ## Build the command to hand out: optimised as a whole, without symbols
	env -u MAKEFLAGS cargo build --profile dist --locked --workspace --bin sandhog
	@ls -sh $(CARGO_TARGET_DIR)/dist/sandhog

.PHONY: deb
deb: dist ## Pack the command for Debian and its kin (into OUT, by default this folder)
	@scripts/deb.sh $(CARGO_TARGET_DIR)/dist/sandhog $(or $(OUT),.)

.PHONY: daemon
daemon: plugins dashboard
	cargo build --release --locked --workspace

.PHONY: dashboard
dashboard: ## Build the dashboard, which the daemon has in it
	@scripts/setup.sh dashboard
	@scripts/dashboard.sh build

# After this version's, of which it takes over what both have in common.
.PHONY: previous
previous: daemon ## Build the version before this one, for tests in which both meet
	@scripts/previous.sh >/dev/null || [ $$? = 3 ]

.PHONY: plugins
plugins: setup ## Build the plugins to components
	@scripts/wasm-target.sh cargo build --release --locked --target wasm32-wasip2 --manifest-path plugins/Cargo.toml

.PHONY: demo-plugins
demo-plugins: setup
	@env -u MAKEFLAGS scripts/wasm-target.sh cargo build --release --locked --target wasm32-wasip2 --manifest-path plugins/Cargo.toml --package hog --package thumbnail

# The same source and compiler as the component, so that the two can be compared.
.PHONY: kernels
kernels: setup
	@scripts/wasm-target.sh cargo build --release --locked --manifest-path plugins/Cargo.toml --package kernels --example native

.PHONY: languages
languages: ## Build the plugins in JavaScript, Python and C to components
	@scripts/setup.sh languages
	@scripts/js.sh build $(JS_PLUGINS)
	@scripts/python.sh build $(PYTHON_PLUGINS)
	@scripts/c.sh build $(C_PLUGINS)

.PHONY: setup
setup: ## Install what building and testing need, where it is missing
	@scripts/setup.sh
	@scripts/checkout.sh
