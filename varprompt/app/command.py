"""A page in the browser: drop photos, see what is on them, and how sure that is.

    varprompt app out/run                       prints the page's address
    varprompt app out/run --open                opens it
    varprompt app out/run --classes names.txt   with other classes to begin with

Each photo is shown with its classes' probabilities and its total, aleatoric and epistemic
uncertainty; see varprompt predict --help. The names of the classes can be changed on the page.
The page is seen on this machine only; photos do not leave it and are deleted at the end. Needs
pip install 'varprompt[app]'.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..common.checks import check_range
from ..common.console import say
from ..errors import ConfigError
from ..predict.judge import RISK
from ..predict.model_flags import add_model_flags, open_model
from ..settings.flags import Parser, given
from .answers import Answers

_HERE = "127.0.0.1"
_PORTS = range(7860, 7960)  # tried in this order


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = Parser(
        prog="varprompt app", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_model_flags(new)
    new.add_argument(
        "--risk", type=float, default=RISK, metavar="R",
        help=f"mark as unsure what would take the share of errors above R ({RISK})",
    )  # fmt: skip
    new.add_argument(
        "--host", type=given, default=_HERE, metavar="ADDRESS",
        help=f"where to listen ({_HERE}: this machine only)",
    )  # fmt: skip
    new.add_argument("--port", type=int, metavar="N",
                     help=f"default: the first free from {_PORTS[0]} on")  # fmt: skip
    new.add_argument("--open", action="store_true", help="open the page in a browser")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Show the page until Ctrl-C.

    Raises:
        VarPromptError: bad input, or Gradio is not installed.
        OSError: nobody can listen there.
    """
    args = parser().parse_args(argv)
    problems: list[str] = []
    if args.port is not None:
        check_range(args.port, 1, 65535, "--port", problems)
    if not 0 < args.risk < 1:
        problems.append(f"--risk is {args.risk}; give a share between 0 and 1, such as {RISK}")
    if find_spec("gradio") is None:
        problems.append("the page needs gradio, not installed: pip install 'varprompt[app]'")
    if problems:
        raise ConfigError(problems)
    port = free_port(args.host, _PORTS if args.port is None else [args.port])
    answers = Answers(open_model(args), Path(args.model).name or args.model, args.risk)
    if not _only_here(args.host):
        say(f"warning: whoever reaches {args.host} can use this page; it asks for no password")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at its import: nothing is reported
    from .page import serve

    serve(answers, args.host, port, args.open)
    return 0


def free_port(host: str, ports: Sequence[int]) -> int:
    """The first of `ports` at which `host` can be listened at.

    Raises:
        ConfigError: there is none, or `host` is no address of this machine.
    """
    reason: object = ""
    for port in ports:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
                probe.bind(address)
            return port
        except (OSError, UnicodeError) as error:
            reason = error
    tried = f"port {ports[0]}" if len(ports) == 1 else f"ports {ports[0]} to {ports[-1]}"
    raise ConfigError(
        f"nobody can listen at {host}, {tried} ({reason}): try another --host or --port"
    )


def _only_here(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
