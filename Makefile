# Everything starts here. Each target first brings .venv up to date, which costs nothing when it is.

# The first one that exists; `make PYTHON=/path/to/python3.11 ...` overrides.
PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3))
# The tools of .venv come first on the path: onnx2tf calls `onnxsim` by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Tests start hundreds of processes: none should compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick test-matrix test-android test-ray fuzz lint docs lock sbom pip-audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Build .venv by uv.lock, PyTorch for the CPU; the browser page (the others do this first)
	@command -v "$(PYTHON)" >/dev/null || { echo "set-up: Python 3.11 is needed, there is no '$(PYTHON)': install python3.11" >&2; exit 1; }
	@"$(PYTHON)" scripts/set_up.py
	@"$(PYTHON)" scripts/build_page.py

demo: setup ## Train, audit, export and perturb on the built-in faces, into demo/
	@sfumato demo --out demo --overwrite

# All of it always runs.
LINT = status=0; ruff check --quiet --output-format concise . || status=1; ruff format --check --quiet . || status=1; \
	mypy || status=1; codespell || status=1

# Lint runs beside the tests, for mypy alone keeps one core busy for a minute; it prints when it is done. So pytest's summary is
# the closing line, unless lint has failed.
test: setup ## Lint, types, spelling and all tests, with the 25 slowest
	@mkdir -p .cache; { ($(LINT); exit $$status) >.cache/lint.txt 2>&1; code=$$?; cat .cache/lint.txt; exit $$code; } & lint=$$!; \
	status=0; python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=25 || status=1; \
	wait $$lint || { status=1; echo "lint has failed: see above, or .cache/lint.txt" >&2; }; exit $$status

test-quick: setup ## The tests that are not marked slow, without lint
	@python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# Seven settings in two runs. One setting: make test-matrix ARGS="--only two-threads tests/train"
test-matrix: setup ## The tests as other machines would run them: kernels, threads, time zone, locale
	@python scripts/test_matrix.py $(ARGS)

test-android: setup ## Compile and test the Android app, without an SDK (needs a JDK 17, node and npm)
	@python scripts/set_up_android.py
	@SFUMATO_ANDROID=1 python -m pytest -q --durations=10 tests/android

RAY = .cache/ray
RAY_WAITS = RAY_raylet_start_wait_time_s=200 RAY_agent_register_timeout_ms=200000 RAY_worker_register_timeout_seconds=200
test-ray: setup ## The service on a Ray cluster of two nodes on this machine (Linux, root); compare and audits on one
	@python scripts/set_up_ray.py $(RAY) $(RAY)-train
	@status=0; SFUMATO_RAY=$(RAY)/bin/python python -m pytest -q tests/server/test_ray.py tests/server/test_scale_out.py \
		tests/server/test_deploy.py || status=1; export PATH="$(CURDIR)/$(RAY)-train/bin:$$PATH"; \
		$(RAY_WAITS) python -m pytest -q tests/compare/test_cluster.py tests/audit/test_cluster.py || status=1; exit $$status

# Any export will do: make fuzz EXPORT=exports/gender COUNT=500
EXPORT ?= demo/export
COUNT ?= 2000
fuzz: setup ## Damaged and hostile input of eleven kinds against EXPORT (demo/export), COUNT (2000) of each
	@python -m tests.fuzz $(EXPORT) --count $(COUNT)

lint: setup ## ruff, mypy and codespell, as pre-commit runs them
	@$(LINT); exit $$status

docs: setup ## Build the documentation into site/; a dead link or anchor fails
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

# Moves only what pyproject.toml asks for: make lock UPGRADE=--upgrade, or UPGRADE="--upgrade-package rich", moves on.
lock: ## Rewrite uv.lock by pyproject.toml, and .venv by uv.lock
	@"$(PYTHON)" scripts/set_up.py --lock $(UPGRADE)

sbom: setup ## Write dist/sfumato.cdx.json: every locked package with its hashes, in CycloneDX
	@python scripts/supply_chain.py sbom dist/sfumato.cdx.json

pip-audit: setup ## Ask about known vulnerabilities of the locked packages (needs a network)
	@python scripts/supply_chain.py audit

clean: ## Remove caches and builds; .venv and demo/ stay
	@rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
	@find train export cloud benchmarks tests studies scripts -name __pycache__ -type d -prune -exec rm -rf {} +
