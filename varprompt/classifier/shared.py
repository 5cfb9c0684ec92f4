"""Classifiers to be shared: the three methods that the Hugging Face hub's users know."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, TypeVar

from ..errors import ConfigError

S = TypeVar("S", bound="Shared")


class Shared:
    """What `PromptClassifier` has of huggingface_hub's mixin, see `varprompt.classifier.hub`."""

    def save_pretrained(self, folder: str | os.PathLike, **options: Any) -> None:
        """Write what `save` writes, without paths of this machine, and a model card.

        A README.md that somebody has written or changed stays as it is.

        Args:
            folder: is made if need be.
            options: of `huggingface_hub.ModelHubMixin.save_pretrained`, such as
                ``model_card_kwargs={"license": "cc-by-4.0"}``, fields of the card's head.

        Raises:
            ConfigError: huggingface_hub is not installed.
            OSError: it cannot be written.
        """
        _hub().HubClassifier(self).save_pretrained(folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes; returns the address of the commit.

        Args:
            repo_id: OWNER/NAME; is made if need be.
            options: of `huggingface_hub.ModelHubMixin.push_to_hub`, such as private and token.

        Raises:
            ConfigError: huggingface_hub is not installed.
            OSError: the hub does not take it.
        """
        return _hub().HubClassifier(self).push_to_hub(repo_id, **options)

    @classmethod
    def from_pretrained(
        cls: type[S], name: str | os.PathLike, *, device: str = "auto",
        parameters: dict[str, Any] | None = None, **options: Any,
    ) -> S:  # fmt: skip
        """A classifier from a folder, or from the hub; nothing that it brings is executed.

        Args:
            name: a folder, or OWNER/NAME on the hub.
            device: where to compute.
            parameters: others than it was saved with, such as backbone_path, a CLIP's weight file.
            options: of `huggingface_hub.ModelHubMixin.from_pretrained`, such as revision and token.

        Raises:
            CheckpointError: there is none, it is damaged, or was learned in front of another CLIP.
            ConfigError: huggingface_hub is not installed, or the CLIP cannot be had.
        """
        load = partial(cls.load, device=device, **parameters or {})  # type: ignore[attr-defined]
        return _hub().HubClassifier.from_pretrained(name, load=load, **options).classifier


def _hub() -> Any:
    try:
        from . import hub
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"sharing classifiers needs the package {error.name}, which is not installed: "
            "pip install 'varprompt[hub]'"
        ) from error
    return hub
