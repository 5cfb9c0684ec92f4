#!/usr/bin/env bash
# Cross-dataset transfer and domain generalisation: trains on ImageNet with every seed and tests on
# the ten other data sets and the four variants of ImageNet. Failed runs are listed at the end.
#   usage:   bash scripts/vpt/xd_all.sh [KEY VALUE ...]
#   example: DATASETS="caltech101 imagenet_r" SEEDS="1 2" bash scripts/vpt/xd_all.sh
# Environment: as xd_train.sh, and SWEEP, DATASETS (all fourteen targets), SEEDS (1 2 3)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_table "$@"
