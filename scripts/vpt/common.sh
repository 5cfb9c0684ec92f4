# Sourced by the scripts of this folder; what they run is decided in varprompt/settings/scripts.py.
# shellcheck shell=bash
#
# Environment (all optional)
#   DATA     folder of the data sets             data
#   OUTPUT   folder of the results               output
#            (both defaults lie in this repository; a relative path starts where you are)
#   TRAINER  a folder of configs/trainers        VPT
#   CFG      a name in configs/trainers/TRAINER, or the path of a YAML file (the folder of the
#            results is called like the file)    the authors' for ViT-B/16, see configs/recipes.yaml
#   SHOTS    images per class, "all" for all     16
#   L        Monte Carlo samples                 VPT with an official config: the authors' number
#   EPOCHS   length of training                  for the data set; otherwise what CFG says
#   GPU      CUDA_VISIBLE_DEVICES                all that there are
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
find_python() { PYTHON_BIN=$(bash "$root/scripts/setup.sh") && export PYTHON_BIN; }
checker=${PYTHON:-python3} # checks the call before anything is installed; needs Python 3.9
if ! "$checker" -c "import functools; functools.cache" 2>/dev/null; then
    find_python
    checker=$PYTHON_BIN
fi
plan() { "$checker" "$root/scripts/vpt/plan.py" "$(basename "$0" .sh)" "$@"; }
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    plan --help
    exit
fi

# One run: replaces this process by train.py.
run() {
    local words
    words=$(plan "$@")
    find_python
    cd "$root"
    # the embedded data sets are made in it
    if [[ -z ${DATA:-} ]] && ! mkdir -p data 2>/dev/null; then
        echo "error: cannot make $root/data: set DATA and OUTPUT to folders of yours" >&2
        exit 2
    fi
    [[ -z ${GPU:-} ]] || export CUDA_VISIBLE_DEVICES=$GPU
    eval "exec \"\$PYTHON_BIN\" train.py $words"
}

# A whole table: a failed run does not stop the others, an interrupted one does.
run_table() {
    local plan run needs setting status failures=""
    plan=$(plan "$@")
    find_python
    while IFS="|" read -r run needs setting <&3; do
        if [[ -n $needs && $failures == *"    $needs"$'\n'* ]]; then
            failures+="    $run (not run: training failed)"$'\n'
            continue
        fi
        echo "== $setting${setting:+ }$run${*:+ $*}" >&2
        status=0
        # shellcheck disable=SC2086  # words without blanks
        env $setting bash "$root/scripts/vpt/"$run "$@" || status=$?
        case $status in
            0) ;;
            75 | 130 | 143) exit "$status" ;; # the same command goes on from there
            *) failures+="    $setting${setting:+ }$run"$'\n' ;;
        esac
    done 3<<<"$plan"
    [[ -z $failures ]] && return
    printf 'Failed or not run (%s):\n%s' "$(grep -c '' <<<"${failures%$'\n'}")" "$failures" >&2
    exit 1
}
