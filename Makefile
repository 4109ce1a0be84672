# Two targets do everything: `make` (set up, then the main job on the sample) and `make test`.
# Without make: the same lines, typed by hand with .venv/bin on PATH.
PYTHON ?= python3.11
PORT ?= 5000
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_USER := 0
MLFLOW_RUN := mlflow run .

main: setup
	dvc repro && $(MLFLOW_RUN) -e teacher
	$(MLFLOW_RUN) -e distill -P distill.teachers=[]
	$(MLFLOW_RUN) -e distill
	$(MLFLOW_RUN) -e detect -P detect.distill.method=sp
	spkd compare

setup: .venv/installed
	spkd bind

# Of two set-ups at once, each line of one waits for the other's: pip breaks what another pip is installing.
.venv/installed: SHELL := flock Makefile /bin/sh
.venv/installed: requirements.lock
	$(PYTHON) -m venv .venv
	@# a package whose installation was killed has no INSTALLER; pip would take it for installed, without its commands
	find .venv/lib/python*/site-packages -maxdepth 1 -name '*.dist-info' ! -exec test -e {}/INSTALLER \; -exec rm -r {} +
	pip install --quiet --require-hashes -r requirements.lock
	pip install --quiet --no-deps --no-build-isolation -e . && touch $@

test: setup
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile

lint: setup
	ruff format --check src tests benchmarks results && ruff check src tests benchmarks results && mypy

ui: setup
	mlflow ui --host 127.0.0.1 --port $(PORT)

bench: setup
	pip install --quiet --no-deps -r requirements-bench.in && dvc repro
	failed=; for file in benchmarks/[a-z]*.py; do python $$file || failed="$$failed $$file"; done; \
	python benchmarks/_report.py && test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

sample: setup
	spkd simulate --out sample

# needs pip-tools, which the lock does not hold: pip install pip-tools
lock:
	pip-compile --quiet --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-options --strip-extras --no-annotate -o requirements.lock requirements.in

.PHONY: main setup test lint ui bench sample lock
