"""The command line of train.py explains itself."""

import argparse

from varprompt.settings.command import USAGE, parser


def test_help_shows_the_example_as_it_is_typed():
    text = parser().format_help()
    assert USAGE.strip() in text
    example = text.partition("python train.py ")[2].partition("\n\n")[0]
    parser().parse_args(example.replace("\\\n", " ").split())


def test_every_flag_is_explained():
    for action in parser()._actions:
        assert action.help, action.option_strings
        hidden = {"--source-domains", "--target-domains", "--head"}  # Dassl's, of no use here
        assert (action.help == argparse.SUPPRESS) == (not hidden.isdisjoint(action.option_strings))
