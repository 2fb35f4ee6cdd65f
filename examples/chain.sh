#!/bin/bash
# Submits three jobs, each after the one before: a training per seed, their ensemble, and its evaluation.
#   examples/chain.sh first data=nih data.root=DIR      # runs/first/seed-<n>, runs/first-ensemble
small="--job-name=cxr --cpus-per-task=4 --mem=16G --time=01:00:00"
set -eu

sweep=$1
shift
trained=$(sbatch --parsable examples/array.sbatch sweep="$sweep" "$@")
combined=$(sbatch --parsable $small --dependency="afterok:$trained" --kill-on-invalid-dep=yes \
  --wrap "python ensemble.py method=average runs='runs/$sweep/*' name=$sweep-ensemble")
sbatch $small --dependency="afterok:$combined" --kill-on-invalid-dep=yes \
  --wrap "python -m cxr evaluate run=runs/$sweep-ensemble"
