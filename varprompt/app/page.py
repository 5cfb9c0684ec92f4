"""The page itself, built with Gradio, and the server that shows it on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from ..common.console import out, unfinished
from .answers import Answers, Photos

_LARGEST = "64mb"  # of a photo
_FORGET = 3600  # seconds after which photos and what was made of them are gone
_SYSTEM_FONTS = ("system-ui", "sans-serif")  # no request to a server of fonts


def build_page(answers: Answers) -> Any:
    """The page of a model, a `gradio.Blocks`."""
    with gr.Blocks(
        title=f"{answers.name} - varprompt", analytics_enabled=False, delete_cache=(600, _FORGET)
    ) as page:
        gr.Markdown("# What is on a photo, and how sure is that?")
        photos = gr.State(Photos(), time_to_live=_FORGET)
        with gr.Row():
            files = gr.File(label="Photos", file_count="multiple", height=240)
            with gr.Column():
                classes = gr.Textbox(
                    answers.own_classes, label="Classes, one a line", lines=6, max_lines=12
                )
                with gr.Row():
                    again = gr.Button("Classify with these", variant="primary")
                    own = gr.Button("The model's own classes")
        shown = gr.HTML(answers.show(Photos(), ""), apply_default_css=False)
        how: dict[str, Any] = {  # one at a time: one model answers everybody
            "api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 1
        }  # fmt: skip
        show = {"fn": answers.show, "inputs": [photos, classes], "outputs": shown, **how}
        files.change(answers.take, files, photos, **how).then(**show)
        again.click(**show)
        own.click(lambda: answers.own_classes, None, classes, **how).then(**show)
    return page


def serve(answers: Answers, host: str, port: int, browser: bool) -> None:
    """Show the page until somebody ends it; photos are kept in a folder that goes with it.

    Args:
        answers: a model.
        host: address of this machine to listen at.
        port: a free one.
        browser: whether to open it there.

    Raises:
        OSError: it cannot listen there.
    """
    with TemporaryDirectory(prefix="varprompt-app-") as folder, _ended_by_sigterm():
        unfinished.add(folder)  # goes also if somebody does not wait for the end
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when the page is built, and later
        page = build_page(answers)
        _, address, _ = page.launch(
            server_name=host, server_port=port, inbrowser=browser, prevent_thread_lock=True,
            quiet=True, share=False, ssr_mode=False, enable_monitoring=False, footer_links=[],
            max_file_size=_LARGEST,
            theme=gr.themes.Default(font=_SYSTEM_FONTS, font_mono=("monospace",)),
        )  # fmt: skip
        out(f"{address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        page.close(verbose=False)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is Ctrl-C, so that photos do not stay behind."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
