# Sourced by the scripts of this folder: where things lie, what the defaults are, how a run starts.
# shellcheck shell=bash
#
# Environment (all optional)
#   DATA     folder of the data sets             data
#   OUTPUT   folder of the results               output
#            (both defaults lie in this repository; a relative path starts where you are)
#   TRAINER  VPT, VPT_CoCoOp, CoOp or CoCoOp     VPT
#   CFG      configs/trainers/TRAINER/CFG.yaml   vit_b16_c4_ep10_batch1_ctxv1; for CoOp see coop_cfg
#   SHOTS    images per class                    16
#   L        Monte Carlo samples                 VPT with an official config: the authors' number
#   EPOCHS   length of training                  for the data set; otherwise what CFG says
#   GPU      CUDA_VISIBLE_DEVICES                all that there are
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SHOTS=${SHOTS:-16}
# shellcheck disable=SC2034  # for the scripts of whole tables
BASE2NEW="caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat
    ucf101 imagenet"
# shellcheck disable=SC2034
TRANSFER="caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat
    ucf101 imagenetv2 imagenet_sketch imagenet_a imagenet_r"

# Prints the comment at the top of the calling script.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# arguments COUNT "$@": stops with the usage when fewer than COUNT are given, or when asked for it.
arguments() {
    local count=$1
    shift
    case ${1:-} in -h | --help)
        usage
        exit 0
        ;;
    esac
    if (($# < count)); then
        usage >&2
        exit 2
    fi
}

absolute() { case $1 in /* | "~"*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

# CoOp's config when none is named: trained for 200 epochs, ImageNet and few shots for less.
coop_cfg() { # DATASET PROTOCOL
    case $2 in
        fewshot)
            case $1:$SHOTS in
                imagenet:* | *:1) echo vit_b16_ep50 ;;
                *:2 | *:4) echo vit_b16_ep100 ;;
                *) echo vit_b16 ;;
            esac
            ;;
        *) if [[ $1 == imagenet ]]; then echo vit_b16_ep50_ctxv1; else echo vit_b16_ctxv1; fi ;;
    esac
}

# The authors' L and epochs, measured for VPT with ViT-B/16, 16 shots, batch 1.
official_recipe() { # DATASET
    case $1 in
        caltech101 | food101) echo 20 20 ;;
        oxford_pets) echo 40 20 ;;
        stanford_cars) echo 20 40 ;;
        oxford_flowers) echo 10 40 ;;
        sun397) echo 20 10 ;;
        dtd) echo 40 10 ;;
        eurosat) echo 20 60 ;;
        ucf101) echo 5 20 ;;
        fgvc_aircraft | imagenet) echo 10 10 ;;
    esac
}

# settings DATASET [PROTOCOL]: TRAINER and CFG for a model that is trained on DATASET, and the
# KEY VALUE pairs that L and EPOCHS stand for: arrays samples and length.
# shellcheck disable=SC2034
settings() {
    local recipe=()
    TRAINER=${TRAINER:-VPT}
    case $TRAINER in
        CoOp) CFG=${CFG:-$(coop_cfg "$1" "${2:-}")} ;;
        ZeroshotCLIP*)
            echo "$(basename "$0"): $TRAINER is not trained; use scripts/vpt/zeroshot.sh" >&2
            exit 2
            ;;
        *) CFG=${CFG:-vit_b16_c4_ep10_batch1_ctxv1} ;;
    esac
    if [[ $TRAINER == VPT && $CFG == *_ep10_batch1* ]]; then
        read -r -a recipe <<<"$(official_recipe "$1")"
    fi
    L=${L:-${recipe[0]:-}} EPOCHS=${EPOCHS:-${recipe[1]:-}}
    samples=() length=()
    if [[ -n $L && $TRAINER == VPT* ]]; then samples=(TRAINER.VPT.L "$L"); fi
    if [[ -n $EPOCHS ]]; then length=(OPTIM.MAX_EPOCH "$EPOCHS"); fi
}

need_python() {
    PYTHON_BIN=$(bash "$root/scripts/setup.sh") || exit 1
    export PYTHON_BIN
}

# train_py DATASET CONFIG_FOLDER ARGUMENTS...: train.py with the arguments that all runs share.
train_py() {
    local dataset=$1 folder=$2 data=data
    shift 2
    if [[ -n ${DATA:-} ]]; then
        data=$(absolute "$DATA")
    fi
    if [[ -n ${GPU:-} ]]; then
        export CUDA_VISIBLE_DEVICES=$GPU
    fi
    need_python
    cd "$root"
    if [[ -z ${DATA:-} ]]; then
        mkdir -p data # the embedded data sets are made in it
    fi
    "$PYTHON_BIN" train.py --root "$data" --trainer "$TRAINER" \
        --dataset-config-file "configs/datasets/$dataset.yaml" \
        --config-file "configs/trainers/$folder/$CFG.yaml" "$@"
}

output() { if [[ -n ${OUTPUT:-} ]]; then absolute "$OUTPUT"; else echo output; fi; }

# For the scripts that run a whole table: a failed run does not stop the others.
failures=()
attempt() { # SCRIPT ARGUMENTS...
    local status=0
    need_python
    echo "== $*" >&2
    bash "$root/scripts/vpt/$1" "${@:2}" || status=$?
    case $status in
        0) ;;
        75 | 130 | 143) exit "$status" ;; # interrupted; the same command goes on from there
        *) failures+=("$*") ;;
    esac
    return "$status"
}
finish() {
    if ((${#failures[@]})); then
        printf '%s\n' "Failed or not run (${#failures[@]}):" "${failures[@]/#/    }" >&2
        exit 1
    fi
}
