#!/usr/bin/env bash
# Trains on all classes of ImageNet, for cross-dataset transfer and domain generalisation.
#   usage:   bash scripts/vpt/xd_train.sh SEED [KEY VALUE ...]
#   example: bash scripts/vpt/xd_train.sh 1
# Result:  OUTPUT/imagenet/TRAINER/CFG_16shots/seedSEED
# Environment: DATA OUTPUT TRAINER CFG SHOTS L EPOCHS GPU (see common.sh)

# shellcheck source=scripts/vpt/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run "$@"
