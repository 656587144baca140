"""The requests that the hub of the tests and its CDN answer."""

import hmac
import json
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from repository import files_of


class Refusal(Exception):
    """A response that is an error."""

    def __init__(self, status, code=None, message="", **headers):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if code:
            self.headers.update({"X-Error-Code": code, "X-Error-Message": message})


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
        self.entry = None
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
            if self.entry:
                self.hub.write(self.entry)

    def count(self, sent):
        self.entry["bytes"] += sent
        self.hub.count(sent)

    def start(self, status, headers):
        if self.place() != "test":
            self.entry = {
                "place": self.place(),
                "method": self.command,
                "host": self.headers.get("Host"),
                "path": urlsplit(self.path).path,
                "range": self.headers.get("Range"),
                "authorization": "Authorization" in self.headers,
                "agent": self.headers.get("User-Agent"),
                "status": status,
                "bytes": 0,
            }
            # Before the response: who has read it finds it in the log.
            self.hub.requests.append(self.entry)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def tell(self, status, what, headers=None):
        self.tell_body(status, json.dumps(what).encode(), headers)

    def tell_body(self, status, body, headers=None):
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


class CdnHandler(_Handler):
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


class HubHandler(_Handler):
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
            self.tell_body(200, "".join(json.dumps(entry) + "\n" for entry in list(self.hub.requests)).encode())
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
