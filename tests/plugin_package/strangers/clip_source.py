"""A source of CLIP models."""

from varprompt.embedded import tiny_clip_state_dict
from varprompt.errors import ConfigError
from varprompt.towers.load import CLIP_SOURCES, build_clip


def load_strange(name, path="", activation=""):
    """The embedded CLIP, colder."""
    if name != "cold":
        raise ConfigError(f"the CLIP 'strange:{name}' is unknown; choose from cold")
    state = tiny_clip_state_dict()
    state["logit_scale"] = state["logit_scale"] - 1
    return build_clip(state, "the cold CLIP of strangers", "quick_gelu")


CLIP_SOURCES["strange"] = load_strange
