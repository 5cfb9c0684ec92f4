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
#   SWEEP    of a whole table: flags of sweep.py, such as "--jobs 2" or "--launcher slurm"
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

# A whole table: replaces this process by sweep.py, which goes on after a failure and lists it.
run_table() {
    plan "$@" >/dev/null # what is wrong is said before anything is installed
    find_python
    local table
    table=$(basename "$0" _all.sh)
    [[ $table == xd ]] && table=cross
    [[ -z ${GPU:-} ]] || export CUDA_VISIBLE_DEVICES=$GPU
    # shellcheck disable=SC2086  # several flags
    exec "$PYTHON_BIN" "$root/sweep.py" "$table" ${SWEEP:-} "$@"
}
