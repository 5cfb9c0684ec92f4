"""What a model has learned, seen through words.

    varprompt interpret out/run                       words nearest to each context vector
    varprompt interpret out/run --figure texts.png    texts of the classes, before and after
    varprompt interpret out/CoCoOp/run --image cat.jpg

"noise" is the root mean square length of what is added to a vector when prompts are sampled, and
"reach" the same in units of the distance to the nearest word: below 1, samples stay nearer to the
vector than that word is. Words are those of the CLIP that the model was learned with. Vectors lie
between words more often than on one: compare with the distance that words have from each other.
MODEL is the folder of a run or of a saved classifier.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..common.characters import printable
from ..common.checks import check_range
from ..common.console import out, say
from ..errors import ConfigError, DataError
from ..images.stream import stream_images
from ..predict.model_flags import add_model_flags, open_model
from ..settings.flags import Parser, given
from ..towers.forms import vocabulary
from .report import Findings, name_contexts, to_json, to_text
from .texts import class_texts
from .words import METRICS, Vocabulary, contexts_of

if TYPE_CHECKING:
    from ..classifier.learned import Learned

_MOST_WORDS = 1000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = Parser(
        prog="varprompt interpret", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_model_flags(new)
    new.add_argument("--top", type=int, default=5, metavar="N", help="words per vector (default 5)")
    new.add_argument("--metric", choices=METRICS, default=METRICS[0], help=f"default: {METRICS[0]}")
    new.add_argument(
        "--image", metavar="FILE", nargs="+", default=[], type=given,
        help="images for prompts that depend on them (VPT_CoCoOp, CoCoOp): their mean is shown",
    )  # fmt: skip
    new.add_argument("--figure", metavar="FILE.png", type=given, help="draw the class texts")
    new.add_argument("--format", choices=("table", "json"), default="table")
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found; 0 when there is a model.

    Raises:
        VarPromptError: it cannot be read, has no context, or needs images.
        OSError: the figure cannot be written.
    """
    args = parser().parse_args(argv)
    problems: list[str] = []
    check_range(args.top, 1, _MOST_WORDS, "--top", problems)
    if args.figure and not args.figure.lower().endswith(".png"):
        problems.append(f"--figure is {args.figure}; give a name that ends with .png")
    if problems:
        raise ConfigError(problems)
    learned = open_model(args).learned_
    found = findings(learned, args.model, args.image, args.top, args.metric)
    out(to_json(found) if args.format == "json" else to_text(found))
    if args.figure:
        from .figure import write_figure

        n = write_figure(found.texts, found.classnames, found.model, args.figure)
        say(f"{printable(args.figure)}: {n} of {len(found.classnames)} classes")
    return 0


@torch.no_grad()
def findings(
    learned: Learned, name: str, images: Sequence[str], n_words: int, metric: str
) -> Findings:
    """All about what was learned.

    Args:
        learned: of a `varprompt.PromptClassifier`.
        name: what to call it.
        images: files, for prompts that depend on the image.
        n_words: words for each vector.
        metric: "euclidean" or "cosine".

    Raises:
        ConfigError: the prompts depend on the image and there is none, or the other way round.
        DataError: an image cannot be read.
    """
    model, names, clip = learned.model, learned.names, learned.clip
    features = _features(learned, images)
    words = Vocabulary(clip.token_embedding.weight, vocabulary(clip))
    contexts = contexts_of(model, features, names)
    return Findings(
        name, clip.provenance.source, name_contexts(contexts, words, n_words, metric),
        words.usual_distance(), metric, class_texts(model, features, names, learned.texts), names,
        model.config.class_words,
    )  # fmt: skip


def _features(learned: Learned, images: Sequence[str]) -> Tensor:
    """Features `(B, E)` of the images; zeros `(1, E)` where they do not matter."""
    learner = learned.model.prompt_learner
    if not learner.conditional:
        if images:
            raise ConfigError("--image: the prompts of this model do not depend on the image")
        return learner.ctx.new_zeros(1, learned.clip.text_projection.shape[1])
    if not images:
        raise ConfigError(
            "the prompts of this model depend on the image: name one or several with --image"
        )
    batches = list(stream_images(images, learned.transform, len(images)))
    if problems := [problem for batch in batches for problem in batch.unreadable]:
        raise DataError("\n".join(problems))
    return learned.encode_image(torch.cat([batch.images for batch in batches]))
