"""The hub of the tests: what it holds, how it behaves, and what it saw."""

import hmac
import json
import random
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, fields
from http.server import ThreadingHTTPServer
from urllib.parse import quote, urlencode

from handlers import CdnHandler, HubHandler, Refusal
from repository import Repository

TOKEN = "hf_test"
GRANTED = "hf_granted"
_SECRET = b"the key of the signed links"


@dataclass
class Settings:
    """How the hub behaves, changeable at any time.

    Attributes:
        link_seconds: how long a signed link is valid for new requests.
        page: the most entries on one page of a tree.
        bytes_per_second: the pace of each response with content; 0 is as fast as possible.
        cut_bytes: the most content of one response, after which the connection ends; 0 is all.
        delay_s: the pause before each response.
        busy_every: every N-th request is answered with 429; 0 is never.
        retry_after_s: what a 429 names in Retry-After.
        down_share: the share of requests that is answered with 503, 0 to 1.
        trouble_at: where that happens: any of api, resolve and cdn, separated by commas.
        resolve_cache: whether small files are reached by a relative redirect, as on the real hub.
        xet: whether large files are announced as also being in Xet storage, which there is none of.
        corrupt: a path whose content comes with a flipped bit in its middle, or nothing.
    """

    link_seconds: float = 3600
    page: int = 1000
    bytes_per_second: int = 0
    cut_bytes: int = 0
    delay_s: float = 0
    busy_every: int = 0
    retry_after_s: int = 1
    down_share: float = 0
    trouble_at: str = "api,resolve,cdn"
    resolve_cache: bool = False
    xet: bool = False
    corrupt: str = ""

    def set(self, name, value):
        """Sets a field to what a text means."""
        kind = {field.name: field.type for field in fields(self)}[name]
        if kind in (bool, "bool"):
            value = value.lower() in ("1", "true", "yes")
        else:
            value = {"float": float, "int": int, "str": str}[getattr(kind, "__name__", kind)](value)
        setattr(self, name, value)


class Hub:
    """The hub and its CDN on two ports of this machine.

    `requests` is the log: a dictionary for each request, with `place` (api, resolve or cdn), `method`, `host`, `path`
    (without the query), `range`, `authorization` (whether there was one), `agent`, `status`, and `bytes` (of the
    content, as they are sent). `sent_bytes` counts those of all requests, and `leaks` the requests that showed a token
    to the CDN.
    """

    def __init__(self, port=0, cdn_port=0, log=None, lfs_from=10 << 20, certificate=None, key=None):
        self.lfs_from = lfs_from
        self.settings = Settings()
        self.repositories = {}
        self.tokens = {TOKEN, GRANTED}
        self.requests = []
        self._log = open(log, "a", encoding="utf-8") if log else None
        self._lock = threading.Lock()
        self.sent_bytes = 0
        self._count = 0
        self._chance = random.Random(1)
        scheme = "https" if certificate else "http"
        handlers = ((HubHandler, port), (CdnHandler, cdn_port))
        self._servers = [self._serve(handler, port, certificate, key) for handler, port in handlers]
        self.url, self.cdn_url = (
            f"{scheme}://{host}:{server.server_address[1]}"
            for host, server in zip(("127.0.0.1", "localhost"), self._servers)
        )

    def _serve(self, handler, port, certificate, key):
        server = _Server(("127.0.0.1", port), handler)
        server.hub = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops listening, and ends the connections."""
        for server in self._servers:
            server.shutdown()
            server.end_connections()
            server.server_close()
        if self._log:
            self._log.close()

    def add(self, kind, name, **how):
        """Adds a repository and returns it."""
        repository = self.repositories[(kind, name)] = Repository(kind, name, **how)
        if repository.gated:
            repository.granted.add(GRANTED)
        return repository

    @property
    def leaks(self):
        """How many requests showed a token to the CDN."""
        return sum(1 for entry in list(self.requests) if entry["place"] == "cdn" and entry["authorization"])

    def count(self, sent):
        """Adds to the bytes of files that were sent."""
        with self._lock:
            self.sent_bytes += sent

    def reset(self):
        """Forgets the repositories, the log and the settings."""
        self.repositories.clear()
        self.requests.clear()
        self.settings = Settings()

    def write(self, entry):
        """Writes the entry of a request that ended to the file of the log."""
        if self._log:
            with self._lock:
                self._log.write(json.dumps(entry) + "\n")
                self._log.flush()

    def trouble(self, place):
        """Refuses a request now and then, as the settings say."""
        settings = self.settings
        if place not in settings.trouble_at.split(","):
            return
        with self._lock:
            self._count += 1
            count, chance = self._count, self._chance.random()
        if settings.busy_every and count % settings.busy_every == 0:
            raise Refusal(429, message="Too many requests", Retry_After=str(settings.retry_after_s))
        if chance < settings.down_share:
            raise Refusal(503, message="Service unavailable")

    def find(self, kind, name, token, wants_files):
        """The repository, if who has this token may see it."""
        if token is not None and token not in self.tokens:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        repository = self.repositories.get((kind, name))
        if repository is None or (repository.private and token is None):
            # Whether a repository exists is not told to those who may not see it.
            if token is None:
                raise Refusal(401, "RepoNotFound", "Invalid username or password.")
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if wants_files and repository.gated and token not in repository.granted:
            text = f"Access to {kind[:-1]} {name} is restricted"
            raise Refusal(401 if token is None else 403, "GatedRepo", text)
        return repository

    def link(self, file, path):
        """A signed link to the content of a large file."""
        expires = f"{time.time() + self.settings.link_seconds:.3f}"
        name = path.rsplit("/", 1)[-1]
        query = {
            "response-content-disposition": f"attachment; filename*=UTF-8''{quote(name)}; filename=\"{quote(name)}\";",
            "Expires": expires,
            "Signature": self.signature(file.sha256, expires),
        }
        return f"{self.cdn_url}/blobs/{file.sha256}?{urlencode(query)}"

    @staticmethod
    def signature(sha256, expires):
        return hmac.new(_SECRET, f"{sha256} {expires}".encode(), "sha256").hexdigest()

    def large(self, sha256):
        """A path and the file of a large content, or ``None``."""
        for repository in list(self.repositories.values()):
            for files in list(repository.commits.values()):
                for path, file in files.items():
                    if file.lfs and file.sha256 == sha256:
                        return path, file
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *given):
        self._open = set()
        super().__init__(*given)

    def process_request(self, request, client_address):
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self):
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It ended by itself.

    def handle_error(self, request, client_address):
        # A client that went away is nobody's fault; anything else is a fault of this file.
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)
