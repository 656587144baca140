"""`haul.open`: an object that is read while it downloads."""

import io
import os
import pickle
import signal
import threading
import unittest
import zipfile

import haul
from case import MIB, Case
from origin import content

LARGE = content(2, 8 * MIB + 7)


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for at in range(8):
            made.writestr(f"{at}.bin", content(at, MIB))
    return file.getvalue()


class Reader(Case):
    objects = {"/large.bin": LARGE, "/a.zip": archive(), "/empty": b""}

    def test_it_reads_and_seeks_as_a_file(self):
        with haul.open(self.url("/large.bin")) as reader:
            self.assertIsInstance(reader, io.RawIOBase)
            self.assertEqual((reader.readable(), reader.seekable(), reader.writable()), (True, True, False))
            self.assertEqual((reader.size, reader.url), (len(LARGE), self.url("/large.bin")))
            self.assertEqual(reader.read(100), LARGE[:100])
            self.assertEqual(reader.tell(), 100)
            self.assertEqual(reader.seek(-50, os.SEEK_END), len(LARGE) - 50)
            self.assertEqual(reader.read(), LARGE[-50:])
            self.assertEqual(reader.read(1), b"")
            self.assertEqual(reader.seek(5 * MIB), 5 * MIB)
            buffer = bytearray(1000)
            self.assertEqual(reader.readinto(buffer), 1000)
            self.assertEqual(buffer, LARGE[5 * MIB : 5 * MIB + 1000])
            self.assertEqual(reader.seek(-1000, os.SEEK_CUR), 5 * MIB)
            self.assertEqual(io.BufferedReader(reader).read(10), LARGE[5 * MIB : 5 * MIB + 10])
        self.assertTrue(reader.closed)
        for call in (reader.read, reader.tell, lambda: reader.seek(0)):
            self.assertRaises(ValueError, call)
        self.assertEqual(haul.open(self.url("/large.bin")).readall(), LARGE)
        self.assertEqual(haul.open(self.url("/empty")).read(), b"")

    def test_the_end_is_here_before_the_rest(self):
        self.origin.rate = MIB // 2
        with haul.open(self.url("/large.bin")) as reader:
            reader.seek(-10, os.SEEK_END)
            self.assertEqual(reader.read(), LARGE[-10:])
        self.assertLess(self.origin.served["/large.bin"], len(LARGE))

    def test_an_interrupted_read_loses_no_bytes(self):
        self.origin.rate = MIB
        with haul.open(self.url("/large.bin")) as reader:
            self.assertEqual(reader.read(10), LARGE[:10])
            timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with self.assertRaises(KeyboardInterrupt):
                reader.readall()
            timer.join()
            self.assertEqual(reader.tell(), 10)
            self.origin.rate = None
            self.assertTrue(reader.readall() == LARGE[10:])

    def test_a_pickle_is_read_on_from_the_same_place(self):
        with haul.open(self.url("/large.bin"), headers={"X-Test": "1"}) as reader:
            reader.read(1000)
            pickled = pickle.dumps(reader)
        with pickle.loads(pickled) as copy:
            self.assertEqual((copy.tell(), copy.size, copy.url), (1000, len(LARGE), self.url("/large.bin")))
            self.assertEqual(copy.read(10), LARGE[1000:1010])
            self.assertTrue(copy.readall() == LARGE[1010:])
        self.assertEqual({fields.get("x-test") for _, fields in self.origin.requests}, {"1"})

    def test_a_pickle_of_another_version_is_not_read(self):
        with haul.open(self.url("/large.bin")) as reader:
            reader.read(1000)
            pickled = pickle.dumps(reader)
        self.origin.objects["/large.bin"] = LARGE[::-1]
        with pickle.loads(pickled) as copy:
            for call in (copy.readall, lambda: copy.read(1), lambda: copy.readinto(bytearray(1)), lambda: copy.size):
                with self.assertRaises(haul.Error) as caught:
                    call()
                self.assertEqual(caught.exception.code, "object-changed")

    def test_what_has_no_version_is_not_pickled(self):
        self.origin.versions = False
        with haul.open(self.url("/large.bin")) as reader:
            self.assertRaisesRegex(TypeError, "no version", pickle.dumps, reader)

    def test_programs_that_take_files_take_it(self):
        with haul.open(self.url("/a.zip")) as reader, zipfile.ZipFile(reader) as found:
            self.assertIsNone(found.testzip())
            self.assertEqual(found.read("3.bin"), content(3, MIB))

    def test_failures_are_those_of_downloads(self):
        reader = haul.open(self.url("/none"))
        for call in (reader.read, lambda: reader.size, lambda: reader.seek(-1, os.SEEK_END)):
            with self.assertRaises(haul.Error) as caught:
                call()
            self.assertEqual((caught.exception.code, caught.exception.status), ("http-status", 404))
        with self.assertRaises(haul.Error):
            haul.open("file:///etc/passwd")
        with haul.open(self.url("/large.bin")) as reader:
            self.assertRaises(ValueError, reader.seek, -1)
            self.assertRaises(ValueError, reader.seek, 0, 3)


if __name__ == "__main__":
    unittest.main()
