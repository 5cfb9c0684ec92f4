"""What is said of a file or folder that does not exist."""

import difflib
import os

from varprompt.errors import DataError


class MissingError(DataError):
    """A file or folder that does not exist.

    Attributes:
        what: the line that names it.
        near: path of what looks like it and may be meant, '' = nothing does.
    """

    def __init__(self, what: str, near: str, advice: list[str]):
        self.what = f"{what}; is {near} meant?" if near else what
        self.near = near
        super().__init__("\n".join([self.what, *advice]))


def looks_like(path: str) -> str:
    """Return the path of what lies there under a similar name, '' = nothing does."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        return ""
    plain = {name.lower().replace("_", "-"): name for name in sorted(os.listdir(parent))}
    wanted = os.path.basename(path).lower().replace("_", "-")
    near = difflib.get_close_matches(wanted, plain, n=1)
    return os.path.join(parent, plain[near[0]]) if near else ""
