# What needs the environment builds it first. PYTHON is Python 3.11, 3.12, 3.13 or 3.14.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
INDEX ?=
SEED ?= 0
SHARDS ?=
TASKS ?=
# CONSTRAINTS= installs the newest versions instead of the pinned ones.
CONSTRAINTS ?= constraints.txt
PINNED := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
EXTRAS := browser,demo,maeb,notebook,onnx,peft,st,tf,xares
QUICKSTART_FLAGS := $(if $(DATA),--data "$(DATA)") --seed $(SEED)

.PHONY: help install quickstart pretrain-synthetic-first pretrain-synthetic pretrain-base-first \
	pretrain-base-second pretrain-base-third pretrain-base \
	pretrain-best pretrain-paper pretrain-recordings pretrain-b0-first pretrain-b0-second pretrain-b0-third pretrain-b0 checkpoints demo \
	benchmark benchmark-speed gpu-check test test-slow test-extras style quality precommit release-check \
	publish-checkpoint publish-space publish-package clean

help:
	@echo "make quickstart                 pre-train on synthetic audio in a few minutes and show what was learnt"
	@echo "make quickstart DATA=folder     the same on your own audio"
	@echo "make pretrain-synthetic         pre-train cola-compact, without any data, on synthetic sounds"
	@echo "make pretrain-best DATA=audio   pre-train a small encoder on recordings, in minutes"
	@echo "make pretrain-paper DATA=audio  pre-train the paper's encoder, EfficientNet-B0"
	@echo "make pretrain-base              pre-train cola-base in the same way"
	@echo "make pretrain-recordings SHARDS=audio   pre-train a base encoder on the shards of docs/training_data.md"
	@echo "make pretrain-b0 SHARDS=audio   pre-train cola-efficientnet-b0 by distillation from that, and by itself"
	@echo "    ... TASKS=folder SEED=1     then evaluate it on labelled clips; another seed"
	@echo "make benchmark TASKS=folder     evaluate the checkpoints on labelled clips, and write the tables of the cards"
	@echo "make demo INDEX=folder          open a page that searches a folder of embedded clips"
	@echo "make benchmark-speed            compare the speed with that of other libraries, in outputs/speed"
	@echo "make gpu-check                  check this project on a GPU in ten minutes, in outputs/gpu-check"
	@echo "make test                       run the tests (test-slow: the long ones too)"
	@echo "make test-extras                install the optional dependencies and test what needs them"
	@echo "make style | quality            format | check lint and format"
	@echo "make release-check              build the package and test it in a clean environment; see docs/releasing.md"

install: $(VENV)/.installed

# Debian's python3 may come without `venv`'s pip: then virtualenv, fetched by pip, makes the environment.
$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	test -x $(BIN)/python && $(BIN)/python -m pip --version > /dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(VENV) \
		|| { rm -rf $(VENV) && $(PYTHON) -m pip install --quiet --target $(VENV)-bootstrap virtualenv \
			&& PYTHONPATH=$(VENV)-bootstrap $(PYTHON) -m virtualenv --quiet $(VENV) && rm -rf $(VENV)-bootstrap; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINNED) --editable ".[dev]"
	touch $@

quickstart: install
	$(BIN)/python -m run_scripts.quickstart $(QUICKSTART_FLAGS)

# Pre-train for a target below, and measure the result if there are labelled clips. A run that was stopped
# continues when the target is made again.
PRETRAIN = $(BIN)/python run_scripts/run_pretraining.py --recipe best --output_dir outputs/$@-seed$(SEED) --seed $(SEED) \
	--resume_from_checkpoint $(FLAGS)
MEASURE = $(if $(TASKS),$(BIN)/python run_scripts/run_benchmark.py --tasks_dir "$(TASKS)" \
	--checkpoints outputs/$@-seed$(SEED) --output_dir outputs/$@-seed$(SEED)-tasks)

# The runs of modeling_cola/cola-compact and of modeling_cola/cola-base: without any data, on pairs of synthetic sounds.
# Each run goes on from the weights of the one before, with other sounds and a schedule of its own. cola-base is trained
# on two stages of its network, and read from the last one alone.
BASE := --compact_channels 64 128 128 --compact_depth 2 --pooling_stages 2 --bf16
NEXT_SEED = $(shell expr $(SEED) + 1)
AFTER = --model_name_or_path outputs/$(1)-seed$(SEED)
pretrain-synthetic-first: FLAGS := --bf16 --max_steps 3000
pretrain-synthetic: FLAGS = $(call AFTER,pretrain-synthetic-first) --bf16 --max_steps 1500 --seed $(NEXT_SEED)
pretrain-base-first: FLAGS := $(BASE) --max_steps 2000
pretrain-base-second: FLAGS = $(call AFTER,pretrain-base-first) --bf16 --max_steps 2000 --seed $(NEXT_SEED)
pretrain-base-third: FLAGS = $(call AFTER,pretrain-base-second) --bf16 --max_steps 2200 --seed $(shell expr $(SEED) + 2)
pretrain-synthetic-first pretrain-base-first pretrain-base-second pretrain-base-third: MEASURE :=
pretrain-synthetic: pretrain-synthetic-first
pretrain-base-second: pretrain-base-first
pretrain-base-third: pretrain-base-second
pretrain-synthetic-first pretrain-base-first: install
pretrain-synthetic-first pretrain-synthetic pretrain-base-first pretrain-base-second pretrain-base-third:
	$(PRETRAIN)
	$(MEASURE)
pretrain-base: pretrain-base-third
	$(BIN)/python -c "from modeling_cola import COLAModel; from feature_extraction import COLAFeatureExtractor; \
		run, out = (f'outputs/{name}-seed$(SEED)' for name in ('$<', '$@')); \
		COLAModel.from_pretrained(run, pooling_stages=1).save_pretrained(out); \
		COLAFeatureExtractor.from_pretrained(run).save_pretrained(out)"
	$(MEASURE)

# The two recipes of docs/runs.md for recordings.
pretrain-best: FLAGS := --max_steps 600
pretrain-paper: FLAGS := --encoder efficientnet_b0 --pooling max --learning_rate 4e-3 --decorrelation_weight 0.02 \
	--max_steps 3000
pretrain-best pretrain-paper: install
	@test -n "$(DATA)" || { echo "Name the audio: make $@ DATA=path/to/audio" >&2; exit 2; }
	$(PRETRAIN) --dataset_name "$(DATA)"
	$(MEASURE)

# A base encoder on recordings, on the shards that docs/training_data.md tells how to make, and
# modeling_cola/cola-efficientnet-b0: it learns from that encoder in two runs, the second with the clips in another
# order, from cola-compact in a third, on synthetic sounds, and then by itself, from pairs of such sounds.
pretrain-recordings: FLAGS := $(BASE) --max_steps 3000
DISTILL := --objective distillation --per_device_train_batch_size 16
RECORDED = $(DISTILL) --teacher_name_or_path outputs/pretrain-recordings-seed$(SEED) --max_distance inf --max_steps 8000
pretrain-b0-first: FLAGS = $(RECORDED) --encoder efficientnet_b0 --pooling max --learning_rate 3e-3
pretrain-b0-second: FLAGS = $(RECORDED) $(call AFTER,pretrain-b0-first) \
	--learning_rate 2e-3 --seed $(NEXT_SEED)
pretrain-b0-third: FLAGS = $(DISTILL) --teacher_name_or_path modeling_cola/cola-compact --max_steps 13600 \
	$(call AFTER,pretrain-b0-second) --learning_rate 2e-3
pretrain-b0: FLAGS = $(call AFTER,pretrain-b0-third) --decorrelation_weight 0.02 --learning_rate 1e-3 \
	--max_steps 400 --seed $(NEXT_SEED)
pretrain-b0-first pretrain-b0-second pretrain-b0-third: MEASURE :=
pretrain-b0-first: pretrain-recordings
pretrain-b0-second: pretrain-b0-first
pretrain-b0-third: pretrain-b0-second
pretrain-b0: pretrain-b0-third
pretrain-b0-third pretrain-b0:
	$(PRETRAIN)
	$(MEASURE)
pretrain-recordings pretrain-b0-first pretrain-b0-second: install
	@test -n "$(SHARDS)" || { echo "Name the shards: make $@ SHARDS=path/to/shards" >&2; exit 2; }
	$(PRETRAIN) --streaming --mixing_weights 6 2 5 7 --dataset_name "$(SHARDS)/environment" "$(SHARDS)/effects" \
		"$(SHARDS)/music" "$(SHARDS)/speech"
	$(MEASURE)

# The tables of model_card.md and of the checkpoints' cards, in hours. BatchNorm's statistics are frozen where
# EfficientNet-B0 is fine-tuned, which is computed in float32: bfloat16 makes its depthwise convolutions slower.
BENCHMARK = run_scripts/run_benchmark.py --tasks_dir "$(TASKS)" --seeds 3 --output_dir outputs/$@
TRAINED := --modes supervised fine-tuned --batch_size 16 --lr_scheduler_type linear
benchmark: install
	@test -n "$(TASKS)" || { echo "Name the labelled clips: make $@ TASKS=path/to/tasks" >&2; exit 2; }
	$(BIN)/python $(BENCHMARK)-frozen --modes log-mel random frozen \
		--checkpoints modeling_cola/cola-compact modeling_cola/cola-base modeling_cola/cola-efficientnet-b0
	$(BIN)/accelerate launch --mixed_precision bf16 --num_processes 1 --num_machines 1 --dynamo_backend no \
		$(BENCHMARK)-trained $(TRAINED) --checkpoints modeling_cola/cola-compact modeling_cola/cola-base
	$(BIN)/python $(BENCHMARK)-trained-efficientnet $(TRAINED) --freeze_batch_norm \
		--checkpoints modeling_cola/cola-efficientnet-b0
	$(BIN)/python -m tools.write_tables outputs/$@-frozen outputs/$@-trained outputs/$@-trained-efficientnet
	cp outputs/$@-frozen/learning_curves.png docs

benchmark-speed: install
	$(BIN)/python -m tools.measure_speed --output_dir outputs/speed

# Fails if a result on the GPU is not that of the CPU: docs/scaling.md.
gpu-check: install
	$(BIN)/python -m tools.gpu_check --output_dir outputs/gpu-check

# One process of the tests for each core, each with a single thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

demo: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINNED) --editable ".[demo]"
	$(BIN)/python run_scripts/run_demo.py $(if $(INDEX),--index_dir "$(INDEX)")

test: install
	$(PYTEST)

test-slow: install
	$(PYTEST) -m "not gpu and not network"

# hearvalidator names Python 3.8 as the newest that it runs on, but runs on all that this project does.
test-extras: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINNED) --editable ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python hearvalidator==2021.0.6
	$(BIN)/python -m pytest -m extra -rs

# The code beside the weights, from which they load where this project is not installed.
checkpoints:
	for folder in modeling_cola/cola-*/; do cp modeling_cola/configuration_cola.py modeling_cola/modeling_cola.py \
		feature_extraction/feature_extraction_cola.py $$folder; done

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

precommit: install
	$(BIN)/pre-commit run --all-files

# The wheel is built from the source distribution. Both are installed beside the libraries of the environment.
release-check: install
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	DISTRIBUTIONS=dist $(BIN)/python -m pytest tests/test_package.py -m "slow or not slow"

# What is on the Hub or in the package index cannot be taken back: docs/releasing.md.
REPO ?=
CHECKPOINT ?=
SPACE ?= outputs/space
SPACE_FLAGS ?= $(if $(INDEX),--index_dir "$(INDEX)") $(if $(CHECKPOINT),--model_name_or_path "$(CHECKPOINT)")
publish-checkpoint: install
	@test -n "$(REPO)" -a -f "$(CHECKPOINT)/config.json" \
		|| { echo "Name the checkpoint and the repository: make $@ CHECKPOINT=modeling_cola/cola-compact REPO=owner/name" >&2; exit 2; }
	$(BIN)/hf upload "$(REPO)" "$(CHECKPOINT)"

publish-space: install
	@test -n "$(REPO)" || { echo "Name the repository: make $@ REPO=owner/name" >&2; exit 2; }
	rm -rf "$(SPACE)"
	$(BIN)/python run_scripts/run_demo.py --space "$(SPACE)" $(SPACE_FLAGS)
	$(BIN)/hf upload "$(REPO)" "$(SPACE)" --repo-type space

publish-package: release-check
	$(BIN)/python -m pip install --quiet --disable-pip-version-check twine
	$(BIN)/python -m twine upload --disable-progress-bar dist/*

clean:
	rm -rf $(VENV) outputs build dist *.egg-info
