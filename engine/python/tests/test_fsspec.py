"""`haul.fsspec`: objects on HTTP servers as files of fsspec."""

import importlib.metadata
import importlib.util
import io
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import unittest

import haul
from case import MIB, Case
from origin import content

if importlib.util.find_spec("fsspec") is None:
    raise unittest.SkipTest("fsspec is not installed")

import fsspec
from fsspec.callbacks import Callback

from haul.fsspec import HaulFileSystem, register

LARGE = content(2, 8 * MIB + 7)
OTHER = content(9, 8 * MIB + 7)
TEXT = b"".join(b"line %d\n" % at for at in range(1000))


def setUpModule():
    # The tests of entry points begin interpreters of their own.
    register(("haul+http", "haul+https"))


BIG_TEXT = b"".join(b"%07d and the rest of a line\n" % at for at in range(400_000))


class Changing(dict):
    """Objects that are another version each time they are asked for."""

    def __init__(self, *versions):
        self._versions = itertools.cycle(versions)

    def __contains__(self, path):
        return True

    def __getitem__(self, path):
        return next(self._versions)


class FileSystemCase(Case):
    objects = {"/large.bin": LARGE, "/a": b"a" * 10, "/b": b"b" * 20, "/empty": b"", "/text": TEXT, "/lines": BIG_TEXT}

    def setUp(self):
        super().setUp()
        self.fs = HaulFileSystem()

    def served(self, path):
        return self.origin.served.get(path, 0)

    def until_served(self, path, size):
        """Waits until the server has counted as many bytes, which are here before that."""
        self.until(lambda: self.served(path) >= size, f"serving {size} bytes of {path}")
        self.assertEqual(self.served(path), size)


class Info(FileSystemCase):
    def test_the_first_byte_tells(self):
        self.origin.dates["/large.bin"] = 1_000_000_000
        url = self.url("/large.bin")
        info = self.fs.info("haul+" + url)
        self.assertEqual((info["name"], info["size"], info["type"]), (url, len(LARGE), "file"))
        self.assertEqual((info["mtime"], info["partial"]), (1_000_000_000, True))
        self.assertTrue(info["ETag"].startswith('"'))
        self.until_served("/large.bin", 1)
        self.assertEqual(self.fs.modified(url).timestamp(), 1_000_000_000)
        self.assertGreater(self.fs.modified(self.url("/a")).timestamp(), 1_700_000_000)
        self.assertEqual(self.fs.size(url), len(LARGE))

    def test_without_a_first_byte_and_without_parts(self):
        self.assertEqual(self.fs.info(self.url("/empty"))["size"], 0)
        self.origin.ranges = False
        info = self.fs.info(self.url("/text"))
        self.assertEqual((info["size"], info["partial"]), (len(TEXT), False))

    def test_failures_are_those_of_files(self):
        self.origin.refused.update({"/401": 401, "/403": 403, "/400": 400, "/410": 410})
        for path, kind in (
            ("/none", FileNotFoundError),
            ("/410", FileNotFoundError),
            ("/401", PermissionError),
            ("/403", PermissionError),
            ("/400", haul.Error),
        ):
            url = self.url(path)
            for call in (
                lambda: self.fs.info(url),
                lambda: self.fs.open(url),
                lambda: self.fs.cat_file(url),
                lambda: self.fs.cat_file(url, 0, 1),
                lambda: self.fs.get_file(url, self.dir / "file"),
            ):
                with self.subTest(path), self.assertRaises(kind) as caught:
                    call()
                self.assertIsInstance(caught.exception, haul.Error)
                self.assertIsInstance(caught.exception.status, int)
                copy = pickle.loads(pickle.dumps(caught.exception))
                self.assertEqual((type(copy), str(copy)), (type(caught.exception), str(caught.exception)))
        self.assert_files()

    def test_what_exists(self):
        self.assertTrue(self.fs.exists(self.url("/a")) and self.fs.isfile(self.url("/a")))
        self.assertFalse(self.fs.exists(self.url("/none")) or self.fs.isfile(self.url("/none")))
        self.assertFalse(self.fs.isdir(self.url("/a")))
        self.origin.refused["/a"] = 403
        for call in (self.fs.exists, self.fs.isfile):
            self.assertRaises(PermissionError, call, self.url("/a"))

    def test_nothing_is_listed(self):
        url = self.url("/a")
        self.assertEqual(self.fs.ls(url, detail=False), [url])
        self.assertEqual(self.fs.ls(url)[0]["size"], 10)
        self.assertEqual(self.fs.find(url), [url])
        self.assertEqual(self.fs.glob(url + "?q=[1]*"), [url + "?q=[1]*"])
        self.assertEqual(self.fs.glob(self.url("/none")), [])
        for call in (self.fs.glob, self.fs.cat, lambda path: self.fs.get(path, self.dir)):
            with self.assertRaisesRegex(NotImplementedError, r"/\*\.bin is a pattern"):
                call(self.url("/*.bin?secret"))

    def test_options_that_would_have_no_effect_are_refused(self):
        with self.assertRaisesRegex(TypeError, "client_kwargs"):
            HaulFileSystem(client_kwargs={"headers": {}})
        self.assertRaises(NotImplementedError, self.fs.open, self.url("/a"), "wb")

    def test_headers_are_sent(self):
        fs = pickle.loads(pickle.dumps(HaulFileSystem(headers={"X-Test": "1"})))
        url = self.url("/text")
        fs.info(url)
        fs.cat(url)
        fs.open(url).read(1)
        fs.get([url, self.url("/a")], [str(self.dir / "1"), str(self.dir / "2")])
        fs.get_file(url, str(self.dir / "3"))
        self.assertEqual({fields.get("x-test") for _, fields in self.origin.requests}, {"1"})


class Contents(FileSystemCase):
    def test_parts_are_those_of_slices(self):
        url = self.url("/a")
        self.origin.objects["/a"] = TEXT
        for start, end in itertools.product((None, 0, 5, -5, 10**6, -(10**6)), (None, 0, 7, -3, 10**6)):
            with self.subTest(start=start, end=end):
                self.assertEqual(self.fs.cat_file("haul+" + url, start, end), TEXT[start:end])
        self.assertEqual(self.fs.cat_file(self.url("/empty"), 0, 10), b"")

    def test_many(self):
        urls = [self.url(path) for path in ("/a", "/b", "/none")]
        self.assertEqual(self.fs.cat(urls[0]), b"a" * 10)
        self.assertEqual(self.fs.cat(urls[:2]), {urls[0]: b"a" * 10, urls[1]: b"b" * 20})
        self.assertRaises(FileNotFoundError, self.fs.cat, urls)
        returned = self.fs.cat(urls, on_error="return")
        self.assertEqual(list(returned), urls)
        self.assertIsInstance(returned[urls[2]], FileNotFoundError)
        self.assertEqual(list(self.fs.cat(urls, on_error="omit")), urls[:2])

    def test_ranges(self):
        urls = [self.url(path) for path in ("/a", "/b", "/none", "/b")]
        found = self.fs.cat_ranges(urls, [1, 2, 0, -3], [3, 5, 1, None])
        self.assertEqual([found[at] for at in (0, 1, 3)], [b"aa", b"bbb", b"bbb"])
        self.assertIsInstance(found[2], FileNotFoundError)
        # A list without the failed one would have its ranges at other places.
        for on_error in ("raise", "omit"):
            self.assertRaises(FileNotFoundError, self.fs.cat_ranges, urls, 0, 1, on_error=on_error)
        self.assertEqual(self.fs.cat_ranges(urls[:2], 0, 1), [b"a", b"b"])
        self.assertRaises(ValueError, self.fs.cat_ranges, urls, [0], [1])
        self.assertRaises(TypeError, self.fs.cat_ranges, urls[0], [0], [1])

    def test_ranges_of_two_versions_are_an_error(self):
        self.origin.objects = Changing(LARGE, OTHER)
        url = self.url("/large.bin")
        first, second = self.fs.cat_ranges([url] * 2, [0, 100], [10, 110])
        self.assertIsInstance(first, bytes)
        self.assertEqual(second.code, "object-changed")
        with self.assertRaises(haul.Error) as caught:
            self.fs.cat_file(url, -10, -1)
        self.assertEqual(caught.exception.code, "object-changed")


    def test_without_parts_ranges_are_of_one_download(self):
        self.origin.ranges = self.origin.versions = False
        self.origin.objects = Changing(LARGE, OTHER)
        url = self.url("/large.bin")
        parts = self.fs.cat_ranges([url] * 3, [0, MIB, -10], [10, MIB + 10, None])
        self.assertIn(parts, [[of[:10], of[MIB : MIB + 10], of[-10:]] for of in (LARGE, OTHER)])
        self.assertIn(self.fs.cat_file(url, -10, -1), [LARGE[-10:-1], OTHER[-10:-1]])


class Files(FileSystemCase):
    def test_one_is_downloaded(self):
        told, output = Callback(), self.dir / "made" / "large.bin"
        self.fs.get_file(self.url("/large.bin"), str(output), callback=told)
        self.assert_holds(output, "/large.bin")
        self.assertEqual((told.size, told.value), (len(LARGE), len(LARGE)))
        self.origin.objects["/large.bin"] = OTHER
        self.fs.get(self.url("/large.bin"), str(output))
        self.assertTrue(output.read_bytes() == OTHER)
        into, told = io.BytesIO(), Callback()
        self.fs.get_file(self.url("/large.bin"), into, callback=told)
        self.assertTrue(into.getvalue() == OTHER)
        self.assertEqual((told.size, told.value), (len(OTHER), len(OTHER)))

    def test_one_is_named_in_a_directory(self):
        self.fs.get(self.url("/a?query"), str(self.dir))
        self.assert_holds(self.dir / "a", "/a")
        self.assertRaises(ValueError, self.fs.get, self.url("/"), str(self.dir))
        self.assert_files("a")

    def test_files_of_one_name_are_refused(self):
        with self.assertRaises(ValueError):
            self.fs.get([self.url("/a"), self.url("/a?2")], str(self.dir))
        self.assert_files()

    def test_many_are_downloaded(self):
        urls = [self.url(path) for path in ("/a", "/b", "/text")]
        files = [self.dir / "1", self.dir / "sub" / "2", self.dir / "3"]
        files[0].write_bytes(b"older")
        told = Callback()
        self.fs.get(urls, [str(file) for file in files], callback=told)
        for file, path in zip(files, ("/a", "/b", "/text")):
            self.assert_holds(file, path)
        self.assertEqual((told.size, told.value), (3, 3))
        self.fs.get(urls, str(self.dir / "all"))
        self.assert_holds(self.dir / "all" / "text", "/text")
        with self.assertRaises(FileNotFoundError):
            self.fs.get([self.url("/none"), *urls], str(self.dir / "others"))
        self.assertEqual(len(os.listdir(self.dir / "others")), 3)
        self.assertRaises(ValueError, self.fs.get, urls, ["1"])


class Open(FileSystemCase):
    def test_it_reads_as_a_file(self):
        with self.fs.open("haul+" + self.url("/large.bin")) as file:
            self.assertEqual((file.size, file.seekable(), file.writable()), (len(LARGE), True, False))
            self.assertEqual(file.read(100), LARGE[:100])
            self.assertEqual(file.seek(-50, 2), len(LARGE) - 50)
            self.assertEqual(file.read(), LARGE[-50:])
            self.assertEqual(file.read(1), b"")
            for at in (5 * MIB, 5 * MIB - 70_000, 0, 3):
                file.seek(at)
                self.assertEqual(file.read(90_000), LARGE[at : at + 90_000])
        self.assertRaises(ValueError, file.read, 1)
        with self.fs.open(self.url("/text"), "r") as file:
            self.assertEqual(list(file), TEXT.decode().splitlines(keepends=True))

    def test_any_order_of_reads_is_right(self):
        for cache_type in ("haul", "none", "readahead", "bytes"):
            with self.subTest(cache_type), self.fs.open(
                self.url("/large.bin"), cache_type=cache_type, block_size=200_000
            ) as file:
                for at in range(60):
                    offset, size = (at * 7919 * 131) % len(LARGE), (at * 104729) % 300_000
                    if at % 3:
                        offset = file.tell()
                    file.seek(offset)
                    self.assertTrue(file.read(size) == LARGE[offset : offset + size])

    def test_only_what_is_read_is_fetched(self):
        with self.fs.open(self.url("/large.bin")) as file:
            for at in (0, 4 * MIB, 2 * MIB):
                file.seek(at)
                file.read(1000)
        self.assertLess(self.served("/large.bin"), 3 * 70_000)

    def test_reading_in_order_takes_few_requests(self):
        with self.fs.open(self.url("/large.bin")) as file:
            while file.read(10_000):
                pass
        self.until_served("/large.bin", len(LARGE) + 1)
        self.assertLess(len(self.origin.requests), 15)

    def test_lines_of_a_large_object_are_fetched_once(self):
        with self.fs.open(self.url("/lines"), "rb") as file:
            lines = sum(1 for _ in file)
        self.assertEqual(lines, 400_000)
        self.until_served("/lines", len(BIG_TEXT) + 1)
        self.assertLess(len(self.origin.requests), 20)

    def test_no_secret_is_shown(self):
        url = self.url("/a").replace("//", "//user:hunter2@") + "?sig=hunter2"
        with self.fs.open(url) as file:
            self.assertNotIn("hunter2", f"{file} {file!r}")
        for call in (lambda: self.fs.glob(url.replace("/a", "/*")), lambda: self.fs.get([url + "/"], str(self.dir))):
            try:
                call()
            except (NotImplementedError, ValueError) as error:
                self.assertNotIn("hunter2", str(error))

    def test_a_changed_object_is_an_error(self):
        for other in (OTHER, LARGE[:-1], b"", LARGE[: MIB]):
            self.origin.objects["/large.bin"] = LARGE
            with self.subTest(len(other)), self.fs.open(self.url("/large.bin")) as file:
                file.read(10)
                copy = pickle.dumps(file)
                self.origin.objects["/large.bin"] = other
                for reads in (file, pickle.loads(copy)):
                    reads.seek(4 * MIB)
                    with self.assertRaises(haul.Error) as caught:
                        reads.read(10)
                    self.assertEqual((caught.exception.code, caught.exception.retryable), ("object-changed", True))

    def test_the_date_shows_a_change_where_there_is_no_entity_tag(self):
        url = self.url("/large.bin")
        for versions in (True, False):
            self.origin.versions = versions
            self.origin.dates["/large.bin"] = 1_000_000_000
            with self.subTest(versions), self.fs.open(url) as file:
                self.origin.dates["/large.bin"] += 10
                if versions:
                    self.assertEqual(file.read(10), LARGE[:10])
                else:
                    self.assertRaises(haul.Error, file.read, 10)

    def test_a_file_is_pickled_with_its_offset(self):
        with self.fs.open(self.url("/large.bin"), block_size=MIB) as file:
            file.seek(1000)
            asked = len(self.origin.requests)
            with pickle.loads(pickle.dumps(file)) as copy:
                self.assertEqual(len(self.origin.requests), asked)
                self.assertEqual((copy.tell(), copy.blocksize, copy.size), (1000, MIB, len(LARGE)))
                self.assertEqual(copy.read(10), LARGE[1000:1010])

    def test_without_versions_or_parts_the_object_is_downloaded_once(self):
        for name in ("versions", "ranges"):
            with self.subTest(name):
                setattr(self.origin, name, False)
                with self.fs.open(self.url("/large.bin")) as file:
                    self.assertEqual(file.size, len(LARGE))
                    file.seek(5 * MIB)
                    self.assertEqual(file.read(10), LARGE[5 * MIB : 5 * MIB + 10])
                    file.seek(0)
                    self.assertTrue(file.read() == LARGE)
                    self.assertRaisesRegex(TypeError, "cannot be pickled", pickle.dumps, file)
                setattr(self.origin, name, True)


class Versions(FileSystemCase):
    def test_keys_are_of_versions(self):
        url = self.url("/a")
        first = self.fs.ukey(url)
        self.assertEqual((self.fs.ukey(url), self.fs.checksum(url)), (first, int(first, 16)))
        self.origin.objects["/a"] = b"A" * 10
        self.assertNotEqual(self.fs.ukey(url), first)
        self.origin.versions = False
        self.assertNotEqual(self.fs.ukey(url), self.fs.ukey(url))

    def test_caches_of_fsspec(self):
        url = "haul+" + self.url("/text")
        for chain, options in (("simplecache", {}), ("filecache", {"check_files": True})):
            with self.subTest(chain), tempfile.TemporaryDirectory() as storage:
                self.origin.objects["/text"] = TEXT
                options = {chain: {"cache_storage": storage, **options}}
                for _ in range(2):
                    before = self.served("/text")
                    with fsspec.open(f"{chain}::{url}", **options) as file:
                        self.assertEqual(file.read(), TEXT)
                # Only the key of the version is asked for again.
                self.assertLess(self.served("/text") - before, 10)
                self.origin.objects["/text"] = TEXT[::-1]
                with fsspec.open(f"{chain}::{url}", **options) as file:
                    self.assertEqual(file.read(), TEXT if chain == "simplecache" else TEXT[::-1])

    def test_caches_of_many(self):
        urls = [f"simplecache::haul+{self.url(path)}" for path in ("/a", "/b")]
        with tempfile.TemporaryDirectory() as storage:
            with fsspec.open_files(urls, simplecache={"cache_storage": storage}) as files:
                for file, data in zip(files, (b"a" * 10, b"b" * 20)):
                    with file:
                        self.assertEqual(file.read(), data)


class Registry(FileSystemCase):
    def said(self, program):
        return subprocess.check_output([sys.executable, "-c", program, self.url("/a")], text=True).strip()

    def test_importing_haul_does_not_import_it(self):
        self.assertEqual(self.said("import haul, sys; print('fsspec' in sys.modules)"), "False")

    def test_it_is_known_where_the_package_is_installed(self):
        try:
            importlib.metadata.distribution("haul-download")
        except importlib.metadata.PackageNotFoundError:
            self.skipTest("the package is not installed")
        program = (
            "import fsspec, sys\n"
            "from fsspec.registry import known_implementations\n"
            "print(fsspec.open('haul+' + sys.argv[1]).open().read().decode())\n"
            "print('haul' in known_implementations['http']['class'])"
        )
        self.assertEqual(self.said(program).split(), ["a" * 10, "False"])

    def test_it_is_the_default_where_a_program_says_so(self):
        program = (
            "import fsspec, haul.fsspec, sys\n"
            "haul.fsspec.register()\n"
            "fs, path = fsspec.url_to_fs(sys.argv[1])\n"
            "print(type(fs) is haul.fsspec.HaulFileSystem, path == sys.argv[1])\n"
            "print(type(fsspec.filesystem('https')) is haul.fsspec.HaulFileSystem, fs.cat(path).decode())"
        )
        self.assertEqual(self.said(program).split(), ["True", "True", "True", "a" * 10])


if __name__ == "__main__":
    unittest.main()
