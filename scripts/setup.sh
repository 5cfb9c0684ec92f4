#!/usr/bin/env bash
# Finds or makes a Python environment that has requirements.txt and prints its interpreter.
#
#   PYTHON_BIN=$(bash scripts/setup.sh)     in a script: messages go to stderr, the path to stdout
#   bash scripts/setup.sh tests             also what tests, checks and documentation need
#
# In this order:
#   $PYTHON_BIN, when set              used as it is, nothing is checked
#   the active environment             (VIRTUAL_ENV or CONDA_PREFIX) when it has every pinned package
#   .venv beside this repository       made with $PYTHON (default: the first of python3.12, 3.11,
#                                      3.13, 3.10, 3.14, python3 that can), filled by pip
# A second call takes no time. An installation that was cut off is done again from the start.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
requirements=$root/requirements.txt
for_tests=$root/requirements-tests.txt
wanted=("$requirements")
case ${1:-} in
"") ;;
tests) wanted+=("$for_tests") ;;
*)
    echo "setup: the only argument is tests, not $1" >&2
    exit 2
    ;;
esac
venv=$root/.venv
stamp=$venv/setup-stamp # python version and checksum of what is installed; "installing" meanwhile
passed_over=""

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

supported() { [[ $1 =~ ^3\.1[0-4]$ ]]; }

# Prints each requirement that interpreter $1 lacks; imports none of the packages.
missing_from() {
    "$1" - "${wanted[@]}" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version

try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement

for line in (line for name in sys.argv[1:] for line in open(name)):
    line = line.split("#")[0].strip()
    if not line or line.startswith("-"):
        continue
    wanted = Requirement(line)
    if wanted.marker and not wanted.marker.evaluate():
        continue
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        found = None
    if found is None or not wanted.specifier.contains(found, prereleases=True):
        print(f"{wanted.name}{wanted.specifier} (found: {found})")
PY
}

# Prints the active environment's interpreter, or says in $passed_over why it cannot be used.
use_active_environment() {
    local prefix=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} missing
    if [[ -z $prefix || $prefix -ef $venv || ! -x $prefix/bin/python ]]; then
        return 1
    fi
    if ! supported "$(version_of "$prefix/bin/python")"; then
        passed_over="the active environment $prefix is not Python 3.10 to 3.14"
        return 1
    fi
    missing=$(missing_from "$prefix/bin/python") || missing="pip"
    if [[ -n $missing ]]; then
        passed_over="the active environment $prefix lacks $(wc -l <<<"$missing") of the pinned"
        passed_over+=" packages, for instance $(head -n 1 <<<"$missing")"
        return 1
    fi
    printf '%s\n' "$prefix/bin/python"
}

can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    local candidate version bare=""
    local candidates=(python3.12 python3.11 python3.13 python3.10 python3.14 python3)
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if ! version=$(version_of "$candidate") || ! supported "$version"; then
            continue
        fi
        if can_make_venv "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        if [[ -z $bare ]]; then
            bare="$candidate is Python $version but lacks the modules venv and ensurepip"
            bare+=" (Debian, Ubuntu: apt install python$version-venv)"
        fi
    done
    if [[ -n $bare ]]; then
        die "$bare: install them, or name another Python: PYTHON=/path/to/python3.11 bash $0"
    fi
    if [[ -n ${PYTHON:-} ]]; then
        die "PYTHON=$PYTHON must be a Python 3.10 to 3.14; its version:" \
            "$(version_of "$PYTHON" || echo 'none, it does not run')"
    fi
    die "no Python 3.10 to 3.14 found (tried ${candidates[*]}); install one, or name it:" \
        "PYTHON=/path/to/python3.11 bash $0"
}

wanted_stamp() { printf '%s %s\n' "$(version_of "$venv/bin/python")" "$(cksum <"$1")"; }

is_stamped() { [[ -f $1 && $(<"$1") == "$(wanted_stamp "$2")" ]]; }

installed() {
    is_stamped "$stamp" "$requirements" || return 1
    [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$(version_of "$venv/bin/python")" ]]
}

installed_for_tests() {
    [[ ${#wanted[@]} == 1 ]] || is_stamped "$stamp-tests" "$for_tests"
}

make_venv() {
    local python
    if [[ -e $venv && ! -f $stamp ]]; then # not made by this script: complete it, never delete it
        supported "$(version_of "$venv/bin/python")" ||
            die "$venv was not made by this script and is no Python 3.10 to 3.14; move it away"
    else
        python=$(find_python) || exit 1
        if [[ ! -f $stamp || $(<"$stamp") == installing* ||
            $(version_of "$venv/bin/python") != "$(version_of "$python")" ]]; then
            say "making $venv with $(version_of "$python") ($python)"
            rm -rf "$venv" && mkdir "$venv" && echo installing >"$stamp" || die "could not make $venv"
            "$python" -m venv "$venv" >&2 || die "could not make $venv (the reason is above)"
        fi
        echo installing >"$stamp"
    fi
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        die "$venv has no pip: run $venv/bin/python -m ensurepip, or move the folder away"
}

# An installation needs to write; a clone on a read-only disk or of another user does not let it.
need_to_write() {
    local place=$root
    if [[ -e $venv ]]; then
        place=$venv
    fi
    [[ -w $place ]] ||
        die "cannot write to $place: activate an environment that has requirements.txt, name an" \
            "interpreter that has it (PYTHON_BIN=...), or copy this repository to a place of yours"
}

install() {
    local verbosity=--quiet
    if [[ -t 2 ]]; then
        verbosity=--progress-bar=on
    fi
    if [[ -n $passed_over ]]; then
        say "$passed_over; using $venv"
    fi
    need_to_write
    if ! installed; then
        make_venv
        say "installing requirements.txt into $venv (about 5 GB and some minutes the first time)"
        pip_install "$requirements" "$verbosity"
        wanted_stamp "$requirements" >"$stamp.new" && mv "$stamp.new" "$stamp"
    fi
    if ! installed_for_tests; then
        say "installing requirements-tests.txt into $venv"
        pip_install "$for_tests" "$verbosity"
        wanted_stamp "$for_tests" >"$stamp-tests"
    fi
    say "ready: $venv"
}

pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check "$2" -r "$1" >&2 ||
        die "pip could not install ${1##*/} (its reason is above). It needs a package" \
            "index: without a network, point PIP_INDEX_URL or PIP_FIND_LINKS at a mirror, or" \
            "activate an environment that has the packages. Then run this again."
}

if [[ -n ${PYTHON_BIN:-} ]]; then
    printf '%s\n' "$PYTHON_BIN"
    exit
fi
if use_active_environment; then
    exit
fi
if ! installed || ! installed_for_tests; then
    exec 9<"${BASH_SOURCE[0]}" # the lock is this file itself; released when the process ends
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        say "another installation is running; waiting for it"
        flock 9
    fi
    { installed && installed_for_tests; } || install
fi
printf '%s\n' "$venv/bin/python"
