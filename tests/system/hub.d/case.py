"""What the tests of this directory share: one hub, and the real client set up for it."""

import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from hub import GRANTED, TOKEN, Hub
from repository import File

MIB = 1 << 20
hub = Hub()
_home = tempfile.TemporaryDirectory()
# The client reads these when it is imported.
os.environ.update(
    HF_ENDPOINT=hub.url,
    HF_HOME=_home.name,
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_UPDATE_CHECK="1",
)
os.environ.pop("HF_TOKEN", None)

import huggingface_hub  # noqa: E402

import haul  # noqa: E402

__all__ = ["GRANTED", "MIB", "TOKEN", "File", "HubCase", "content", "haul", "hub", "huggingface_hub", "tree"]


def content(seed, size):
    return random.Random(seed).randbytes(size)


def tree(folder):
    """What is below a folder: for each path the target of a link, or the content and the permissions. Times are
    left out."""
    found = {}
    for at, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(at, name)
            key = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[key] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[key] = ("folder",)
            else:
                data = pathlib.Path(path).read_bytes()
                if name.endswith(".metadata"):
                    # The third line is the time.
                    data = b"\n".join(data.splitlines()[:2])
                found[key] = ("file", oct(os.stat(path).st_mode), len(data), hash(data))
    return found


class HubCase(unittest.TestCase):
    """A test with the patched client, an empty hub and an empty cache, `self.cache`."""

    patched = True

    def setUp(self):
        hub.reset()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.cache = self.dir / "cache"
        if self.patched:
            haul.patch_huggingface_hub()
            self.addCleanup(haul.unpatch_huggingface_hub)

    def tearDown(self):
        self.assertEqual(hub.leaks, 0, "a token reached the CDN")

    def add(self, files, kind="models", name="org/name", **how):
        """A repository with these files: path to bytes, which are kept outside git from 1 MiB on."""
        repository = hub.add(kind, name, **how)
        repository.commit(self.files(files))
        return repository

    @staticmethod
    def files(files):
        return {path: File(data, lfs=len(data) >= MIB) for path, data in files.items()}

    def get(self, path, repo="org/name", **how):
        return huggingface_hub.hf_hub_download(repo, path, cache_dir=self.cache, **how)

    def snapshot(self, repo="org/name", cache=None, **how):
        return pathlib.Path(huggingface_hub.snapshot_download(repo, cache_dir=cache or self.cache, **how))

    def assert_holds(self, path, data):
        self.assertTrue(pathlib.Path(path).read_bytes() == data, f"{path} has another content")

    def assert_nothing_published(self):
        """No content has its name in the cache, and no snapshot leads to one."""
        for path, what in tree(self.cache).items():
            if what[0] == "link" or ("/blobs/" in path and not path.endswith((".part", ".haul"))):
                self.fail(f"{path} is in the cache")

    def asked(self, place, method="GET"):
        return [entry for entry in hub.requests if entry["place"] == place and entry["method"] == method]

    def until(self, condition, what, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} did not happen in {seconds} s")
            time.sleep(0.005)

    def when_sent(self, size, act):
        """Calls `act` in a thread once so many more bytes were sent."""
        until = hub.sent_bytes + size
        thread = threading.Thread(
            target=lambda: (self.until(lambda: hub.sent_bytes >= until, f"{size} bytes sent"), act())
        )
        thread.start()
        self.addCleanup(thread.join)

    def python(self, *words, **environment):
        """Starts this interpreter with what the tests have. It ends with the test at the latest."""
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "HF_HOME": str(self.dir / "home"), **environment},
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process
