#!/usr/bin/env bash
# The embedded benchmark, base-to-new, all trainers: a table, CSV, JSON and a figure in minutes.
#   usage:   bash scripts/demo.sh [--quick] [--output FOLDER]       (--help for all options)
#            bash scripts/demo.sh --own FOLDER                      a classifier of one's own photos
# It downloads no data and no weights. A second call goes on where the first one stopped.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON_BIN=$(bash "$root/scripts/setup.sh")
exec "$PYTHON_BIN" "$root/scripts/demo.py" "$@"
