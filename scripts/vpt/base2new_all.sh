#!/usr/bin/env bash
# The base-to-new table: trains and tests every data set with every seed. Finished runs take no
# time, unfinished ones go on, failed ones are listed at the end.
#   usage:   bash scripts/vpt/base2new_all.sh [KEY VALUE ...]
#   example: DATASETS="eurosat dtd" SEEDS=1 bash scripts/vpt/base2new_all.sh
# Environment: as base2new_train.sh, and SWEEP, DATASETS (all eleven), SEEDS (1 2 3)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_table "$@"
