#!/usr/bin/env python3
"""A hub for the tests, which speaks enough of the Hugging Face Hub's API for its own client.

    server.py [--port PORT] [--cdn-port PORT] [--log FILE] [--lfs-from BYTES] [--set NAME=VALUE]...
              [--certificate PEM --key PEM] REPOSITORY=FOLDER[,private][,gated]...

REPOSITORY is `models/ORG/NAME`, or of `datasets` or `spaces`. Prints its URL when it listens: that of the hub
(127.0.0.1), and after a space that of the CDN (localhost), to which signed links of large files lead. The token
`hf_test` opens private repositories, and `hf_granted` also gated ones. While it runs:

    GET  /_test/log                         the log, a JSON object a line
    POST /_test/set?NAME=VALUE              changes a setting
    POST /_test/commit?repository=models/ORG/NAME&folder=FOLDER&branch=NAME    a new commit of all files there

The settings are the fields of `Settings`. In Python, `with Hub() as hub` serves in threads of its own.
"""

import argparse
import hmac
import json
import random
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from repository import Repository, files_of

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


class Refusal(Exception):
    """A response that is an error."""

    def __init__(self, status, code=None, message="", **headers):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if code:
            self.headers.update({"X-Error-Code": code, "X-Error-Message": message})


class Hub:
    """The hub and its CDN on two ports of this machine.

    `requests` is the log: a dictionary for each request, with `place` (api, resolve, cdn or test), `method`, `host`,
    `path` (without the query), `range`, `authorization` (whether there was one), `status` and `bytes` (sent of
    the content). `leaks` counts the requests that showed a token to the CDN, and `sent_bytes` the bytes of files,
    as they are sent.
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
        handlers = ((_HubHandler, port), (_CdnHandler, cdn_port))
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

    def note(self, entry):
        """Adds a request to the log."""
        with self._lock:
            self.requests.append(entry)
            if self._log:
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


class _Handler(BaseHTTPRequestHandler):
    """What both hosts share: the log, trouble, errors, and content with ranges."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Nothing: the hub keeps a log of its own."""

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_GET

    def _answer(self):
        self.hub = self.server.hub
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        self.query = dict(parse_qsl(split.query, keep_blank_values=True))
        self.parts = [unquote(part) for part in split.path.split("/")[1:]]
        self.sent = 0
        self.status = 0
        place = self.place()
        if self.hub.settings.delay_s and place != "test":
            time.sleep(self.hub.settings.delay_s)
        try:
            try:
                self.hub.trouble(place)
                self.respond()
            except Refusal as refusal:
                self.tell(refusal.status, {"error": refusal.message}, refusal.headers)
            self.wfile.flush()
        finally:
            if place != "test":
                self.hub.note(
                    {
                        "place": place,
                        "method": self.command,
                        "host": self.headers.get("Host"),
                        "path": split.path,
                        "range": self.headers.get("Range"),
                        "authorization": "Authorization" in self.headers,
                        "agent": self.headers.get("User-Agent"),
                        "status": self.status,
                        "bytes": self.sent,
                    }
                )

    def count(self, sent):
        self.sent += sent
        self.hub.count(sent)

    def start(self, status, headers):
        self.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def tell(self, status, what, headers=None):
        self.write(status, json.dumps(what).encode(), headers)

    def write(self, status, body, headers=None):
        self.start(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self, path, file, tag, headers):
        """Answers with the file, or the part of it that is asked for."""
        tag = f'"{tag}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        start, end, status = 0, file.size, 200
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and "," not in asked and self.headers.get("If-Range", tag) == tag:
            first, last = asked[len("bytes=") :].split("-")
            if first:
                start, end = int(first), min(int(last) + 1 if last else file.size, file.size)
            else:
                start = max(file.size - int(last), 0)
            if start >= end:
                raise Refusal(416, message="Range not satisfiable", Content_Range=f"bytes */{file.size}")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        self.start(status, headers)
        if self.command == "HEAD":
            return
        self.wfile.flush()
        if path == self.hub.settings.corrupt:
            wrong = bytearray(file.read(0, file.size))
            wrong[file.size // 2] ^= 1
            self.connection.sendall(wrong[start:end])
            self.count(end - start)
            return
        cut = self.hub.settings.cut_bytes
        if cut and end - start > cut:
            end = start + cut
            self.close_connection = True
        for sent in file.send(self.connection, start, end, self.hub.settings.bytes_per_second):
            self.count(sent)


class _CdnHandler(_Handler):
    def place(self):
        return "cdn"

    def respond(self):
        if "Authorization" in self.headers:
            raise Refusal(400, message="Only one auth mechanism is allowed: a signed link came with a token")
        sha256, expires = self.parts[-1], self.query.get("Expires", "")
        found = self.hub.large(sha256)
        if not found or not hmac.compare_digest(self.hub.signature(sha256, expires), self.query.get("Signature", "")):
            raise Refusal(403, message="Access denied")
        if time.time() > float(expires):
            raise Refusal(403, message="Request has expired")
        path, file = found
        self.content(path, file, sha256[:32], {"Content-Disposition": self.query["response-content-disposition"]})


class _HubHandler(_Handler):
    def place(self):
        if self.parts[0] == "_test":
            return "test"
        return "api" if self.parts[0] == "api" and self.parts[1:2] != ["resolve-cache"] else "resolve"

    def respond(self):
        if self.parts[0] == "_test":
            self.control()
        elif self.parts[:2] == ["api", "resolve-cache"]:
            self.resolve(self.parts[2], self.parts[3:], redirected=True)
        elif self.parts[0] == "api":
            self.api()
        elif self.parts[0] in ("datasets", "spaces"):
            self.resolve(self.parts[0], self.parts[1:])
        else:
            self.resolve("models", self.parts)

    def token(self):
        given = self.headers.get("Authorization")
        return None if given is None else given.removeprefix("Bearer ")

    def named(self, parts, words):
        """Splits ``[ORG/]NAME/WORD/rest`` at the first of the words that may follow a name."""
        for at in (1, 2):
            if parts[at : at + 1] and parts[at] in words:
                return "/".join(parts[:at]), parts[at], parts[at + 1 :]
        return "/".join(parts[:2]), "revision", ["main"]

    def commit(self, repository, revision):
        sha = repository.resolve(revision)
        if sha is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def api(self):
        if len(self.parts) < 3 or self.parts[1] not in ("models", "datasets", "spaces"):
            raise Refusal(404, message="The hub of the tests does not have this")
        kind = self.parts[1]
        name, word, rest = self.named(self.parts[2:], ("revision", "tree", "refs"))
        repository = self.hub.find(kind, name, self.token(), wants_files=False)
        if word == "refs":
            self.tell(200, _refs(repository))
            return
        sha = self.commit(repository, rest[0])
        if word == "revision":
            self.tell(200, repository.described(sha, self.query.get("blobs", "").lower() in ("1", "true")))
            return
        entries = repository.tree(sha, "/".join(rest[1:]), self.query.get("recursive", "").lower() in ("1", "true"))
        if not entries and rest[1:]:
            raise Refusal(404, "EntryNotFound", "The folder does not exist", X_Repo_Commit=sha)
        if self.hub.settings.xet:
            entries = [{**entry, "xetHash": entry["lfs"]["oid"]} if "lfs" in entry else entry for entry in entries]
        start = int(self.query.get("cursor", 0))
        end = start + min(int(self.query.get("limit", self.hub.settings.page)), self.hub.settings.page)
        headers = {}
        if end < len(entries):
            query = urlencode({**self.query, "cursor": end})
            headers["Link"] = f'<{self.hub.url}{urlsplit(self.path).path}?{query}>; rel="next"'
        self.tell(200, entries[start:end], headers)

    def resolve(self, kind, parts, redirected=False):
        name, word, rest = self.named(parts, ("resolve",))
        if word != "resolve" or len(rest) < 2:
            raise Refusal(404, message="The hub of the tests does not have this")
        repository = self.hub.find(kind, name, self.token(), wants_files=True)
        sha = self.commit(repository, rest[0])
        path = "/".join(rest[1:])
        file = repository.commits[sha].get(path)
        headers = {"X-Repo-Commit": sha}
        if file is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", **headers)
        if file.lfs:
            headers.update({"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'})
            headers["Location"] = self.hub.link(file, path)
            if self.hub.settings.xet:
                headers["X-Xet-Hash"] = file.sha256
                token_path = f"/api/{kind}/{name}/xet-read-token/{sha}"
                headers["Link"] = f'<{self.hub.url}{token_path}>; rel="xet-auth"'
            self.tell(302, "Found. Redirecting to the CDN", headers)
        elif self.hub.settings.resolve_cache and not redirected:
            headers["Location"] = f"/api/resolve-cache/{kind}/{name}/resolve/{sha}/{quote(path)}"
            self.tell(307, "Temporary Redirect", headers)
        else:
            self.content(path, file, file.blob, headers)

    def control(self):
        what = self.parts[1:]
        if what == ["log"]:
            self.write(200, "".join(json.dumps(entry) + "\n" for entry in list(self.hub.requests)).encode())
        elif what == ["set"] and self.command == "POST":
            for name, value in self.query.items():
                self.hub.settings.set(name, value)
            self.tell(200, {})
        elif what == ["commit"] and self.command == "POST":
            kind, name = self.query["repository"].split("/", 1)
            files = files_of(self.query["folder"], self.hub.lfs_from)
            sha = self.hub.repositories[(kind, name)].commit(files, self.query.get("branch", "main"))
            self.tell(200, {"sha": sha})
        else:
            raise Refusal(404, message="no such control")


def _refs(repository):
    told = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    for name, sha in repository.refs.items():
        if name.startswith("refs/pr/"):
            told["pullRequests"].append({"name": name, "ref": name, "targetCommit": sha})
        else:
            told["branches"].append({"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha})
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cdn-port", type=int, default=0)
    parser.add_argument("--log")
    parser.add_argument("--lfs-from", type=int, default=10 << 20)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("repositories", nargs="*", metavar="REPOSITORY=FOLDER[,private][,gated]")
    given = parser.parse_args()
    hub = Hub(given.port, given.cdn_port, given.log, given.lfs_from, given.certificate, given.key)
    for text in given.repositories:
        name, _, rest = text.partition("=")
        folder, *how = rest.split(",")
        kind, name = name.split("/", 1)
        hub.add(kind, name, **{word: True for word in how}).commit(files_of(folder, given.lfs_from))
    for text in given.set:
        hub.settings.set(*text.split("=", 1))
    print(hub.url, hub.cdn_url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    hub.close()


if __name__ == "__main__":
    main()
