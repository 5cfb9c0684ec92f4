"""What a script of this folder has to run, for common.sh; needs no installed package.

usage: python3 plan.py SCRIPT ARGUMENTS...

Prints the arguments of train.py, quoted for the shell; of a whole table the runs, one a line:
SCRIPT ARGUMENTS|what it needs|NAME=VALUE.
"""

import os
import shlex
import sys
import types
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
# The package without what its __init__ imports: that may not be installed yet.
package = types.ModuleType("varprompt")
package.__path__ = [str(ROOT / "varprompt")]
sys.modules["varprompt"] = package
sys.dont_write_bytecode = True

from varprompt.errors import ConfigError  # noqa: E402
from varprompt.settings.script_tables import TABLES, plan  # noqa: E402
from varprompt.settings.scripts import SCRIPTS, train_arguments  # noqa: E402


def usage(script: str) -> str:
    """The comment at the top of a script."""
    lines = (FOLDER / f"{script}.sh").read_text(encoding="utf-8").splitlines()[1:]
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line[2:] for line in lines[:end])


def main(script: str, words: list) -> int:
    """Print the plan; returns the exit code."""
    if words[:1] in (["-h"], ["--help"]):
        print(usage(script))
        return 0
    try:
        if script in TABLES:
            runs = plan(script, os.environ, pairs=words)
            lines = ["|".join((" ".join(run.words), " ".join(run.needs), "=".join(run.setting)))
                     for run in runs]  # fmt: skip
        else:
            arguments, notes = train_arguments(script, words, os.environ)
            lines = [" ".join(shlex.quote(word) for word in arguments)]
            for note in notes:
                print(f"note: {note}", file=sys.stderr)
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        if len(words) < len(SCRIPTS.get(script, ())):
            print(usage(script), file=sys.stderr)
        return 2
    sys.stdout.buffer.write(os.fsencode("\n".join(lines) + "\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
