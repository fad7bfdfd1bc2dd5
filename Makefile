# Entry points: `make demo`, `make test`, `make bench`; each sets everything up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The pinned versions need Python 3.11; `make test CONSTRAINTS=` takes what suits an older one.
CONSTRAINTS ?= --constraint constraints.txt
PIP    := $(BIN)/python -m pip install --quiet $(CONSTRAINTS)

.PHONY: setup demo test test-portable test-all bench lint docs screenshots notebooks audit clean

setup: $(VENV)/.installed

# What users get: the package without extras. The demo needs no more.
$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

$(VENV)/.installed: $(VENV)/.base
	$(PIP) --editable '.[dev]'
	touch $@

demo: $(VENV)/.base
	$(BIN)/trlm demo

# eval/, index_data/ and pipelines/ are installed inside the package; types and imports are checked
# where they will stand.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/lint/trlm_retrieval && mkdir -p build/lint/trlm_retrieval
	ln -s $(addprefix $(CURDIR)/,$(wildcard trlm_retrieval/*) eval index_data pipelines) build/lint/trlm_retrieval
	cd build/lint && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml
	cd build/lint && $(CURDIR)/$(BIN)/lint-imports $(CURDIR)/pyproject.toml

test: setup lint
	$(BIN)/pytest

# The tests as older processors run them; CONTRIBUTING.md says when, and what each variable does.
test-portable: setup
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
		OMP_NUM_THREADS=1 $(BIN)/pytest
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		OMP_NUM_THREADS=2 $(BIN)/pytest

test-all: setup lint
	$(PIP) --editable \
		'.[dev,stores,langchain,llamaindex,pyterrier,rerankers]'
	$(PYTHON) -m venv .venv-langchain
	.venv-langchain/bin/python -m pip install --quiet --requirement tests/serving/langchain.txt
	$(BIN)/trlm models pull smollm2-135m minilm bge-small ms-marco-minilm-l12
	$(BIN)/pytest -m ''

docs: $(VENV)/.base
	$(PIP) --editable '.[docs]'
	$(BIN)/mkdocs build --strict --config-file .mkdocs.yml

# The pictures of the pages in docs/images; needs Chromium.
screenshots: setup
	$(BIN)/trlm models pull smollm2-135m minilm
	$(BIN)/python docs/screenshots.py

# Runs docs/notebooks and writes what they print into them.
notebooks: setup
	$(BIN)/trlm models pull smollm2-135m minilm
	$(BIN)/python tests/notebooks/execute.py docs/notebooks/*.ipynb

bench: setup
	$(PIP) --editable '.[dev,bench]'
	$(BIN)/trlm models pull smollm2-135m minilm
	$(BIN)/trlm bench --json bench.json

# Asks PyPI about each pinned package; --strict fails where it gives no answer.
audit: setup
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit==2.10.1
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean:
	rm -rf $(VENV) .venv-langchain .venv-audit .pgvector build dist *.egg-info trlm-index
