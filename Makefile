# The commands of the project; `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
STACK := $(VENV)/bin/python -m infra.local
MINIMUM_PYTHON := 3.11

.PHONY: help up down status logs env rotate psql demo replay lineage synth list cost deploy destroy test test-long benchmark lint \
  dashboards fmt

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 14

up: $(VENV)/.installed ## Start the embedded stack; returns when everything is healthy
	@$(STACK) up

down: $(VENV)/.installed ## Stop it; no process is left and no data is lost
	@$(STACK) down

status: $(VENV)/.installed ## Show each component: up or down, since when, and why
	@$(STACK) status

logs: $(VENV)/.installed ## Follow the logs, of one component with COMPONENT=<name>
	@$(STACK) logs $(COMPONENT)

env: $(VENV)/.installed ## Print addresses and credentials as KEY=value lines
	@$(STACK) env

rotate: $(VENV)/.installed ## Give every secret, or that of SECRET=<name>, a new value
	@$(STACK) rotate $(SECRET)

psql: $(VENV)/.installed ## Open psql on the results, with a role that only reads
	@$(STACK) psql

demo: $(VENV)/.installed ## Send one burst through everything and show the windows and the balance
	@$(STACK) demo

replay: $(VENV)/.installed ## Send a web server's access log through the pipeline: LOG=<path>
	@test -n "$(LOG)" || { echo "Which log? make replay LOG=path/to/access.log.gz" >&2; exit 2; }
	@$(STACK) replay "$(LOG)" $(OPTIONS)

lineage: $(VENV)/.installed ## Show where a window comes from: WINDOW=<start, default newest> MINUTES=<5 or 60>
	@$(STACK) lineage $(if $(WINDOW),--window "$(WINDOW)") --minutes $(or $(MINUTES),60)

# The account and the network are nobody's: enough to look at templates, not to deploy them.
PROFILE ?= small
ACCOUNT ?= 000000000000
REGION ?= eu-central-1
ALLOWED_CIDR ?= 192.0.2.1/32
TEMPLATES = .clickstream/cdk.out/$(PROFILE)
CONTEXT = {"profile": "$(PROFILE)", "account": "$(ACCOUNT)", "region": "$(REGION)", "allowedCidr": "$(ALLOWED_CIDR)"}

synth: $(VENV)/.installed ## Write the stacks on AWS as templates: PROFILE=<small or scaled>
	@CDK_OUTDIR=$(TEMPLATES) CDK_CONTEXT_JSON='$(CONTEXT)' $(VENV)/bin/python infra/app.py
	@ls $(TEMPLATES)/*.template.json

AWS = PYTHONPATH=plugins $(VENV)/bin/python -m clickstream.provisioning
THERE = --region $(REGION) $(if $(filter-out file,$(origin ACCOUNT)),--account "$(ACCOUNT)")

cost: $(VENV)/.installed ## What the stacks on AWS cost a month, both profiles or PROFILE=<small or scaled>
	@for profile in $(if $(filter command line,$(origin PROFILE)),$(PROFILE),small scaled); do \
	  $(MAKE) --silent synth PROFILE=$$profile >/dev/null || exit 1; \
	  $(AWS) cost .clickstream/cdk.out/$$profile --region $(REGION); done

list: $(VENV)/.installed ## Show the stacks on AWS and their addresses: REGION=<region>
	@$(AWS) list $(THERE)

deploy: $(VENV)/.installed ## Deploy to AWS after a preview: ALLOWED_CIDR=<your network> PROFILE=<small> REGION=<region>
	@test "$(origin ALLOWED_CIDR)" != file || { \
	  echo "Who may open Airflow and Grafana? make deploy ALLOWED_CIDR=203.0.113.4/32" >&2; exit 2; }
	@$(AWS) deploy $(THERE) --profile $(PROFILE) --allowed-cidr "$(ALLOWED_CIDR)" \
	  --folder .clickstream/cdk.out/deployed $(OPTIONS)

destroy: $(VENV)/.installed ## Delete the stacks on AWS, after the name was typed: REGION=<region>
	@$(AWS) destroy $(THERE)

PYTEST = $(VENV)/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 30

test: $(VENV)/.installed-dev ## Run the tests, but for the long ones
	@$(PYTEST) -m "not long" --junitxml test-results/test.xml $(OPTIONS)

test-long: $(VENV)/.installed-dev ## Run the long ones: endurance, whole hosts, every point of a kill
	@$(PYTEST) -m long --junitxml test-results/test-long.xml $(OPTIONS)

benchmark: $(VENV)/.installed-dev ## Measure the speed that is promised, half an hour: BENCHMARKS="scrape views publish batch_cost ninety_days"
	@for name in $(or $(BENCHMARKS),scrape views publish batch_cost ninety_days); do \
	  $(VENV)/bin/python -m benchmarks.$$name || missed="$$missed $$name"; done; \
	  test -z "$$missed" || { echo "Missed a limit:$$missed" >&2; exit 1; }

lint: $(VENV)/.installed-dev ## Check style and types
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy

dashboards: $(VENV)/.installed-dev ## Write Grafana's dashboards and alert rules anew from infra/monitoring/grafana
	@$(VENV)/bin/python -m infra.monitoring.grafana

fmt: $(VENV)/.installed-dev ## Format the code
	@$(VENV)/bin/ruff format
	@$(VENV)/bin/ruff check --fix

# Everything that makes the environment writes to standard error, so that `make env` prints nothing else.
$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MINIMUM_PYTHON)".split("."))))' || { \
	  echo "$(PYTHON) is missing or older than $(MINIMUM_PYTHON): $$($(PYTHON) --version 2>&1)." \
	    "Install Python $(MINIMUM_PYTHON) or later, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >&2 || { \
	  echo "Cannot make $(VENV). On Debian and Ubuntu: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check uv >&2

$(VENV)/.installed: requirements.txt $(VENV)/bin/uv
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode -r $< >&2
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --compile-bytecode -r $< >&2
	@touch $@

.PHONY: requirements
requirements: $(VENV)/bin/uv ## Pin the dependencies that pyproject.toml names
	@$(VENV)/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements.txt
	@$(VENV)/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --group dev -c requirements.txt \
	  pyproject.toml -o requirements-dev.txt
