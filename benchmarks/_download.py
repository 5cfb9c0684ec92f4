"""A CLIP in OpenAI's form, and a server on loopback from which it takes a while to come."""

from __future__ import annotations

import contextlib
import http.server
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import torch

DOWNLOAD = 1.0  # seconds that the download takes


def archive() -> bytes:
    """The embedded CLIP as OpenAI publishes its own: a TorchScript archive."""
    import io
    import warnings

    from varprompt.towers.load import load_clip

    model = load_clip("embedded")
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, OpenAI's files are not
        torch.jit.save(torch.jit.trace(_Holder(model), torch.zeros(1)), content)
    return content.getvalue()


class _Holder(torch.nn.Module):
    """The parameters of a CLIP under their names, and a function that can be traced."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.logit_scale


@contextlib.contextmanager
def slow_server(content: bytes) -> Iterator[str]:
    """Serve `content` on loopback, in `DOWNLOAD` seconds; gives the address."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("fork").Process(
        target=_serve, args=(content, sender), daemon=True
    )
    server.start()
    yield f"http://127.0.0.1:{receiver.recv()}"
    server.terminate()
    server.join()


def _serve(content: bytes, sender: Any) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            step = -(-len(content) // 50)
            with contextlib.suppress(OSError):
                for start in range(0, len(content), step):
                    self.wfile.write(content[start : start + step])
                    time.sleep(DOWNLOAD / 50)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sender.send(server.server_address[1])
    server.serve_forever()
