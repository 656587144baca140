"""A server on loopback that tests download from, and the objects that it has."""

import contextlib
import email.utils
import hashlib
import http.server
import random
import re
import threading
import time


def content(seed, size):
    return random.Random(seed).randbytes(size)


class Origin:
    """Serves objects by path, with ranges and strong entity tags, unless `ranges` or `versions` is turned off.

    `rate` is bytes a second for all responses together, `refused` has a status for some paths, `dates` has seconds
    since 1970 for the last change of some, and `served` counts the bytes of bodies by path.
    """

    def __init__(self, objects):
        self.objects = objects
        self.rate = None
        self.ranges = True
        self.versions = True
        self.refused = {}
        self.dates = {}
        self.served = {}
        self.requests = []
        self._lock = threading.Lock()
        self._free_at = 0

    @contextlib.contextmanager
    def serving(self):
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                with contextlib.suppress(OSError):
                    origin._answer(self)

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *_):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _answer(self, request):
        path = request.path.partition("?")[0]
        with self._lock:
            self.requests.append((path, {name.lower(): value for name, value in request.headers.items()}))
        status = self._status(path)
        if status != 200:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        whole = self.objects[path]
        body, total = whole, len(whole)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if asked and self.ranges:
            first, last = asked.groups()
            start = int(first) if first else max(0, total - int(last))
            end = min(int(last) + 1, total) if first and last else total
            if start >= total:
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{total}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            body = whole[start:end]
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        else:
            request.send_response(200)
        request.send_header("Accept-Ranges", "bytes" if self.ranges else "none")
        if self.versions:
            request.send_header("ETag", '"' + hashlib.sha256(whole).hexdigest()[:16] + '"')
        if path in self.dates:
            request.send_header("Last-Modified", email.utils.formatdate(self.dates[path], usegmt=True))
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        self._send(request, path, body)

    def _status(self, path):
        return self.refused.get(path, 200 if path in self.objects else 404)

    def _send(self, request, path, body):
        at = 0
        while at < len(body):
            step = min(len(body) - at, len(body) if self.rate is None else 16 << 10)
            time.sleep(self._turn(step))
            request.wfile.write(body[at : at + step])
            with self._lock:
                self.served[path] = self.served.get(path, 0) + step
            at += step

    def _turn(self, step):
        """How long to wait before as many bytes more."""
        if self.rate is None:
            return 0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + step / self.rate
            return self._free_at - now
