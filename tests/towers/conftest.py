"""CLIPs of other libraries."""

from helpers import theirs  # noqa: F401 - fixture
