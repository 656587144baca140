"""What the hub of the tests holds: repositories, their commits, and the files of these."""

import hashlib
import os
import time

# A pointer takes the place of a large file in git; clients are told its size and use it for nothing.
POINTER_BYTES = 134


class File:
    """The content of one file: bytes, or the path of a file that stays as it is.

    `lfs` says whether it is kept outside git, as large files are: its entity tag is then the SHA-256 of
    the content, and a signed link leads to the bytes.
    """

    def __init__(self, content, lfs=False):
        self.lfs = lfs
        if isinstance(content, bytes):
            self._bytes = memoryview(content)
            self._fd = None
            self.size = len(content)
        else:
            self._bytes = None
            self._fd = os.open(content, os.O_RDONLY)
            self.size = os.fstat(self._fd).st_size
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % self.size)
        for start in range(0, self.size, 1 << 20):
            piece = self.read(start, min(start + (1 << 20), self.size))
            sha256.update(piece)
            if not lfs:
                git.update(piece)
        self.sha256 = sha256.hexdigest()
        # Git holds a pointer that names the content.
        self.blob = hashlib.sha1(b"pointer " + self.sha256.encode()).hexdigest() if lfs else git.hexdigest()

    def read(self, start, end):
        """The bytes from `start` to `end` (exclusive)."""
        if self._fd is None:
            return self._bytes[start:end]
        return os.pread(self._fd, end - start, start)

    def send(self, connection, start, end, bytes_per_second=None):
        """Sends these bytes to a socket and yields how many each piece had."""
        begun = time.monotonic()
        at = start
        while at < end:
            piece = 64 << 10 if bytes_per_second else 4 << 20
            data = self.read(at, min(at + piece, end))
            connection.sendall(data)
            at += len(data)
            yield len(data)
            if bytes_per_second:
                ahead = begun + (at - start) / bytes_per_second - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)

    def described(self, path):
        """Its entry in a listing of the tree."""
        entry = {"type": "file", "oid": self.blob, "size": self.size, "path": path}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry

    def sibling(self, path, blobs):
        """Its entry in what is told of the repository; with `blobs`, the sizes and hashes too."""
        entry = {"rfilename": path}
        if blobs:
            entry.update(size=self.size, blobId=self.blob)
            if self.lfs:
                entry["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry


class Repository:
    """A repository: commits, and the names that lead to them.

    `kind` is ``models``, ``datasets`` or ``spaces``. A private one is shown to those who have a token; of
    a gated one, everybody sees the listing, and those on `granted` get the files.
    """

    def __init__(self, kind, name, private=False, gated=False):
        self.kind = kind
        self.name = name
        self.private = private
        self.gated = gated
        self.granted = set()
        self.refs = {}
        self.commits = {}

    def commit(self, files, branch="main"):
        """Records the files (path to `File`) as a commit, lets the branch, tag or ``refs/pr/N`` lead to it, and
        returns its hash."""
        text = repr((self.name, len(self.commits), sorted((path, file.blob) for path, file in files.items())))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha

    def resolve(self, revision):
        """The hash of the commit that a revision means, or ``None``."""
        if revision in self.commits:
            return revision
        return self.refs.get(revision)

    def tree(self, sha, below="", recursive=True):
        """The entries of a commit below a folder, folders included, in the order of their paths."""
        entries = {}
        prefix = below + "/" if below else ""
        for path, file in self.commits[sha].items():
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                folder = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(folder.encode()).hexdigest()
                if recursive or depth == 1:
                    entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
            if recursive or len(parts) == 1:
                entries[path] = file.described(path)
        return [entries[path] for path in sorted(entries)]

    def described(self, sha, blobs):
        """What is told of the repository at a commit."""
        files = self.commits[sha]
        return {
            "_id": sha[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.split("/")[0],
            "sha": sha,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [files[path].sibling(path, blobs) for path in sorted(files)],
        }


def files_of(folder, lfs_from=10 << 20):
    """The files below a folder; those of at least `lfs_from` bytes are kept outside git."""
    files = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            files[os.path.relpath(path, folder).replace(os.sep, "/")] = File(path, os.path.getsize(path) >= lfs_from)
    return files
