"""`haul.download`: one file."""

import hashlib
import os
import pickle
import signal
import socket
import threading
import time
import unittest

import haul
from case import MIB, Case, python
from origin import content

LARGE = content(1, 12 * MIB + 321)


class Download(Case):
    objects = {"/large.bin": LARGE, "/small.txt": b"a few words", "/empty": b""}

    def test_a_file_is_complete_and_its_summary_says_so(self):
        told = []
        digest = "sha256=" + hashlib.sha256(LARGE).hexdigest()
        self.origin.rate = 40 * MIB
        summary = haul.download(
            self.url("/large.bin"), dir=self.dir, digest=digest, size=len(LARGE), on_progress=told.append
        )
        self.assertEqual(summary.output, str(self.dir / "large.bin"))
        self.assert_holds(summary.output, "/large.bin")
        self.assertEqual(summary.bytes, len(LARGE))
        # The end of a slow connection's part may have come over another one, too.
        self.assertLess(summary.fetched_bytes, 1.2 * len(LARGE))
        self.assertEqual((summary.unchanged, summary.verified), (False, digest))
        self.assertEqual(len(summary.blake3), 64)
        self.assert_files("large.bin")
        self.assertEqual(told[-1].bytes, len(LARGE))
        self.assertEqual([it.bytes for it in told], sorted(it.bytes for it in told))
        self.assertEqual(pickle.loads(pickle.dumps(summary)), summary)

    def test_the_output_may_be_named(self):
        self.assertEqual(
            haul.download(self.url("/small.txt"), "a/b", dir=self.dir).output, str(self.dir / "a/b")
        )
        self.assert_holds(self.dir / "a/b", "/small.txt")
        haul.download(self.url("/empty"), self.dir / "c")
        self.assert_holds(self.dir / "c", "/empty")

    def test_headers_are_sent(self):
        for at, headers in enumerate(({"X-Key": "secret"}, [("X-Key", "secret")])):
            haul.download(self.url("/small.txt"), str(at), dir=self.dir, headers=headers)
            self.assertEqual(self.origin.requests[-1][1]["x-key"], "secret")

    def test_a_file_with_another_digest_gets_no_name(self):
        with self.assertRaises(haul.Error) as caught:
            haul.download(self.url("/small.txt"), dir=self.dir, digest="sha256=" + "0" * 64)
        self.assertEqual((caught.exception.code, caught.exception.retryable), ("digest-mismatch", False))
        self.assertFalse((self.dir / "small.txt").exists())

    def test_errors_say_what_sort_they_are(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/a?secret"
            for url, code, retryable, status in (
                (self.url("/none?secret"), "http-status", False, 404),
                ("ftp://example.org/a", "usage", False, None),
                (nobody, "network", True, None),
            ):
                with self.subTest(code), self.assertRaises(haul.Error) as caught:
                    haul.download(url, dir=self.dir)
                error = caught.exception
                self.assertIsInstance(error, OSError)
                self.assertEqual((error.code, error.retryable, error.status), (code, retryable, status))
                self.assertIsNone(error.checkpoint)
                self.assertNotIn("secret", str(error))
                copy = pickle.loads(pickle.dumps(error))
                self.assertEqual((str(copy), copy.code, copy.status), (str(error), code, status))
        self.assert_files()

    def test_arguments_that_cannot_be_used_are_refused(self):
        for arguments in (
            {"existing": "maybe"},
            {"locked": "maybe"},
        ):
            with self.subTest(arguments), self.assertRaisesRegex(ValueError, "maybe"):
                haul.download(self.url("/small.txt"), dir=self.dir, **arguments)
        with self.assertRaisesRegex(haul.Error, "sha3"):
            haul.download(self.url("/small.txt"), dir=self.dir, digest="sha3=00")
        self.assertEqual(self.origin.requests, [])

    def test_what_exists_is_treated_as_asked(self):
        url, file = self.url("/small.txt"), self.dir / "small.txt"

        def get(existing):
            return haul.download(url, dir=self.dir, existing=existing)

        file.write_bytes(b"other words")
        for existing in ("error", "verify"):
            with self.subTest(existing), self.assertRaises(haul.Error) as caught:
                get(existing)
            self.assertEqual(caught.exception.code, "output-exists")
        summary = get("skip")
        self.assertEqual((summary.unchanged, summary.output), (True, str(file)))
        self.assertEqual(file.read_bytes(), b"other words")
        self.assertFalse(get("overwrite").unchanged)
        self.assert_holds(file, "/small.txt")
        file.unlink()
        self.assertFalse(get("verify").unchanged)
        self.assertTrue(get("verify").unchanged)

    def test_what_a_callback_raises_ends_the_download(self):
        self.origin.rate = 4 * MIB

        class Enough(Exception):
            pass

        def stop(progress):
            if progress.bytes > 6 * MIB:
                raise Enough

        with self.assertRaises(Enough):
            haul.download(self.url("/large.bin"), dir=self.dir, on_progress=stop)
        self.origin.rate = None
        self.assertGreater(haul.download(self.url("/large.bin"), dir=self.dir).resumed_bytes, 0)
        self.assert_holds(self.dir / "large.bin", "/large.bin")

    def test_several_threads_download_at_once(self):
        ended = []

        def get(name):
            ended.append(haul.download(self.url("/large.bin"), name, dir=self.dir).output)

        threads = [threading.Thread(target=get, args=(f"{at}.bin",)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(ended), 8)
        for output in ended:
            self.assert_holds(output, "/large.bin")

    def test_the_interpreter_runs_on_while_it_waits(self):
        self.origin.rate = MIB // 2
        stop = threading.Event()
        thread = threading.Thread(
            target=haul.download,
            args=(self.url("/large.bin"),),
            kwargs={"dir": self.dir, "on_progress": lambda _: None if not stop.is_set() else 1 / 0},
        )
        hook, threading.excepthook = threading.excepthook, lambda _: None
        self.addCleanup(setattr, threading, "excepthook", hook)
        thread.start()

        def longest_pause():
            longest, last = 0, time.monotonic()
            for _ in range(50):
                time.sleep(0.005)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
            self.assertTrue(thread.is_alive())
            return longest

        try:
            self.assert_some_try_is_below(0.2, longest_pause)
        finally:
            stop.set()
            thread.join()


class Interrupted(Case):
    objects = {"/large.bin": LARGE}
    program = """
import sys, haul
print("ready", flush=True)
print(haul.download(sys.argv[1], dir=sys.argv[2], existing="verify").resumed_bytes, flush=True)
"""

    def begin(self):
        process = python("-c", self.program, self.url("/large.bin"), str(self.dir))
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def assert_continues(self):
        self.origin.rate = None
        process = self.begin()
        out, err = process.communicate()
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertGreater(int(out), 0)
        self.assert_holds(self.dir / "large.bin", "/large.bin")
        self.assert_files("large.bin")

    def test_a_killed_process_is_continued(self):
        self.origin.rate = 3 * MIB
        process = self.begin()
        # A checkpoint is written each second, and what it says of is complete segments.
        self.until(lambda: self.origin.served.get("/large.bin", 0) > 9 * MIB, "three quarters of the file")
        process.kill()
        process.communicate()
        self.assert_continues()

    def test_ctrl_c_is_keyboard_interrupt_at_once(self):
        self.origin.rate = 4 * MIB
        process = self.begin()
        self.until(lambda: self.origin.served.get("/large.bin", 0) > 6 * MIB, "half of the file")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertTrue(err.endswith("KeyboardInterrupt\n"), err)
        self.assert_continues()

    def test_keyboard_interrupt_is_not_delayed(self):
        self.origin.rate = MIB // 4
        sent = []

        def interrupt():
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        def delay():
            timer = threading.Timer(0.3, interrupt)
            timer.start()
            with self.assertRaises(KeyboardInterrupt):
                haul.download(self.url("/large.bin"), dir=self.dir)
            took = time.monotonic() - sent[-1]
            timer.join()
            return took

        # It looks for signals every 50 ms.
        self.assert_some_try_is_below(0.2, delay)

    def test_what_another_process_downloads_is_locked(self):
        self.origin.rate = 6 * MIB
        process = self.begin()
        self.until((self.dir / "large.bin.haul").exists, "a checkpoint")
        with self.assertRaises(haul.Error) as caught:
            haul.download(self.url("/large.bin"), dir=self.dir)
        self.assertEqual((caught.exception.code, caught.exception.retryable), ("locked", True))
        self.origin.rate = None
        summary = haul.download(self.url("/large.bin"), dir=self.dir, locked="wait", existing="verify")
        self.assertTrue(summary.unchanged)
        process.communicate()
        self.assert_holds(summary.output, "/large.bin")


if __name__ == "__main__":
    unittest.main()
