"""What the tests of this directory share."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import origin

MIB = 1 << 20


class Case(unittest.TestCase):
    """A test with a server, `self.origin`, and an empty directory, `self.dir`."""

    objects = {}

    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.origin = stack.enter_context(origin.Origin(dict(self.objects)).serving())

    def url(self, path):
        return self.origin.url + path

    def assert_holds(self, file, path):
        self.assertTrue(pathlib.Path(file).read_bytes() == self.objects[path], f"{file} is not {path}")

    def assert_files(self, *names):
        """These files are in the directory, and no others."""
        self.assertEqual(sorted(os.listdir(self.dir)), sorted(names))

    def assert_some_try_is_below(self, bound, measure, tries=5):
        """That the shortest of several times is below the bound: a busy machine makes some of them
        long, a defect all."""
        took = []
        while len(took) < tries:
            took.append(measure())
            if took[-1] < bound:
                return
        self.fail(f"{took} s, none below {bound} s")

    def until(self, condition, what, seconds=20):
        """Waits for something that takes its time."""
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} did not happen in {seconds} s")
            time.sleep(0.01)


def python(*words, **options):
    """Starts this interpreter."""
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
