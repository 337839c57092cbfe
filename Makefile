# Belfry's commands. `make run` and `make test` are all a newcomer needs; both
# install what they need beside Rust, Node, Python and make.

.DEFAULT_GOAL := help
.PHONY: help run test lint schemas validate release bench test-tools build clean

# Arguments of `belfry run`, like ARGS="--port 3002 --parameter AllowedOrigins=http://localhost:5173"
ARGS ?=

SAM := .venv/sam/bin/sam
export SAM_CLI_TELEMETRY := 0

help: ## List these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: ## Build and start the local stack (ARGS="…" for `belfry run`)
	@echo "Building the gateway and the functions; the first time takes a few minutes…"
	@cargo build --package belfry --package belfry-functions
	@target/debug/belfry run $(ARGS)

test: build test-tools validate ## Run every test
	@echo "Running the tests…"
	cargo test --workspace

build:
	@echo "Building everything, tests included; the first time takes several minutes…"
	cargo build --workspace --all-targets

lint: ## Check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

schemas: ## Write the JSON Schemas of the protocol to schemas/
	cargo run --quiet --package belfry-protocol --example write-schemas -- schemas

validate: $(SAM) ## Check the template with the SAM CLI
	$(SAM) validate --lint --region us-east-1 --template template.yaml

release: ## Build what is deployed, optimised
	cargo build --release --package belfry --package belfry-functions

bench: ## Measure the figures of docs/PERFORMANCE.md (takes minutes)
	cargo build --release --workspace --bins
	cargo bench --workspace --bench local --bench scale

test-tools: tests/node/node_modules/.package-lock.json

tests/node/node_modules/.package-lock.json: tests/node/package.json tests/node/package-lock.json
	@echo "Installing wscat and the Node clients…"
	npm ci --prefix tests/node --no-audit --no-fund --silent

$(SAM): tools/sam/requirements.txt
	@echo "Installing the SAM CLI…"
	python3 -m venv .venv/sam
	.venv/sam/bin/pip install --quiet --disable-pip-version-check --requirement tools/sam/requirements.txt
	@touch $(SAM)

clean: ## Remove everything that was built or installed
	rm -rf target .venv .aws-sam tests/node/node_modules
