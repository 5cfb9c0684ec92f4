"""An empty folder of results."""

import pytest
from outputs import Output


@pytest.fixture
def output(tmp_path) -> Output:
    return Output(tmp_path / "output")
