# make lab         JupyterLab on your own copy of the notebooks        make serve      the server, on port 8000
# make test        every kind of test, once or twice                    make prove      every promise, in full, as a table
# make test-quick  without the slow ones, two to three minutes         make notebooks  run all notebooks again
# make check       look and types of all code, in seconds               make coverage   the tests again, and which lines ran
# make test-python PYTHON=python3.13   the tests that need no PyTorch, under another Python
#
# Each does its own set-up in .venv first, and again only when the requirements have changed. Without a GPU, add
# TORCH=cpu: the CPU build of PyTorch, 200 MB instead of several GB. WORKSPACE=FOLDER keeps your notebooks elsewhere.
# ARGS="tests/frontend -x" go to pytest: make test ARGS=tests/server/test_accept.py runs one file. Those of `make prove`
# choose: make prove ARGS="notebook 01" does all proofs of one notebook, and goes on where it was stopped.

# Without bytecode every process of a server, a cell or a test would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
TORCH ?=
WORKSPACE ?=
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.test-ready
OTHER := .venv-$(notdir $(PYTHON))
TORCH_READY := $(if $(TORCH),$(VENV)/.torch-$(TORCH))
ifneq ($(filter-out cpu cu% rocm% xpu,$(TORCH))$(word 2,$(TORCH)),)
$(error TORCH: got $(TORCH), expected cpu, or the name of another build of PyTorch's, such as cu130)
endif
# Tests wait for processes nearly half of the time: three at once keep two cores busy.
AT_ONCE := -n 3 --dist loadscope

.PHONY: lab serve check test test-quick test-python coverage prove notebooks clean

lab: $(READY)
	$(RUN) -m lab_support open $(if $(WORKSPACE),--workspace "$(WORKSPACE)")

serve: $(READY)
	$(RUN) -m lab_support serve $(FLAGS)

check: $(TEST_READY)
	$(RUN) -m tests.checks

test: $(TEST_READY)
	$(RUN) -m pytest $(AT_ONCE) $(ARGS)

test-quick: $(TEST_READY)
	$(RUN) -m pytest $(AT_ONCE) -m "not slow" $(ARGS)

test-python: $(OTHER)/.ready
	$(OTHER)/bin/python -m pytest $(AT_ONCE) -p tests.without_torch $(ARGS)

coverage: $(TEST_READY)
	$(RUN) -m coverage erase
	-$(RUN) -m coverage run -m pytest $(AT_ONCE) $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

prove: $(TEST_READY)
	$(RUN) -m tests.prove $(ARGS)

notebooks: $(READY)
	$(RUN) -m lab_support.notebook.publishing.build

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "This needs Python 3.11 or newer as '$(PYTHON)'; got: $$($(PYTHON) --version 2>&1)."; \
	  echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "This needs Python's venv module. Install it (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# PyTorch's own index has each build in a folder of its own. The name of the build is part of the version, so that pip
# installs it even if another build is installed.
$(VENV)/.torch-%: requirements.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet "$$(grep '^torch==' requirements.txt)+$*" --index-url https://download.pytorch.org/whl/$*
	@rm -f $(VENV)/.torch-*
	@touch $@

# A torch that is already in .venv is kept. Our own package is installed as `.`, the folder where make runs, because a
# requirements file would split a path that contains a space or a special character.
$(READY): requirements.txt pyproject.toml | $(VENV)/bin/python $(TORCH_READY)
	$(RUN) -m pip install --quiet --upgrade pip
	@if $(RUN) -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; \
	then grep -v -e '^torch==' -e '^-e ' requirements.txt > $(VENV)/requirements.txt; \
	else grep -v '^-e ' requirements.txt > $(VENV)/requirements.txt; fi
	$(RUN) -m pip install --quiet --requirement $(VENV)/requirements.txt --editable .
	@touch $@

$(TEST_READY): $(READY) tests/requirements.txt
	$(RUN) -m pip install --quiet --requirement tests/requirements.txt
	@touch $@

# Without PyTorch, and so without what packages ask for by themselves: the files name all that is needed.
$(OTHER)/.ready: requirements.txt tests/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(OTHER)
	grep -hv -e '^torch==' -e '^-e ' requirements.txt tests/requirements.txt > $(OTHER)/requirements.txt
	$(OTHER)/bin/python -m pip install --quiet --no-deps --requirement $(OTHER)/requirements.txt
	$(OTHER)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@
