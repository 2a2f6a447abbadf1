# make run: everything on the embedded default. make test: the tests. Both install what is missing first.
# EXTRAS=demo,families adds optional packages, TORCH=cpu (or cu130) takes torch from PyTorch's own index of that build.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS ?=
ALL_EXTRAS = demo,edit,families,gpu,nouns,sam
TORCH ?=
TORCH_INDEX = $(if $(TORCH),--extra-index-url https://download.pytorch.org/whl/$(TORCH))
COMMA := ,
INSTALLED = $(VENV)/.installed
# Of an extra only what the lock files pin: what is installed already stays as it is.
LOCKED = --constraint requirements.lock --constraint requirements-extras.lock --no-build-isolation --editable

# opencv-python needs the system's libGL; its headless build is the same cv2 without windows.
define CV2_WITHOUT_WINDOWS
$(BIN)/python -c "import cv2" 2>/dev/null || { \
	version=$$(sed -n 's/^opencv-python==//p' requirements.lock); \
	echo "No libGL on this machine: installing opencv-python-headless $$version instead."; \
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless; \
	$(BIN)/python -m pip install --quiet opencv-python-headless==$$version; }
endef

.PHONY: help install run studies test families check check-extras bench format lock clean

help:
	@grep -E '^[a-z]+:.*#' Makefile | sed -E 's/:[^#]*#/:/'

install: $(patsubst %,$(INSTALLED)-%,$(subst $(COMMA), ,$(EXTRAS))) $(INSTALLED)  # the environment in .venv, at the versions of requirements.lock; EXTRAS=demo,edit,families,gpu,nouns,sam

$(INSTALLED): requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 to 3.13: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3
	$(BIN)/python -m pip install --quiet $(TORCH_INDEX) --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(CV2_WITHOUT_WINDOWS)
	@touch $(INSTALLED)

$(INSTALLED)-%: $(INSTALLED) requirements-extras.lock
	@case ",$(ALL_EXTRAS)," in *,$*,*) ;; *) echo "error: there is no extra $*: choose of $(ALL_EXTRAS)."; exit 1;; esac
	$(BIN)/python -m pip install --quiet $(TORCH_INDEX) $(LOCKED) '.[$*]'
	@$(CV2_WITHOUT_WINDOWS)
	@# A torchvision of another build than torch's cannot be imported, and transformers fails with it.
	@$(BIN)/python -c "import importlib.util as u; u.find_spec('torchvision') and __import__('torchvision')" 2>/dev/null || { \
		$(BIN)/python -m pip uninstall --quiet --yes torchvision; \
		echo "error: torchvision is of another build (CPU or CUDA) than torch, and was removed again." \
			"Take both from one index: make clean install EXTRAS=$* TORCH=cpu (or TORCH=cu130)."; exit 1; }
	@touch $@

run: install  # attend -> discover -> ground -> evaluate -> report on the pocket model; ARGS="heads.k=1" changes settings
	$(BIN)/python run.py $(ARGS)

studies: install  # every study of experiments/ at pocket size, with its tables; ARGS="table5_criteria dataset.limit=100"
	$(BIN)/python experiments/pocket_size.py $(ARGS)

test: install  # unit and integration tests, file by file on at most four cores
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

families:  # the families' tests with torchvision and timm, in an environment of its own, from PyTorch's index of CPU builds
	$(MAKE) test VENV=.venv-families EXTRAS=families TORCH=$(or $(TORCH),cpu) \
		ARGS="$(addprefix tests/unit/models/test_,families*.py sharing.py answer.py) $(ARGS)"

check: install  # lint, format, types, and that no import climbs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check-extras: install  # whether every extra can be installed together with the locked versions; needs the package index
	$(BIN)/python -m pip install --quiet --dry-run $(LOCKED) '.[$(ALL_EXTRAS)]'
	@echo "The extras $(ALL_EXTRAS) resolve together with requirements.lock and requirements-extras.lock."

bench: install  # the attention pass beside how it is done today, all around the model, parts of it; about 12 minutes; ARGS="--shape tiny"
	$(BIN)/python -m locheads.bench attention --shape small --json outputs/bench/attention.json $(ARGS)
	$(BIN)/python -m locheads.bench pipeline --shape llava_1_5_7b --only "maps|another|^compact" --json outputs/bench/pipeline.json
	$(BIN)/python -m locheads.bench entropy --json outputs/bench/entropy.json
	$(BIN)/python -m locheads.bench grounding --json outputs/bench/grounding.json
	$(BIN)/python -m locheads.bench evaluate --json outputs/bench/evaluate.json

format: install  # lets ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  # writes requirements.lock and requirements-extras.lock anew, from the newest versions that pyproject.toml admits
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0
	.venv-lock/bin/python -m pip install --quiet --editable '.[dev]' setuptools wheel
	{ sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
		| sed 's/+cpu//'; } > requirements.lock.new && mv requirements.lock.new requirements.lock
	.venv-lock/bin/python -m pip install --quiet --dry-run --no-build-isolation --constraint requirements.lock \
		--report .venv-lock/extras.json --editable '.[$(ALL_EXTRAS)]'
	{ sed -n '/^#/p' requirements-extras.lock; .venv-lock/bin/python -c "import json; print(*sorted( \
		'{name}=={version}'.format(**package['metadata']) for package in json.load(open('.venv-lock/extras.json'))['install'] \
		if package['metadata']['name'] != 'locheads'), sep='\n')"; } > extras.new && mv extras.new requirements-extras.lock
	rm -rf .venv-lock

clean:  # removes the environment and caches, keeps outputs
	rm -rf $(VENV) .venv-families .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info
