"""What the package leaves in a process: after forks, at its end, and after many downloads."""

import asyncio
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time
import unittest

import haul
from case import MIB, Case, python
from origin import content

SMALL = {f"/{at}": content(at, 10_000) for at in range(10)}
LARGE = content(3, 8 * MIB)


def child_downloads(url, directory):
    return haul.download(url, f"{os.getpid()}", dir=directory).output


class Forks(Case):
    objects = {**SMALL, "/large.bin": LARGE}

    def test_a_child_downloads_anew_and_leaves_its_parents_alone(self):
        reader = haul.open(self.url("/large.bin"))
        self.assertEqual(reader.read(10), LARGE[:10])
        many = haul.fetch_many([self.url(path) for path in SMALL], dir=self.dir / "many")
        self.assertTrue(next(many).ok)
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                try:
                    reader.read(1)
                except RuntimeError:
                    child_downloads(self.url("/large.bin"), self.dir)
                    # Nothing is waited for that the parent's threads hold.
                    del reader, many
                    ended = 0
            finally:
                os._exit(ended)
        _, status = os.waitpid(child, 0)
        self.assertEqual(status, 0)
        self.assert_holds(self.dir / str(child), "/large.bin")
        self.assertEqual(reader.read(), LARGE[10:])
        self.assertEqual(sum(result.ok for result in many), 9)

    def test_a_pool_of_forked_workers(self):
        haul.download(self.url("/0"), dir=self.dir)
        with multiprocessing.get_context("fork").Pool(4) as pool:
            arguments = [(self.url(path), str(self.dir / path[1:])) for path in SMALL if path != "/0"]
            outputs = pool.starmap(child_downloads, arguments)
        for (url, _), output in zip(arguments, outputs):
            self.assert_holds(output, url[len(self.origin.url) :])


class Async(Case):
    objects = {**SMALL, "/large.bin": LARGE}

    def test_downloads_beside_each_other(self):
        told = []

        async def main():
            self.origin.rate = 40 * MIB
            large = haul.adownload(self.url("/large.bin"), dir=self.dir, on_progress=told.append)
            missing = haul.adownload(self.url("/none"), dir=self.dir)
            return await asyncio.gather(large, missing, return_exceptions=True)

        summary, error = asyncio.run(main())
        self.assert_holds(summary.output, "/large.bin")
        self.assertEqual(error.code, "http-status")
        self.assertEqual(told[-1].bytes, len(LARGE))

    def test_a_cancelled_download_stops_and_continues(self):
        self.origin.rate = 4 * MIB

        async def main():
            task = asyncio.ensure_future(haul.adownload(self.url("/large.bin"), dir=self.dir))
            while self.origin.served.get("/large.bin", 0) < 4 * MIB:
                await asyncio.sleep(0.01)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            self.origin.rate = None
            return await haul.adownload(self.url("/large.bin"), dir=self.dir)

        self.assertGreater(asyncio.run(main()).resumed_bytes, 0)
        self.assert_holds(self.dir / "large.bin", "/large.bin")

    def test_a_list(self):
        async def main():
            urls = [self.url(path) for path in SMALL] + [self.url("/none")]
            return [result async for result in haul.afetch_many(urls, dir=self.dir)]

        results = asyncio.run(main())
        self.assertEqual(sorted(result.ok for result in results), [False] + [True] * 10)
        for result in results:
            if result.ok:
                self.assert_holds(result.output, result.item[len(self.origin.url) :])

    def test_the_loop_runs_on(self):
        self.origin.rate = 16 * MIB

        async def main():
            task = asyncio.ensure_future(haul.adownload(self.url("/large.bin"), dir=self.dir))
            longest, last = 0, time.monotonic()
            while not task.done():
                await asyncio.sleep(0.005)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
            return longest

        def measure():
            (self.dir / "large.bin").unlink(missing_ok=True)
            return asyncio.run(main())

        self.assert_some_try_is_below(0.2, measure)


LEAKS = """
import os, pathlib, sys, time, haul

def counts():
    own = pathlib.Path("/proc/self")
    lines = (own / "maps").read_text().splitlines()
    return len(os.listdir(own / "task")), len(os.listdir(own / "fd")), len(lines)

urls = [f"{sys.argv[1]}/{at}" for at in range(10)]

def hundred():
    for url in urls * 5:
        haul.download(url, dir=sys.argv[2], existing="overwrite", sync=False)
    for _ in range(5):
        results = list(haul.fetch_many(urls, dir=sys.argv[2], existing="overwrite", sync=False))
        assert len(results) == 10 and all(result.ok for result in results)
    haul.cat_ranges(urls, [0] * 10, [10] * 10)
    haul.open(urls[0]).read(10)

before_any = counts()
hundred()
begun = counts()
for _ in range(10):
    hundred()
# Connections are kept for a while, some tens of them. What each download left would be a thousand.
grown = [now - then for now, then in zip(counts(), begun)]
assert max(grown) < 100, f"more threads, descriptors, mappings: {grown}"
haul._haul.shut_down()
end = time.monotonic() + 10
while counts()[0] > 1 and time.monotonic() < end:
    time.sleep(0.01)
threads, descriptors, _ = counts()
# Tokio keeps a pair of sockets for signals for as long as the process lives.
assert threads == 1 and descriptors <= before_any[1] + 2, f"{before_any}, at the end {counts()}"
"""


class Leaks(Case):
    objects = SMALL

    def test_a_thousand_downloads_leave_nothing(self):
        process = python("-c", LEAKS, self.origin.url, str(self.dir))
        self.addCleanup(process.kill)
        out, err = process.communicate(timeout=100)
        self.assertEqual((process.returncode, out, err), (0, "", ""))


class Ends(Case):
    objects = {**SMALL, "/large.bin": LARGE * 3}

    def run_program(self, text, *words):
        process = python("-c", "import sys, threading, time, haul\n" + text, *words, str(self.dir))
        self.addCleanup(process.kill)
        return process

    def test_no_thread_holds_the_end(self):
        for text in (
            "haul.download(sys.argv[1], dir=sys.argv[2])",
            "next(haul.fetch_many([sys.argv[1]] * 3, dir=sys.argv[2]))",
            "reader = haul.open(sys.argv[1]); reader.read(1)",
            "many = haul.fetch_many([sys.argv[1]], dir=sys.argv[2]); next(many)",
        ):
            with self.subTest(text):
                began = time.monotonic()
                out, err = self.run_program(text, self.url("/0")).communicate(timeout=20)
                self.assertEqual((out, err), ("", ""))
                self.assertLess(time.monotonic() - began, 5)

    def test_a_daemon_thread_that_downloads_does_not_either(self):
        self.origin.rate = 6 * MIB
        text = (
            "threading.Thread(target=haul.download, args=sys.argv[1:2], kwargs={'dir': sys.argv[2]}, daemon=True).start()\n"
            "time.sleep(2.5)"
        )
        process = self.run_program(text, self.url("/large.bin"))
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, 0)
        self.origin.rate = None
        self.assertGreater(haul.download(self.url("/large.bin"), dir=self.dir).resumed_bytes, 0)

    def test_importing_is_quick(self):
        def measure():
            program = "import time; t = time.perf_counter(); import haul; print(time.perf_counter() - t)"
            return float(subprocess.check_output([sys.executable, "-c", program]))

        self.assert_some_try_is_below(0.2, measure, tries=10)


class Command(Case):
    objects = {"/large.bin": LARGE}

    def test_the_command_is_there(self):
        script = pathlib.Path(sys.executable).with_name("haul")
        for words in ([sys.executable, "-m", "haul"], [str(script)]):
            with self.subTest(words):
                if words == [str(script)] and not script.exists():
                    self.skipTest("the package is not installed beside the interpreter")
                said = subprocess.check_output([*words, "--version"], text=True)
                self.assertEqual(said.split()[:2], ["haul", haul.__version__])
                name = str(len(words))
                subprocess.check_call([*words, "-q", self.url("/large.bin"), "-o", str(self.dir / name)])
                self.assert_holds(self.dir / name, "/large.bin")
                ended = subprocess.run(
                    [*words, self.url("/none")], cwd=self.dir, check=False, stderr=subprocess.PIPE
                )
                self.assertEqual(ended.returncode, 8)


if __name__ == "__main__":
    unittest.main()
