"""The patched client where something goes wrong."""

import signal

from case import MIB, TOKEN, File, HubCase, content, haul, hub

LARGE = content(1, 32 * MIB)
SMALL = content(2, MIB // 2)


class Trouble(HubCase):
    def test_a_killed_download_continues(self):
        self.add({"model.bin": LARGE})
        program = (
            "import haul, huggingface_hub, sys; haul.patch_huggingface_hub();"
            "huggingface_hub.hf_hub_download('org/name', 'model.bin', cache_dir=sys.argv[1])"
        )
        hub.settings.bytes_per_second = MIB // 2
        before = hub.sent_bytes
        first = self.python("-c", program, str(self.cache))
        self.until(lambda: hub.sent_bytes - before >= 24 * MIB or first.poll() is not None, "three quarters", 120)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        self.assertEqual(first.returncode, -signal.SIGKILL)
        self.assert_nothing_published()
        hub.settings.bytes_per_second = 0
        before = hub.sent_bytes
        self.assert_holds(self.get("model.bin"), LARGE)
        # What was in flight and not recorded comes again; without the checkpoint, it would be all.
        self.assertLess(hub.sent_bytes - before, len(LARGE))

    def test_a_link_that_expires_is_renewed(self):
        self.add({"model.bin": LARGE}, private=True)
        # Each response ends early, so that new ones are needed after the first link has expired.
        hub.settings.link_seconds = 2
        hub.settings.bytes_per_second = MIB // 2
        hub.settings.cut_bytes = MIB
        self.assert_holds(self.get("model.bin", token=TOKEN), LARGE)
        self.assertGreater(len(self.asked("resolve")), 1)

    def test_a_branch_that_moves_changes_nothing(self):
        repository = self.add({"text": SMALL})
        before = repository.refs["main"]
        hub.settings.bytes_per_second = MIB // 4
        self.when_sent(MIB // 8, lambda: repository.commit({"text": File(content(3, len(SMALL)))}))
        path = self.get("text")
        self.assert_holds(path, SMALL)
        self.assertIn(before, path)
        self.assertNotEqual(repository.refs["main"], before)

    def test_a_branch_that_moves_between_the_requests_changes_nothing(self):
        from huggingface_hub import file_download

        repository = self.add({"text": SMALL})
        before = repository.refs["main"]
        located = file_download._get_metadata_or_catch_error

        def locate(*args, **kwargs):
            found = located(*args, **kwargs)
            repository.commit({"text": File(content(3, len(SMALL)))})
            return found

        file_download._get_metadata_or_catch_error = locate
        self.addCleanup(setattr, file_download, "_get_metadata_or_catch_error", located)
        path = self.get("text")
        self.assert_holds(path, SMALL)
        self.assertIn(before, path)

    def test_content_that_changes_under_its_name_is_never_published(self):
        repository = self.add({"text": SMALL})
        files = repository.commits[repository.refs["main"]]
        other = File(content(3, len(SMALL)))
        hub.settings.bytes_per_second = MIB // 4
        hub.settings.cut_bytes = MIB // 8
        self.when_sent(MIB // 8, lambda: files.update(text=other))
        with self.assertRaises(haul.Error) as raised:
            self.get("text")
        self.assertIn(raised.exception.code, ("digest-mismatch", "object-changed"))
        self.assert_nothing_published()
        # The next call sees the new version.
        self.assert_holds(self.get("text"), bytes(other.read(0, other.size)))

    def test_wrong_content_is_never_published(self):
        for path, data in (("model.bin", LARGE), ("text", SMALL)):
            with self.subTest(path=path):
                self.add({path: data})
                hub.settings.corrupt = path
                with self.assertRaises(haul.Error) as raised:
                    self.get(path)
                self.assertEqual(raised.exception.code, "digest-mismatch")
                self.assert_nothing_published()
                hub.settings.corrupt = ""
                self.assert_holds(self.get(path), data)
                self.tearDown()
                self.setUp()

    def test_refusals_that_pass(self):
        files = {f"part-{number}.bin": content(number, 4 * MIB) for number in range(6)}
        self.add(files)
        hub.settings.trouble_at = "cdn"
        hub.settings.busy_every = 5
        hub.settings.down_share = 0.1
        found = self.snapshot()
        for path, data in files.items():
            self.assert_holds(found / path, data)
        statuses = {entry["status"] for entry in self.asked("cdn")}
        self.assertIn(429, statuses)

    def test_connections_that_end_early(self):
        self.add({"model.bin": LARGE})
        hub.settings.cut_bytes = 5 * MIB
        self.assert_holds(self.get("model.bin"), LARGE)
