#!/usr/bin/env bash
# Runs the tests, in random order, in a process per core, at most eight; arguments go to pytest:
#   bash scripts/test.sh -k posterior
#   bash scripts/test.sh -n 0 -p no:randomly tests/test_model.py    one process, fixed order
# DASSL_ROOT=path/to/Dassl.pytorch runs them on the real Dassl instead of the stand-in.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON_BIN=$(bash "$root/scripts/setup.sh" tests)

if [[ -n ${DASSL_ROOT:-} ]]; then
    if [[ ! -f $DASSL_ROOT/dassl/__init__.py ]]; then
        echo "test: DASSL_ROOT=$DASSL_ROOT is no Dassl checkout (no dassl/__init__.py in it)" >&2
        exit 2
    fi
    DASSL_ROOT=$(cd "$DASSL_ROOT" && pwd)
    extras=(wilds==1.2.2 gdown scipy future six)
    if ! "$PYTHON_BIN" -c 'import importlib.metadata as m, sys; [m.version(n.split("==")[0]) for n in sys.argv[1:]]' \
        "${extras[@]}" 2>/dev/null; then
        echo "test: installing what Dassl imports into $PYTHON_BIN: ${extras[*]}" >&2
        "$PYTHON_BIN" -m pip install --disable-pip-version-check --quiet \
            --constraint "$root/requirements.txt" "${extras[@]}" >&2
    fi
    export PYTHONPATH=$DASSL_ROOT${PYTHONPATH:+:$PYTHONPATH}
fi

# Tiny tensors: threads would only wait for each other, and tests compare runs bit for bit.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export MPLBACKEND=Agg
cd "$root"
exec "$PYTHON_BIN" -m pytest -q -n auto --maxprocesses 8 --dist worksteal "$@"
