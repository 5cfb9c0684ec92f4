"""Of images that must all be there, every broken one is named by the first error."""

import numpy as np
import pytest
from PIL import Image

from varprompt import PromptClassifier
from varprompt.errors import DataError
from varprompt.images.faults import naming_faults


@pytest.fixture
def paths(tmp_path):
    """Sixteen images."""
    found = [tmp_path / f"{i:02}.png" for i in range(16)]
    for i, path in enumerate(found):
        Image.new("RGB", (9, 7), (i, 200, 0)).save(path)
    return found


@pytest.mark.parametrize("n_broken", [2, 12])
def test_all_broken_ones(n_broken, paths):
    for path in paths[1 : 1 + n_broken]:
        path.write_bytes(b"")
    clf = PromptClassifier("embedded", device="cpu", progress=False)
    with pytest.raises(DataError) as caught:
        clf.fit(list(map(str, paths)), ["a", "b"] * 8)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"{n_broken} of 16 images cannot be read")
    assert [line.split(":")[0].strip() for line in lines[:10]] == [
        str(path) for path in paths[1 : 1 + min(n_broken, 10)]
    ]
    assert lines[10:] == (["  ... and 2 more"] if n_broken == 12 else [])


def test_one_alone_is_the_error_that_it_was(paths):
    paths[3].write_bytes(b"")
    error = DataError("what was said")
    for images in (paths, [np.zeros((7, 9, 3), np.uint8), paths[3]], np.zeros((2, 7, 9, 3))):
        with pytest.raises(DataError) as caught, naming_faults(images, 0):
            raise error
        assert caught.value is error


def test_nothing_is_read_again_where_all_is_well(tmp_path):
    with naming_faults([tmp_path / "gone.png", tmp_path / "gone too.png"], 0):
        pass
