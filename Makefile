# make help lists the targets. VENV=DIR lets several clones share one environment; EXTRAS=wandb,tensorboard adds to it.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
# One stamp a lock and an extra: an environment that has it has that extra, whichever clone made it.
DONE := $(VENV)/.complete-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
comma := ,
TESTED := $(DONE)-wandb $(DONE)-tensorboard
MEMBERS := paper_vgg paper_mobilenet paper_resnet
export NO_ALBUMENTATIONS_UPDATE := 1

.NOTPARALLEL: # two pips in one environment
.PHONY: help setup demo paper test test-slow test-faults check bench bench-data format sheet

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

$(DONE)-%:
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = p["optional-dependencies"]; \
	  "$*" in e or exit("error: EXTRAS=$* is unknown; choose from " + ", ".join(e)); \
	  print(*p["dependencies"], *e["$*"], sep="\n")' > $(VENV)/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -r $(VENV)/requirements.txt
	touch $@

setup: $(addprefix $(DONE)-,dev $(subst $(comma), ,$(EXTRAS))) ## the environment in .venv, from the lock file; EXTRAS=wandb,tensorboard adds these

demo: setup ## three attention CNNs and their ensemble on the embedded phantoms, in 2 to 7 minutes on 2 cores
	$(RUN) train.py -m experiment=demo backbone=resnet10,resnet18,regnet sweep=demo resume=true
	@if test -e runs/demo-ensemble; then cat runs/demo-ensemble/table.md; \
	else $(RUN) ensemble.py method=weighted name=demo-ensemble runs='runs/demo/*'; fi
	@echo "pictures of the members are in runs/demo/*/figures"

paper: setup ## the paper's system on DATA=DIR, the NIH images; ARGS="..." goes to every training
	@test -n "$(DATA)" || { echo "error: DATA is not set; make paper DATA=DIR, the folder with the NIH images"; exit 1; }
	@set -e; set -- $(ARGS); runs=runs; for word; do case $$word in runs_dir=*) runs=$${word#runs_dir=};; \
	  sweep=*|name=*) echo "error: make paper names its runs itself; leave $$word out of ARGS, or pass runs_dir=DIR"; exit 1;; esac; done; \
	members=; for member in $(MEMBERS); do members="$$members,$$runs/paper/$$member"; \
	  $(RUN) train.py experiment=$$member sweep=paper name=$$member resume=auto data.root="$(DATA)" "$$@"; done; \
	if test -e "$$runs/paper-ensemble"; then cat "$$runs/paper-ensemble/table.md"; \
	else $(RUN) ensemble.py method=weighted method.robust=false name=paper-ensemble runs_dir="$$runs" runs="[$${members#,}]"; fi; \
	echo "pictures of the members are in $$runs/paper/*/figures"

test: setup $(TESTED) ## the tests, in about 6 minutes on 2 cores
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: setup $(TESTED) ## the long tests, those of faults left out
	$(RUN) -m pytest -m slow --ignore=tests/faults

test-faults: setup $(TESTED) ## kills, signals and full disks, the long way
	$(RUN) -m pytest -m 'slow or not slow' tests/faults

check: setup ## style, types, known vulnerabilities of the locked packages
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) tests/trust/audit.py

bench: setup ## the benchmarks; a line of JSON a row
	set -e; for each in input_path sources numbers faults; do $(RUN) benchmarks/$$each.py; done

bench-data: setup ## in a minute, what bounds training on DATA=DIR, a folder of images; ARGS="backbone=..." as in training
	@test -n "$(DATA)" || { echo "error: DATA is not set; make bench-data DATA=DIR, a folder of images"; exit 1; }
	@$(RUN) benchmarks/data_rates.py "$(DATA)" $(ARGS)

format: setup ## rewrite to the house style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

sheet: setup ## the phantoms' contact sheet of the docs
	$(RUN) -m cxr.phantom.sheet docs/phantoms.jpg
