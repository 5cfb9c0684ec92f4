"""A command line in a process forked from this one, which has imported everything already."""

import os
import subprocess
import sys
import tempfile
import traceback
import warnings


def run_forked(main, argv, *, cwd, **environment):
    """What ``subprocess.run`` tells of ``main(argv)`` in the folder `cwd`, as text.

    Args:
        main: a command; returns its exit code.
        argv: its arguments.
        cwd: where it runs.
        environment: variables that it finds besides those of this process.
    """
    argv = [str(argument) for argument in argv]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, 3.12
            pid = os.fork()
        if pid == 0:
            _run(main, argv, (out, err), cwd, environment)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(argv, code, out.read(), err.read())


def _run(main, argv, files, cwd, environment):
    """The forked process, to its end."""
    code = 1
    try:
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        warnings.resetwarnings()
        os.chdir(cwd)
        os.environ.update(environment)
        code = main(argv) or 0
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # whatever happens, no second process goes on with the tests
            os._exit(code if type(code) is int else bool(code))
