"""What single tokens say: put together, they are the text that they were made of."""

import foreign
import pytest
from helpers import small_clip

from varprompt.towers.forms import encode, vocabulary
from varprompt.towers.load import load_clip
from varprompt.towers.pieces import unknown_piece

TEXT = "a photo of a strange king"


def together(pieces):
    return "".join(piece.removesuffix("-") for piece in pieces)


@pytest.mark.parametrize(
    ("library", "kind"),
    [("open_clip", next(iter(foreign.OPEN_CLIP))), *(("hf", kind) for kind in foreign.HF)],
)
def test_pieces_of_a_text_are_the_text(library, kind, theirs):
    clip = load_clip(theirs(library, kind).name)
    known = vocabulary(clip)
    assert len(known) == len(clip.token_embedding.weight)
    assert together(known[i] for i in encode(TEXT, clip)) == TEXT.replace(" ", "")
    form = clip.text_form
    assert {known[i] for i in (*form.start, *form.end)} <= {""}


def test_openais_words():
    known = vocabulary(small_clip())
    assert [known[i] for i in encode(TEXT)] == TEXT.split()
    assert known[49406] == known[49407] == "" and known.count("") < 1000
    assert together(known[i] for i in encode("dög antidisestablishmentarianism")) == (
        "dögantidisestablishmentarianism"
    )
    assert any(known[i].endswith("-") for i in encode("antidisestablishmentarianism"))
    assert unknown_piece(3) == ""
