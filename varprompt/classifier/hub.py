"""A classifier in the form of the Hugging Face hub, through its own mixin.

What is there: classifier.json and learned-*.safetensors as `save` writes them, config.json by which
the hub knows the library, and README.md, the card.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download

from ..common.files import write_atomic
from ..errors import CheckpointError, VarPromptError, pass_on_memory
from ..towers.hub import brief_reason
from .card import MARK, card_text
from .saved import DESCRIPTION, TENSORS, WHAT, write_classifier

_PATTERNS = [DESCRIPTION, TENSORS.format("*")]
_CARD = "README.md"


class HubClassifier(  # type: ignore[call-arg]  # mypy does not read huggingface_hub
    ModelHubMixin,
    library_name="varprompt",
    pipeline_tag="image-classification",
    tags=["clip", "prompt-tuning", "uncertainty", "calibration"],
    paper_url="https://arxiv.org/abs/2210.02390",
):
    """Holds a `PromptClassifier` for the hub's mixin.

    Args:
        classifier: fitted.
    """

    _hub_mixin_config: ClassVar = {"library_name": "varprompt", "what": WHAT}

    def __init__(self, classifier: Any):
        self.classifier = classifier

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """As the mixin does; numbers of the classifier that was there before are deleted."""
        return super().push_to_hub(repo_id, **{"delete_patterns": TENSORS.format("*"), **options})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **options: Any) -> HubClassifier:
        """As the mixin does; see `PromptClassifier.from_pretrained`.

        Raises:
            CheckpointError: there is no such folder, and the hub does not give it.
        """
        try:
            return super().from_pretrained(os.path.expanduser(name), **options)
        except (VarPromptError, TypeError):
            raise
        except Exception as error:  # a dozen kinds of failed requests, and what is no such name
            pass_on_memory(error, f"fetching {name}")
            raise CheckpointError(
                f"{name} is no folder here, nor in the hub's cache, and could not be downloaded "
                f"({brief_reason(error)})"
            ) from error

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, load: Callable[[str], Any], **options: Any
    ) -> HubClassifier:
        folder = model_id
        if not os.path.isdir(folder):
            folder = snapshot_download(model_id, allow_patterns=_PATTERNS, **options)
        return cls(load(folder))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_classifier(
            save_directory, self.classifier.learned_.tensors(), public(self.classifier.describe())
        )
        card = save_directory / _CARD
        if card.is_file() and MARK in card.read_text(encoding="utf-8", errors="replace"):
            card.unlink()  # of the classifier that was here, as it was written: the mixin keeps it

    def generate_model_card(self, **fields: Any) -> ModelCard:
        """The card, with `fields` for its head, such as license and datasets."""
        head = ModelCardData(**{**self._hub_mixin_info.model_card_data.to_dict(), **fields})
        text = card_text(self.classifier.learned_, public(self.classifier.describe()))
        return _AtomicCard(f"---\n{head.to_yaml()}\n---\n\n{text}")


class _AtomicCard(ModelCard):
    """A card that is never half written."""

    def save(self, filepath: Path | str) -> None:
        write_atomic(filepath, lambda file: file.write(str(self).encode()))


def public(described: dict[str, Any]) -> dict[str, Any]:
    """A description without the paths of the machine where it was learned.

    A CLIP's folder keeps its last part only: whoever loads the classifier gives their own.
    """
    parameters = described["parameters"]
    prefix, colon, name = parameters["backbone"].rpartition(":")
    if name.startswith(("/", ".", "~")) or os.path.exists(name):
        name = Path(name).name
    backbone = f"{prefix}{colon}{name}"
    texts = {"backbone": backbone, "backbone_path": "", "prompts": described["prompts"]}
    return {
        **described, "parameters": parameters | texts,
        "clip": described["clip"] | {"source": backbone},
    }  # fmt: skip
