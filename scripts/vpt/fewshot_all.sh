#!/usr/bin/env bash
# The few-shot curves: every data set with 1, 2, 4, 8 and 16 shots and every seed. Finished runs
# take no time, unfinished ones go on, failed ones are listed at the end.
#   usage:   bash scripts/vpt/fewshot_all.sh [KEY VALUE ...]
#   example: DATASETS=eurosat SHOT_LIST="1 16" SEEDS=1 bash scripts/vpt/fewshot_all.sh
# Environment: as fewshot.sh, and SWEEP, DATASETS (all eleven), SHOT_LIST (1 2 4 8 16), SEEDS (1 2 3)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_table "$@"
