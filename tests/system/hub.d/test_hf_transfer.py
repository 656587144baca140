"""The interface of hf_transfer, by itself and as older clients call it."""

import sys
import unittest

from case import MIB, TOKEN, HubCase, content, haul, hub, huggingface_hub
from huggingface_hub import constants

import haul.hf_transfer

LARGE = content(1, 24 * MIB)


class Transfer(HubCase):
    patched = False

    def test_download_tells_every_byte_and_follows_to_the_cdn(self):
        self.add({"model.bin": LARGE}, private=True)
        told = []
        haul.hf_transfer.download(
            f"{hub.url}/org/name/resolve/main/model.bin",
            str(self.dir / "model.bin"),
            max_files=8,
            chunk_size=10 * MIB,
            parallel_failures=3,
            max_retries=5,
            headers={"authorization": f"Bearer {TOKEN}"},
            callback=told.append,
        )
        self.assert_holds(self.dir / "model.bin", LARGE)
        self.assertEqual(sum(told), len(LARGE))
        self.assertTrue(all(new > 0 for new in told), told)

    def test_it_continues_under_another_link(self):
        repository = self.add({"model.bin": LARGE})
        file = repository.commits[repository.refs["main"]]["model.bin"]
        there = 0

        def stop(new):
            nonlocal there
            there += new
            if there >= len(LARGE) * 2 // 3:
                raise InterruptedError

        output = str(self.dir / "model.bin")
        hub.settings.bytes_per_second = MIB
        with self.assertRaises(InterruptedError):
            haul.hf_transfer.download(hub.link(file, "model.bin"), output, 8, MIB, callback=stop)
        hub.settings.bytes_per_second = 0
        before = hub.sent_bytes
        told = []
        haul.hf_transfer.download(hub.link(file, "other.bin"), output, 8, MIB, callback=told.append)
        self.assert_holds(output, LARGE)
        self.assertEqual(sum(told), len(LARGE))
        self.assertLess(hub.sent_bytes - before, len(LARGE) // 2)

    def test_a_failure_is_raised(self):
        with self.assertRaises(haul.Error) as raised:
            haul.hf_transfer.download(f"{hub.url}/org/none/resolve/main/x", str(self.dir / "x"), 8, MIB)
        self.assertEqual(raised.exception.status, 401)

    @unittest.skipUnless(hasattr(constants, "HF_TRANSFER_CONCURRENCY"), "this client does not call hf_transfer")
    def test_an_older_client_takes_it(self):
        data = content(2, 60 * MIB)
        self.add({"model.bin": data})
        self.addCleanup(setattr, constants, "HF_HUB_ENABLE_HF_TRANSFER", constants.HF_HUB_ENABLE_HF_TRANSFER)
        constants.HF_HUB_ENABLE_HF_TRANSFER = True
        self.addCleanup(sys.modules.pop, "hf_transfer", None)
        sys.modules["hf_transfer"] = haul.hf_transfer
        hub.settings.bytes_per_second = 20 * MIB
        self.assert_holds(huggingface_hub.hf_hub_download("org/name", "model.bin", cache_dir=self.cache), data)
        ranges = [entry for entry in self.asked("cdn") if entry["range"]]
        self.assertGreater(len(ranges), 1)
