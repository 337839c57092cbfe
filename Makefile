# Belfry's commands. `make run` and `make test` are all a newcomer needs; both
# install what they need beside Rust, Node, Python and make.

.DEFAULT_GOAL := help
.PHONY: help run test lint schemas validate build deploy smoke emulator release bench \
	compile test-tools test-templates test-deploy tools clean

# Arguments of `belfry run`, like ARGS="--port 3002 --parameter AllowedOrigins=http://localhost:5173"
ARGS ?=
# What `make deploy` deploys: a section of samconfig.toml, another name for the
# stack, parameters like PARAMETERS="MaxConnections=500 AlarmTopicArn=arn:…"
CONFIG ?= default
STACK ?=
PARAMETERS ?=
# Where `make emulator` listens, on loopback.
PORT ?= 4566

# A virtual environment for each: they pin different versions of the same.
SAM := .venv/sam/bin/sam
AWS := .venv/aws/bin/python
MINISTACK := .venv/ministack/bin/ministack
CHECKOV := .venv/checks/bin/checkov
TEMPLATES := template.yaml examples/python/template.yaml $(wildcard infra/*.yaml)

export SAM_CLI_TELEMETRY := 0

help: ## List these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: ## Build and start the local stack (ARGS="…" for `belfry run`)
	@echo "Building the gateway and the functions; the first time takes a few minutes…"
	@cargo build --package belfry --package belfry-functions
	@target/debug/belfry run $(ARGS)

test: validate test-templates compile test-tools ## Run every test
	@echo "Running the tests…"
	cargo test --workspace
	$(MAKE) test-deploy

compile:
	@echo "Compiling everything, tests included; the first time takes several minutes…"
	cargo build --workspace --all-targets

lint: ## Check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

schemas: ## Write the JSON Schemas of the protocol to schemas/
	cargo run --quiet --package belfry-protocol --example write-schemas -- schemas

validate: $(SAM) $(CHECKOV) ## Check the templates: SAM CLI, cfn-lint, checkov
	$(SAM) validate --lint --region us-east-1 --template template.yaml
	.venv/sam/bin/cfn-lint --regions us-east-1 -- $(TEMPLATES)
	$(CHECKOV) --config-file .checkov.yaml --file $(TEMPLATES)

build: $(SAM) ## Build the functions as they are deployed, and print their sizes
	@echo "Building the functions; the first time takes several minutes…"
	@# All at once: SAM would build one after the other, and link on one core.
	PATH="$(CURDIR)/.venv/sam/bin:$$PATH" cargo lambda build --release --package belfry-functions
	PATH="$(CURDIR)/.venv/sam/bin:$$PATH" $(SAM) build
	@python3 tools/sizes.py .aws-sam/build

deploy: $(SAM) $(AWS) ## Deploy what was built (CONFIG=prod, STACK=…, PARAMETERS="Name=value …")
	@$(AWS) tools/deploy.py --sam "$(CURDIR)/$(SAM)" --config "$(CONFIG)" $(if $(STACK),--stack "$(STACK)") $(PARAMETERS)

smoke: $(AWS) ## Try a deployed stack (STACK=belfry-dev)
	@$(AWS) tools/smoke.py "$(STACK)"

emulator: $(MINISTACK) ## Run an AWS emulator, to deploy to without an account (PORT=4566)
	@python3 tools/emulator.py --ministack "$(CURDIR)/$(MINISTACK)" --port "$(PORT)"

release: ## Build everything optimised, for the local stack and benchmarks
	cargo build --release --package belfry --package belfry-functions

bench: ## Measure the figures of docs/PERFORMANCE.md (takes minutes)
	cargo build --release --workspace --bins
	cargo bench --workspace --bench local --bench scale

test-templates: $(SAM)
	@echo "Reading the templates…"
	@AWS_DEFAULT_REGION=us-east-1 .venv/sam/bin/python tests/deploy/templates_test.py

test-deploy: build $(AWS) $(MINISTACK) test-tools
	@echo "Deploying to an emulator…"
	@$(AWS) tests/deploy/scenario.py

test-tools: tests/node/node_modules/.package-lock.json examples/typescript/node_modules/.package-lock.json

tools: $(SAM) $(AWS) $(MINISTACK) $(CHECKOV)

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@echo "Installing the Node packages of $*…"
	npm ci --prefix $* --no-audit --no-fund --silent

$(SAM): TOOL = sam
$(AWS): TOOL = aws
$(MINISTACK): TOOL = ministack
$(CHECKOV): TOOL = checks
$(SAM): tools/sam/requirements.txt
$(AWS): tools/aws/requirements.txt
$(MINISTACK): tools/ministack/requirements.txt
$(CHECKOV): tools/checks/requirements.txt
$(SAM) $(AWS) $(MINISTACK) $(CHECKOV):
	@echo "Installing tools/$(TOOL)/requirements.txt…"
	python3 -m venv .venv/$(TOOL)
	.venv/$(TOOL)/bin/pip install --quiet --disable-pip-version-check --requirement tools/$(TOOL)/requirements.txt
	@touch $@

clean: ## Remove everything that was built or installed
	rm -rf target .venv .aws-sam tests/node/node_modules examples/typescript/node_modules examples/typescript/dist
