"""The command's ``hf://`` and the client, unpatched, on one cache. HAUL names another command than the package's."""

import os
import pathlib
import subprocess
import sys

from case import GRANTED, MIB, TOKEN, HubCase, content, hub, tree

LARGE = content(1, 24 * MIB)
FILES = {
    "config.json": b"{}",
    "empty.txt": b"",
    "100%25 sure.txt": b"b",
    "naïve/файл.bin": content(2, 2 * MIB),
    "deep/er/x+y&z=1?.txt": b"c",
    "deep/#hash;semicolon.txt": b"d",
    "again.bin": LARGE,
    "model.bin": LARGE,
}
COMMAND = [os.environ["HAUL"]] if os.environ.get("HAUL") else [sys.executable, "-m", "haul"]


class Command(HubCase):
    patched = False

    def haul(self, *words, status=0, **environment):
        ended = subprocess.run(
            [*COMMAND, *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "HF_HUB_CACHE": str(self.cache), **environment},
        )
        self.assertEqual(ended.returncode, status, ended.stderr)
        return ended

    def assert_snapshot(self, files=FILES, **how):
        """The client finds it without a request."""
        asked = len(hub.requests)
        found = self.snapshot(local_files_only=True, **how)
        for path, data in files.items():
            self.assert_holds(found / path, data)
        self.assertEqual(len(hub.requests), asked)

    def test_it_leaves_what_the_client_leaves(self):
        self.add(FILES)
        for page in (1000, 3):
            hub.settings.page = page
            self.haul("hf://org/name", HF_HUB_CACHE=str(self.dir / str(page)))
        self.snapshot()
        # Its locks, a mark for backups and its own copy of the listing are the client's alone.
        wanted = {
            path: what
            for path, what in tree(self.cache).items()
            if not {".locks", "CACHEDIR.TAG", "trees"}.intersection(pathlib.Path(path).parts)
        }
        for page in (1000, 3):
            self.assertEqual(tree(self.dir / str(page)), wanted)

    def test_the_client_finds_what_it_fetched(self):
        self.add(FILES)
        self.haul("hf://org/name")
        self.assert_snapshot()
        before = hub.sent_bytes
        self.snapshot()
        self.assertEqual(hub.sent_bytes, before)

    def test_it_fetches_nothing_that_the_client_has(self):
        self.add(FILES)
        self.snapshot()
        before = hub.sent_bytes
        self.haul("hf://org/name")
        # It looks at one byte of each.
        self.assertLessEqual(hub.sent_bytes - before, len(FILES))

    def test_datasets_of_a_tag(self):
        repository = self.add({"data.bin": content(3, MIB)}, kind="datasets")
        repository.commit(self.files({"data.bin": LARGE}), "v1.0")
        self.haul("hf://datasets/org/name@v1.0")
        self.assert_snapshot({"data.bin": LARGE}, repo_type="dataset", revision="v1.0")

    def test_tokens(self):
        self.add(FILES, private=True)
        self.haul("hf://org/name", status=6)
        self.haul("hf://org/name", HF_TOKEN=TOKEN)
        self.assert_snapshot()
        self.add({"model.bin": LARGE}, name="org/gated", gated=True)
        refused = self.haul("hf://org/gated", status=6, HF_TOKEN=TOKEN)
        self.assertIn("ask for access", refused.stderr)
        self.haul("hf://org/gated", HF_TOKEN=GRANTED)
        self.assert_snapshot({"model.bin": LARGE}, repo="org/gated")

    def test_links_that_expire_and_connections_that_end(self):
        self.add({"model.bin": LARGE}, private=True)
        hub.settings.link_seconds = 2
        hub.settings.bytes_per_second = MIB // 2
        hub.settings.cut_bytes = MIB
        self.haul("hf://org/name", HF_TOKEN=TOKEN)
        self.assert_snapshot({"model.bin": LARGE})
        self.assertGreater(len(self.asked("resolve")), 1)

    def test_wrong_content_is_never_published(self):
        for path, data in (("model.bin", LARGE), ("text", b"x" * 1000)):
            with self.subTest(path=path):
                self.add({path: data}, name=f"org/{path}")
                hub.settings.corrupt = path
                self.haul(f"hf://org/{path}", status=9)
                self.assert_nothing_published()
        hub.settings.corrupt = ""
        self.haul("hf://org/model.bin")
        self.assert_snapshot({"model.bin": LARGE}, repo="org/model.bin")

    def test_refusals_that_pass(self):
        self.add(FILES)
        hub.settings.busy_every = 5
        hub.settings.down_share = 0.1
        self.haul("hf://org/name")
        self.assert_snapshot()
        self.assertIn(429, {entry["status"] for entry in hub.requests})
