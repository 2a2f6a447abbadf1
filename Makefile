# make run: everything on the embedded default. make test: the tests. Both install what is missing first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: help install run studies test check bench format lock clean

help:
	@grep -E '^[a-z]+:.*#' Makefile | sed -E 's/:[^#]*#/:/'

install: $(INSTALLED)  # the environment in .venv, at the versions of requirements.lock

$(INSTALLED): requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 to 3.13: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@# opencv-python needs the system's libGL; its headless build is the same cv2 without windows.
	@$(BIN)/python -c "import cv2" 2>/dev/null || { \
		version=$$(sed -n 's/^opencv-python==//p' requirements.lock); \
		echo "No libGL on this machine: installing opencv-python-headless $$version instead."; \
		$(BIN)/python -m pip uninstall --quiet --yes opencv-python; \
		$(BIN)/python -m pip install --quiet opencv-python-headless==$$version; }
	@touch $(INSTALLED)

run: install  # attend -> discover -> ground -> evaluate -> report on the pocket model; ARGS="heads.k=1" changes settings
	$(BIN)/python run.py $(ARGS)

studies: install  # every study of experiments/ at pocket size, with its tables; ARGS="table5_criteria dataset.limit=100"
	$(BIN)/python experiments/pocket_size.py $(ARGS)

test: install  # unit and integration tests
	$(BIN)/python -m pytest $(ARGS)

check: install  # lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  # the attention pass beside how it is done today, entropy, grounding, scoring; about 6 minutes; ARGS="--shape tiny"
	$(BIN)/python -m locheads.bench attention --shape small --json outputs/bench/attention.json $(ARGS)
	$(BIN)/python -m locheads.bench entropy --json outputs/bench/entropy.json
	$(BIN)/python -m locheads.bench grounding --json outputs/bench/grounding.json
	$(BIN)/python -m locheads.bench evaluate --json outputs/bench/evaluate.json

format: install  # lets ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  # writes requirements.lock anew, from the newest versions that pyproject.toml admits
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0
	.venv-lock/bin/python -m pip install --quiet --editable '.[dev]' setuptools wheel
	{ sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
		| sed 's/+cpu//'; } > requirements.lock.new && mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:  # removes the environment and caches, keeps outputs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info
