#!/usr/bin/env bash
# Tests CLIP with hand-written prompts, without training.
#   usage:   bash scripts/vpt/zeroshot.sh DATASET [KEY VALUE ...]
#   example: SUBSAMPLE_CLASSES=new bash scripts/vpt/zeroshot.sh caltech101
# Result:  OUTPUT/TRAINER/CFG/DATASET, for base or new classes OUTPUT/TRAINER/CFG/DATASET/{base,new}
# Environment: DATA OUTPUT GPU (see common.sh), TRAINER (ZeroshotCLIP or ZeroshotCLIP2),
#          CFG (a config of CoOp: vit_b16), SUBSAMPLE_CLASSES (all, base or new)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run "$@"
