#!/usr/bin/env bash
# Everything that needs a GPU, in at most nine minutes; see benchmarks/gpu.py --help.
#   usage:   bash benchmarks/gpu.sh [FOLDER]        default: benchmarks/results/gpu
#            REHEARSE=1 bash benchmarks/gpu.sh      on the CPU, tiny sizes, Triton's interpreter
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"
    exit
fi
python=$(bash "$root/scripts/setup.sh")
exec "$python" "$root/benchmarks/gpu.py" ${REHEARSE:+--rehearse} ${1:+--output "$1"}
