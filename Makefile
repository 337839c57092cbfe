# Belfry's commands. A newcomer needs only `make run` and `make test`; both
# install what they need, except Rust, Node, Python and make.

.DEFAULT_GOAL := help
.PHONY: help run test lint schemas validate build deploy smoke emulator release bench loadtest soak test-soak tokens \
	parameters channels compile test-tools test-templates build-clients clients test-clients test-examples test-browser pictures test-deploy dist test-dist demo page clean

# Arguments of `belfry run`, such as ARGS="--port 3002 --parameter AllowedOrigins=http://localhost:5173"
ARGS ?=
# For `make deploy`: a section of samconfig.toml, another stack name, and
# parameters such as PARAMETERS="MaxConnections=500 AlarmTopicArn=arn:…"
CONFIG ?= default
STACK ?=
PARAMETERS ?=
# The rules of channels, for `make build` and `make deploy`.
CHANNELS ?= channels.json
# The port on which `make emulator` listens, on loopback.
PORT ?= 4566

# `make deploy MaxConnections=500` would set a variable that nothing reads.
ifneq ($(filter build deploy dist,$(MAKECMDGOALS)),)
declared := $(shell sed -nE '/^Parameters:/,/^Rules:/s/^  ([A-Za-z]+):.*/\1/p' template.yaml)
misplaced := $(foreach name,$(declared),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
$(if $(strip $(misplaced)),$(error There is no variable $(firstword $(misplaced)): write PARAMETERS="$(firstword $(misplaced))=…"))
endif

# The architecture to build the functions for: x86_64 or arm64.
ARCHITECTURE ?= x86_64

# Where `make build` puts its result and `make deploy` finds it, and the profile
# to build with: release, or debug for the deploy test.
export BUILD_DIR ?= .aws-sam/build
BUILD_PROFILE ?= release

# Benchmarks run the functions that they build.
ifneq ($(filter bench,$(MAKECMDGOALS)),)
here := $(subst aarch64,arm64,$(shell uname -m))
$(if $(filter-out release,$(BUILD_PROFILE)),$(error Benchmarks measure BUILD_PROFILE=release only))
$(if $(filter command environment,$(firstword $(origin ARCHITECTURE))),$(if $(filter-out $(here),$(ARCHITECTURE)),$(error Benchmarks run on this machine: leave out ARCHITECTURE)))
endif

# A release has functions of one profile, and no rules or parameters of a stack:
# those are given when it is deployed.
ifneq ($(filter dist,$(MAKECMDGOALS)),)
$(foreach name,CHANNELS PARAMETERS,$(if $(filter command environment,$(firstword $(origin $(name)))),$(error A release takes no $(name): give it to ./deploy in the unpacked archive)))
$(if $(filter-out release,$(BUILD_PROFILE)),$(error A release is built with BUILD_PROFILE=release only))
endif

# Each tool has its own virtual environment, because they pin different versions
# of the same packages. A stamp file marks a complete one.
SAM := .venv/sam/.installed
AWS := .venv/aws/.installed
MINISTACK := .venv/ministack/.installed
CHECKS := .venv/checks/.installed
PYTHON_CLIENTS := .venv/clients/.installed
# The implementations that the benchmarks compare with.
PEERS := tests/benches/peers/node/dist/.built tests/benches/peers/socketio/node_modules/.package-lock.json .venv/peer-python/.installed .venv/peer-fastapi/.installed .venv/plot/.installed
BENCHES ?= functions fanout local scale rivals contention channels recovery presence streams operator storm
FUNCTIONS := connect disconnect default broadcaster worker sweeper operator hooks reader
TEMPLATES := template.yaml examples/python/template.yaml examples/s3-upload/template.yaml $(wildcard infra/*.yaml)

export SAM_CLI_TELEMETRY := 0

# $(call needs,PROGRAM,SOURCE): fails with a hint if a program is missing.
needs = command -v $(1) >/dev/null || { echo "$(1) is missing: install $(2)."; exit 1; }

# Runs a command that finds cargo-lambda, which is installed with the SAM CLI.
WITH_SAM = PATH="$(CURDIR)/.venv/sam/bin:$$PATH"

# $(call pack,FOLDER,FILE): packs an npm package as a file.
pack = mv "target/$$(npm pack ./$(1) --silent --pack-destination target)" $(2) && echo $(2)

# $(call venv,FOLDER,REQUIREMENTS): creates a virtual environment with these packages.
define venv
	@$(call needs,python3,Python 3.11 or later)
	@echo "Installing $(2)…"
	@python3 -m venv $(1) || { echo "Python's module venv is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(1)/bin/pip install --quiet --disable-pip-version-check --requirement $(2)
	@touch $(1)/.installed
endef

help: ## List these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: ## Build and start the local stack (ARGS="…" for `belfry run`)
	@$(call needs,cargo,Rust from https://rustup.rs)
	@echo "Building the local stack and the functions; the first time takes a few minutes…"
	@cargo build --package belfry-local --package belfry-functions
	@target/debug/belfry run $(ARGS)

demo: page ## Build and start a page that shows everything Belfry does, on the local stack
	@$(call needs,cargo,Rust from https://rustup.rs)
	@echo "Building the local stack and the functions; the first time takes a few minutes…"
	@cargo build --package belfry-local --package belfry-functions
	@exec node examples/web/server/main.mjs $(ARGS)

# The page of `make demo`, and the handler of examples/typescript behind it.
page: build-clients examples/web/node_modules/.package-lock.json examples/typescript/node_modules/.package-lock.json
	@echo "Building the page…"
	@npm run build --prefix examples/typescript --silent
	@npm run types --prefix examples/web --silent
	@npm run build --prefix examples/web --silent -- --logLevel warn

test: validate test-templates compile test-tools ## Run every test
	@echo "Running the tests…"
	@# Many wait more than they compute, and so do those below.
	RUST_TEST_THREADS=$$(($$(getconf _NPROCESSORS_ONLN) + 1)) cargo test --workspace
	@echo "Testing the clients, the examples, the pages and a deployment, two at a time; each prints when it ends…"
	@$(MAKE) --jobs=2 --output-sync=target test-deploy test-clients test-soak test-examples test-browser
	$(MAKE) test-dist

compile:
	@echo "Compiling everything, tests included; the first time takes several minutes…"
	cargo build --workspace --all-targets

lint: ## Check formatting, lints, documentation and dependencies
	cargo fmt --all --check
	python3 tools/check_docs.py
	python3 tools/check_dependencies.py
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet

schemas: ## Write the protocol's JSON Schemas to schemas/
	cargo run --quiet --package belfry-protocol --example write-schemas -- schemas

validate: $(SAM) $(CHECKS) ## Check the templates: SAM CLI, cfn-lint, checkov
	.venv/sam/bin/sam validate --lint --region us-east-1 --template template.yaml
	.venv/sam/bin/cfn-lint --regions us-east-1 -- $(TEMPLATES)
	.venv/checks/bin/checkov --config-file .checkov.yaml --file $(TEMPLATES)

# SAM drops a parameter with an unknown name, after minutes of building.
parameters: $(SAM)
ifneq ($(strip $(PARAMETERS)),)
	@.venv/sam/bin/python tools/parameters.py $(PARAMETERS)
endif

# A function with wrong rules would fail at its start.
channels:
	@$(call needs,python3,Python 3.11 or later)
	@$(if $(filter ChannelRules=%,$(PARAMETERS)),,python3 tools/channels.py "$(CHANNELS)" >/dev/null)

build: parameters channels $(SAM) ## Build the functions for deployment and print their sizes (ARCHITECTURE=arm64)
	@$(call needs,cargo,Rust from https://rustup.rs)
	@echo "Building the functions; the first time takes several minutes…"
	@# All at once: SAM would build them one by one, and link on one core.
	$(WITH_SAM) cargo lambda build --package belfry-functions \
		$(if $(filter release,$(BUILD_PROFILE)),--release) $(if $(filter arm64,$(ARCHITECTURE)),--arm64)
	$(WITH_SAM) $(if $(filter debug,$(BUILD_PROFILE)),SAM_BUILD_MODE=debug) \
		sam build --build-dir $(BUILD_DIR) --parameter-overrides Architecture=$(ARCHITECTURE)
	@python3 tools/sizes.py $(BUILD_DIR)

deploy: parameters channels $(SAM) $(AWS) ## Deploy the built functions (CONFIG=prod, STACK=…, CHANNELS=file, PARAMETERS="Name=value …")
	@.venv/aws/bin/python tools/deploy.py --sam "$(CURDIR)/.venv/sam/bin/sam" --config "$(CONFIG)" --channels "$(CHANNELS)" $(if $(STACK),--stack "$(STACK)") $(PARAMETERS)

# The local stack is static, so it needs no libraries of the machine that it runs
# on. cargo-lambda's optimisations are for functions: the stack must run on any
# processor, and survive a panic in one of its tasks.
dist: STATIC := $(if $(filter arm64,$(ARCHITECTURE)),aarch64,x86_64)-unknown-linux-musl
dist: build ## Make a release for machines without Rust, in target/dist (ARCHITECTURE=arm64)
	@echo "Building the local stack; the first time takes several minutes…"
	$(WITH_SAM) cargo lambda build --package belfry-local --release --disable-optimizations --target $(STATIC)
	@python3 tools/dist.py --built $(BUILD_DIR) --belfry target/lambda/belfry/bootstrap --to target/dist

smoke: $(AWS) ## Test a deployed stack (STACK=belfry-dev)
	@.venv/aws/bin/python tools/smoke.py "$(STACK)"

emulator: $(MINISTACK) ## Run an AWS emulator, to deploy without an account (PORT=4566)
	@python3 tools/emulator.py --ministack "$(CURDIR)/.venv/ministack/bin/ministack" --port "$(PORT)"

release: ## Build an optimised local stack, with its functions
	cargo build --release --package belfry-local --package belfry-functions

bench: $(PEERS) $(AWS) $(MINISTACK) clients tests/node/node_modules/.package-lock.json build ## Measure the figures in docs/PERFORMANCE.md (takes an hour; BENCHES="fanout" for one)
	@echo "Building optimised binaries; the first time takes a quarter of an hour…"
	$(WITH_SAM) cargo lambda build --package bare-loop --release
	cargo build --release --workspace --bin belfry
	@mkdir -p target/measured
	@install -m 755 target/release/belfry target/measured/belfry
	@# As they are deployed, and the loop is built like them.
	@for name in $(FUNCTIONS) bare-loop; do install -m 755 target/lambda/$$name/bootstrap target/measured/$$name || exit; done
	cargo bench --package belfry-core --bench growth
	cargo bench --package belfry-tests $(addprefix --bench ,$(BENCHES))
	.venv/plot/bin/python tools/plot.py target/bench docs/plots

loadtest: ## Put load on a stack (URL=… CONNECTIONS=… RATE=… [SECONDS=30 CONNECT_RATE=150 TOKENS=file FUNCTION=name])
	@[ -n "$(URL)" ] && [ -n "$(CONNECTIONS)" ] && [ -n "$(RATE)" ] || { \
		echo "Set URL, CONNECTIONS and RATE, for example: make loadtest URL=ws://127.0.0.1:3001/dev CONNECTIONS=1000 RATE=50"; exit 1; }
	@echo "Building the load test; the first time takes several minutes…"
	@cargo build --profile bench --quiet --package belfry-loadtest --bin loadtest
	@target/release/loadtest --url "$(URL)" --connections "$(CONNECTIONS)" --rate "$(RATE)" \
		$(if $(SECONDS),--seconds "$(SECONDS)") $(if $(CONNECT_RATE),--connect-rate "$(CONNECT_RATE)") \
		$(if $(TOKENS),--tokens "$(TOKENS)") $(if $(FUNCTION),--function "$(FUNCTION)")

tests/benches/peers/node/dist/.built: tests/benches/peers/node/node_modules/.package-lock.json $(wildcard tests/benches/peers/node/*.mjs tests/benches/peers/node/equal/*.mjs)
	npm run build --prefix tests/benches/peers/node --silent
	@touch $@

# MINUTES, CLIENTS and SEED are arguments; the same seed does the same again.
soak: build-clients tests/node/node_modules/.package-lock.json ## Let every fault strike a busy local stack, and check everything afterwards (MINUTES=30 CLIENTS=1000 SEED=…)
	@echo "Building optimised binaries; the first time takes a quarter of an hour…"
	@cargo build --release --workspace $(addprefix --bin ,belfry $(FUNCTIONS) soak)
	@target/release/soak $(if $(MINUTES),--minutes "$(MINUTES)") $(if $(CLIENTS),--clients "$(CLIENTS)") $(if $(SEED),--seed "$(SEED)")

# Needs the local stack and the functions, which `compile` builds.
test-soak: build-clients tests/node/node_modules/.package-lock.json
	@echo "Letting every fault strike a busy stack…"
	@clients/node_modules/.bin/biome check --error-on-warnings --config-path=clients tests/node/clients
	@target/debug/soak --minutes 0.9 --clients 60 --seed 1

tokens: $(AWS) ## Create and sign in users for a load test (STACK=belfry-dev [USERS=50 FILE=tokens.txt REMOVE=1])
	@.venv/aws/bin/python tools/tokens.py "$(STACK)" "$(or $(FILE),tokens.txt)" --users "$(or $(USERS),50)" $(if $(REMOVE),--remove)

build-clients: clients/node_modules/.package-lock.json
	@npm run build --prefix clients --silent

clients: build-clients ## Build the clients, as target/belfry-client.tgz and target/belfry-react.tgz
	@mkdir -p target
	@$(call pack,clients/typescript,target/belfry-client.tgz)
	@$(call pack,clients/react,target/belfry-react.tgz)

# Needs the local stack and the functions, which `compile` builds.
test-clients: build-clients ## Check and test the clients
	@echo "Checking and testing the clients…"
	@npm run lint --prefix clients --silent
	@npm run types --prefix clients --silent
	@npm test --prefix clients --silent
	@npm run test:package --prefix clients --silent
	@npm run test:integration --prefix clients --silent

clients/node_modules/.package-lock.json: clients/typescript/package.json clients/react/package.json clients/react-18/package.json clients/docs/package.json

# Needs the local stack, which `compile` builds.
test-examples: $(AWS) $(MINISTACK) test-tools
	@echo "Running the examples as their README says…"
	@.venv/aws/bin/python tests/deploy/examples_test.py
	@node --test --test-reporter=dot examples/authorize/index.test.mjs examples/quote/index.test.mjs examples/last-seen/index.test.mjs

# Needs the local stack and the functions, which `compile` builds. Pictures of
# the pages are in target/screenshots afterwards.
test-browser: page tests/browser/node_modules/.package-lock.json ## Test the web pages in Chromium, installed if missing
	@tools/chromium.sh >/dev/null
	@echo "Testing the web pages in Chromium…"
	@clients/node_modules/.bin/biome check --error-on-warnings --config-path=clients tests/browser examples/web crates/local/src/console/page/*.js
	@npm test --prefix tests/browser --silent

pictures: ## Take the documentation's pictures again
	@PICTURES=1 $(MAKE) test-browser

test-templates: $(SAM)
	@echo "Checking the templates…"
	@AWS_DEFAULT_REGION=us-east-1 .venv/sam/bin/python tests/deploy/templates_test.py

# The same recipe as for people, with functions that are not optimised: that
# would take longer than all tests together and prove nothing here. Without
# symbols, they are small enough for Lambda. `make deploy` never finds them.
test-deploy: export BUILD_DIR := .aws-sam/test
test-deploy: export BUILD_PROFILE := debug
test-deploy: export CARGO_PROFILE_DEV_DEBUG := 0
test-deploy: export CARGO_PROFILE_DEV_STRIP := symbols
test-deploy: $(SAM) $(AWS) $(MINISTACK) test-tools build-clients
	$(MAKE) build
	@echo "Deploying to an emulator…"
	@.venv/aws/bin/python tests/deploy/scenario.py

# Packs and uses what `compile` and `test-deploy` have built.
test-dist: $(AWS) $(MINISTACK)
	@echo "Using a release without Rust…"
	@python3 tools/dist.py --built .aws-sam/test --belfry target/debug/belfry --debug --to target/test-dist
	@.venv/aws/bin/python tests/deploy/dist_test.py target/test-dist

test-tools: $(PYTHON_CLIENTS) tests/node/node_modules/.package-lock.json examples/typescript/node_modules/.package-lock.json

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@echo "Installing the Node packages of $*…"
	npm ci --prefix $* --no-audit --no-fund --silent

.venv/%/.installed: tools/%/requirements.txt
	$(call venv,.venv/$*,$<)

$(PYTHON_CLIENTS): tests/python/requirements.txt
	$(call venv,.venv/clients,$<)

.venv/peer-%/.installed: tests/benches/peers/%/requirements.txt
	$(call venv,.venv/peer-$*,$<)

clean: ## Remove everything that make built or installed
	rm -rf target .venv .aws-sam tests/node/node_modules tests/browser/node_modules examples/typescript/node_modules examples/typescript/dist \
		tests/benches/peers/node/node_modules tests/benches/peers/node/dist tests/benches/peers/socketio/node_modules clients/node_modules clients/peers/node_modules clients/typescript/dist \
		clients/react/node_modules clients/react/dist clients/react-18/node_modules clients/docs/node_modules examples/web/node_modules examples/web/dist
