"""A server on this machine that knows ranges and may break off an answer."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class RangeServer(ThreadingHTTPServer):
    """Serves `files` by name; `limit` bytes an answer, ranges if `ranges`.

    `asked` are the names and ranges that were wanted.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files, self.limit, self.ranges, self.asked = {}, None, True, []

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path[1:]
        wanted = self.headers.get("Range")
        server.asked.append((name, wanted))
        if name not in server.files:
            self.send_error(404)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and server.ranges else 0
        data = server.files[name][start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def range_server():
    server = RangeServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
