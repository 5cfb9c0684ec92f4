#!/usr/bin/env bash
# The zero-shot rows of all tables: base, new and all classes of the eleven data sets, and all
# classes of the four variants of ImageNet. Failed runs are listed at the end.
#   usage:   bash scripts/vpt/zeroshot_all.sh [KEY VALUE ...]
#   example: DATASETS=eurosat bash scripts/vpt/zeroshot_all.sh
# Environment: as zeroshot.sh, and SWEEP, DATASETS (all fifteen)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_table "$@"
