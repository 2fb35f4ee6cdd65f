# make help lists the targets. VENV=DIR lets several clones share an environment; EXTRAS=wandb,tensorboard adds packages.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
# One stamp file per lock file and extra marks what an environment contains, also for other clones that share it.
DONE := $(VENV)/.complete-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
comma := ,
TESTED := $(addprefix $(DONE)-,wandb tensorboard joblib slurm tune)
MEMBERS := paper_vgg paper_mobilenet paper_resnet
RUNS := runs
PHANTOMS := data
DIST := dist
LONG_TAIL := softmax,cb,rw,focal,cb_focal,rw_focal,ldam,cb_ldam,cb_ldam_drw,rw_ldam,rw_ldam_drw,mixup,balanced_mixup
DECOUPLED := crt,tau_norm
SMALL := backbone=timm backbone.name=test_resnet backbone.pretrained=false attention=none image_size=32 batch_size=32
export NO_ALBUMENTATIONS_UPDATE := 1

.NOTPARALLEL: # pip must not run twice in one environment
.PHONY: help setup demo paper long-tail test test-slow test-faults check check-gpu check-cluster test-cluster bench bench-data format sheet use-wheel page-assets test-page

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

$(DONE)-%:
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = p["optional-dependencies"]; \
	  "$*" in e or exit("error: EXTRAS=$* is unknown; choose from " + ", ".join(e)); \
	  print(*p["dependencies"], *e["$*"], sep="\n")' > $(VENV)/requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -r $(VENV)/requirements.txt
	touch $@

setup: $(addprefix $(DONE)-,dev $(subst $(comma), ,$(EXTRAS))) ## create the environment .venv from the lock file; EXTRAS=wandb,tensorboard adds loggers

demo: setup ## three CNNs and their ensemble on drawn phantoms; 2 to 7 minutes on 2 cores
	$(RUN) train.py -m experiment=demo backbone=resnet10,resnet18,regnet sweep=demo resume=true
	@if test -e runs/demo-ensemble; then cat runs/demo-ensemble/table.md; \
	else $(RUN) ensemble.py method=weighted name=demo-ensemble runs='runs/demo/*'; fi
	@page=false; if $(RUN) -m cxr.use.page.runtime; then page=true; fi; test -e runs/demo-ensemble/bundle || \
	$(RUN) -m cxr export run=runs/demo-ensemble page=$$page || echo 'No bundle and no page were written; the line above gives the reason.'
	@if test -e runs/demo-ensemble/bundle/page.html; then \
	echo 'To score an image in a browser, open runs/demo-ensemble/bundle/page.html'; fi
	@printf '%s\n' '' 'Done. The figures are in runs/demo/*/figures and runs/demo-ensemble/figures. To try next:' \
	  '  source $(VENV)/bin/activate' \
	  '  python -m cxr evaluate run=runs/demo-ensemble          confidence intervals, subgroups, operating points' \
	  "  python -m cxr compare runs='runs/demo/*'               which of the three networks differ by more than noise" \
	  '  python train.py experiment=demo loss=focal name=focal  the same recipe with a choice of your own' \
	  '  python train.py --help                                 all choices' \
	  'docs/getting-started.md continues from here; docs/data.md explains how to use your own images.'

paper: setup ## train the paper's members and ensemble on DATA=DIR, the NIH images; ARGS="..." is passed to each training
	@test -n "$(DATA)" || { echo "error: DATA is not set; make paper DATA=DIR, the folder with the NIH images"; exit 1; }
	@set -e; set -- $(ARGS); runs=runs; for word; do case $$word in runs_dir=*) runs=$${word#runs_dir=};; \
	  sweep=*|name=*) echo "error: make paper sets the names of its runs; leave $$word out of ARGS, or pass runs_dir=DIR"; exit 1;; esac; done; \
	members=; for member in $(MEMBERS); do members="$$members,$$runs/paper/$$member"; \
	  $(RUN) train.py experiment=$$member sweep=paper name=$$member resume=auto data.root="$(DATA)" "$$@"; done; \
	if test -e "$$runs/paper-ensemble"; then cat "$$runs/paper-ensemble/table.md"; \
	else $(RUN) ensemble.py method=weighted method.robust=false name=paper-ensemble runs_dir="$$runs" runs="[$${members#,}]"; fi; \
	echo "figures of the members are in $$runs/paper/*/figures"

long-tail: setup ## the fifteen methods of Holste et al. on long-tailed phantoms, three seeds each, and a table; resumes where it stopped
	$(RUN) train.py name=long-tail-start resume=auto $(SMALL) optimizer.lr=2e-3 trainer.max_epochs=12 score_test=false \
	  data.root="$(PHANTOMS)/phantom-start" data.images=2000 data.phantom_size=96 runs_dir="$(RUNS)"
	$(RUN) train.py -m experiment=holste_$(subst $(comma),$(comma)holste_,$(LONG_TAIL)) seed=0,1,2 $(SMALL) \
	  data=phantom_lt data.root="$(PHANTOMS)/phantom-lt" init="$(RUNS)/long-tail-start" synthetic_batch_size=null \
	  optimizer.lr=5e-4 trainer.max_epochs=14 sweep=long-tail resume=true runs_dir="$(RUNS)"
	$(RUN) train.py -m experiment=holste_$(subst $(comma),$(comma)holste_,$(DECOUPLED)) seed=0,1,2 $(SMALL) \
	  data=phantom_lt data.root="$(PHANTOMS)/phantom-lt" init='$(RUNS)/long-tail/holste_softmax-seed-$${seed}' \
	  sweep=long-tail resume=true runs_dir="$(RUNS)"
	$(RUN) -m cxr compare runs='$(RUNS)/long-tail/*' split=balanced_test metric=balanced_accuracy

test: setup $(TESTED) ## run the tests; about 6 minutes on 2 cores
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: setup $(TESTED) ## run the slow tests except those of faults
	$(RUN) -m pytest -m slow --ignore=tests/faults

test-faults: setup $(TESTED) ## run all tests of kills, signals and full disks
	$(RUN) -m pytest -m 'not gpu' tests/faults

test-page: $(DONE)-browser page-assets ## run the tests of the page in Chromium and Firefox, which the system provides
	$(RUN) -m pytest -m browser tests/use

test-cluster: setup $(TESTED) $(DONE)-postgres ## run the tests of SLURM, two hosts, sweeps and PostgreSQL; says which Debian packages are missing
	$(RUN) -m pytest -m cluster -rs tests/cluster

check-cluster: setup ## run the tests of SLURM as jobs of your own cluster, on two nodes, from a clone that all nodes share
	CXR_CLUSTER=1 $(RUN) -m pytest -m cluster -rs --basetemp=runs/.check-cluster tests/cluster/test_slurm.py

check: setup ## check style, types, known vulnerabilities of the locked packages, and that all extras resolve beside them
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) tests/trust/audit.py
	$(RUN) tests/trust/resolve.py

check-gpu: setup ## run the tests that need a GPU: float32 against the CPU, mixed precision, resuming, all devices
	$(RUN) -m pytest -m gpu tests/end_to_end

bench: setup ## run the benchmarks; one line of JSON per row
	set -e; for each in input_path sources numbers use faults systems; do $(RUN) benchmarks/$$each.py; done

bench-data: setup ## measure what limits training on DATA=DIR, a folder of images; one minute; ARGS="backbone=..." as for training
	@test -n "$(DATA)" || { echo "error: DATA is not set; make bench-data DATA=DIR, a folder of images"; exit 1; }
	@$(RUN) benchmarks/data_rates.py "$(DATA)" $(ARGS)

format: setup ## format the code
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

use-wheel: setup ## build dist/cxr_use-*.whl, which uses exported bundles without PyTorch
	folder=$$(mktemp -d) && cp -r cxr conf LICENSE $$folder && cp packaging/cxr-use.toml $$folder/pyproject.toml && \
	$(RUN) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(DIST) $$folder && rm -r $$folder

page-assets: setup ## download ONNX Runtime Web with npm into the user's cache folder, for export page=true
	$(RUN) -m cxr.use.page.runtime

sheet: setup ## draw docs/phantoms.jpg
	$(RUN) docs/phantoms.py docs/phantoms.jpg
