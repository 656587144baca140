"""`haul.fetch_many` and `haul.cat_ranges`."""

import hashlib
import json
import os
import unittest

import haul
from case import MIB, Case
from origin import content

OBJECTS = {f"/{at:03}.bin": content(at, 20_000 + at) for at in range(60)}


class Lists(Case):
    objects = {**OBJECTS, "/large.bin": content(99, 3 * MIB)}

    def urls(self):
        return [self.url(path) for path in OBJECTS]

    def test_each_item_has_one_result(self):
        self.origin.refused = {"/007.bin": 404, "/050.bin": 403}
        wrong = {"url": self.url("/003.bin"), "out": "wrong", "digest": "sha256=" + "0" * 64}
        strange = [wrong, "ftp://example.org/a", {"url": self.url("/001.bin"), "outt": "b"}, 7]
        items = self.urls() + [self.url("/large.bin")] + strange
        results = list(haul.fetch_many(iter(items), dir=self.dir))
        self.assertEqual(len(results), len(items))
        ended = {id(result.item): result for result in results}
        self.assertEqual(set(ended), {id(item) for item in items})
        failed = {str(result.item): result.error.code for result in results if not result.ok}
        self.assertEqual(
            failed,
            {
                self.url("/007.bin"): "http-status",
                self.url("/050.bin"): "access-denied",
                str(wrong): "digest-mismatch",
                strange[1]: "usage",
                str(strange[2]): "usage",
                "7": "usage",
            },
        )
        for result in results:
            if result.ok:
                self.assert_holds(result.output, result.item[len(self.origin.url) :])
                self.assertEqual(result.unwrap(), result.summary)
            else:
                self.assertIsNone(result.output)
                self.assertRaises(haul.Error, result.unwrap)

    def test_items_are_what_lists_of_the_command_have(self):
        one = OBJECTS["/001.bin"]
        items = [
            (self.url("/000.bin"), "pair"),
            {"urls": [self.url("/none"), self.url("/001.bin")], "out": "a/b", "size": len(one),
             "digest": "sha256=" + hashlib.sha256(one).hexdigest()},
            {"url": self.url("/002.bin"), "dir": "c", "headers": {"X-Key": "1"}},
        ]
        results = {result.output: result for result in haul.fetch_many(items, dir=self.dir)}
        self.assertEqual(set(results), {str(self.dir / name) for name in ("pair", "a/b", "c/002.bin")})
        self.assert_holds(self.dir / "a/b", "/001.bin")
        self.assertIn("1", [fields.get("x-key") for _, fields in self.origin.requests])
        with self.assertRaises(haul.Error):
            next(haul.fetch_many([(self.url("/000.bin"), "../up")], dir=self.dir)).unwrap()

    def test_the_record_knows_the_digests_of_what_is_complete(self):
        digest = "sha256=" + hashlib.sha256(OBJECTS["/000.bin"]).hexdigest()
        items = [{"url": self.url("/000.bin"), "digest": digest}, self.url("/001.bin")]
        calls = []
        for _ in range(2):
            results = haul.fetch_many(items, dir=self.dir / "d", results=self.dir / "record.jsonl")
            summaries = sorted(result.unwrap() for result in results)
            calls.append([(it.output, it.bytes, it.blake3, it.verified) for it in summaries])
        self.assertEqual(calls[0], calls[1])
        self.assertEqual([it[3] for it in calls[1]], [digest, None])
        self.assertEqual(sum(self.origin.served.values()), len(OBJECTS["/000.bin"]) + len(OBJECTS["/001.bin"]))

    def test_the_same_call_again_fetches_what_is_missing(self):
        self.origin.refused = {"/007.bin": 404}
        record = self.dir / "record.jsonl"
        for results in (None, record):
            with self.subTest(results=results):
                for refused, fetched in (({"/007.bin": 404}, None), ({}, len(OBJECTS["/007.bin"]))):
                    self.origin.refused = refused
                    self.origin.served.clear()
                    all_results = list(haul.fetch_many(self.urls(), dir=self.dir / "d", results=results))
                    self.assertEqual(len(all_results), 60)
                    self.assertEqual(sum(not result.ok for result in all_results), len(refused))
                    for result in all_results:
                        if result.ok:
                            self.assert_holds(result.output, result.item[len(self.origin.url) :])
                            self.assertEqual(result.summary.bytes, os.stat(result.output).st_size)
                    if fetched is not None and results:
                        self.assertEqual(sum(self.origin.served.values()), fetched)
                (self.dir / "d" / "007.bin").unlink()
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        self.assertEqual(sorted(line["status"] for line in lines), ["complete"] * 60 + ["failed"])

    def test_a_file_that_nobody_looked_at_is_recorded_as_skipped(self):
        record = self.dir / "record.jsonl"
        (self.dir / "000.bin").write_bytes(b"something else")
        items = [(self.url("/000.bin"), "000.bin"), (self.url("/001.bin"), "001.bin")]
        results = list(haul.fetch_many(items, dir=self.dir, results=record, existing="skip"))
        self.assertEqual([result.ok for result in results], [True, True])
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        self.assertEqual(sorted(line["status"] for line in lines), ["complete", "skipped"])
        again = list(haul.fetch_many(items, dir=self.dir, results=record, existing="overwrite"))
        self.assertEqual([result.ok for result in again], [True, True])
        self.assert_holds(self.dir / "000.bin", "/000.bin")

    def test_items_are_read_a_few_ahead(self):
        read = []

        def items():
            for at in range(1000):
                read.append(at)
                yield f"ftp://example.org/{at}"

        results = haul.fetch_many(items(), dir=self.dir)
        next(results)
        # As many results wait in the iterator as items are ahead of it.
        self.assertLessEqual(len(read), 2 * 64)
        self.assertEqual(sum(1 for _ in results), 999)

    def test_it_stops_when_it_is_closed(self):
        self.origin.rate = MIB
        results = haul.fetch_many(self.urls() * 1, dir=self.dir, jobs=2)
        self.assertTrue(next(results).ok)
        results.close()
        self.assertRaises(StopIteration, next, results)
        count = len(self.origin.requests)
        self.until(lambda: len(self.origin.requests) < 60, "an end")
        self.assertLess(count, 60)

    def test_what_the_iterable_raises_is_raised(self):
        def broken():
            yield self.url("/000.bin")
            raise KeyError("broken")

        with self.assertRaises(KeyError):
            list(haul.fetch_many(broken(), dir=self.dir))

    def test_jobs_bound_what_runs_at_a_time(self):
        self.assertEqual(sum(it.ok for it in haul.fetch_many(self.urls(), dir=self.dir, jobs=1)), 60)
        with self.assertRaises((ValueError, OverflowError)):
            haul.fetch_many(self.urls(), dir=self.dir, jobs=0)
        self.assertEqual(list(haul.fetch_many([], dir=self.dir)), [])


class Ranges(Case):
    objects = OBJECTS

    def test_ranges_come_in_the_order_of_the_arguments(self):
        paths = list(OBJECTS)
        urls = [self.url(path) for path in paths] + [self.url("/none")]
        starts = [at * 10 for at in range(60)] + [0]
        ends = [at * 10 + 100 for at in range(60)] + [1]
        got = haul.cat_ranges(urls, starts, ends)
        for path, start, end, data in zip(paths, starts, ends, got):
            self.assertEqual(data, OBJECTS[path][start:end])
        self.assertIsInstance(got[60], haul.Error)
        self.assertEqual((got[60].code, got[60].status), ("http-status", 404))

    def test_ends_may_be_left_out(self):
        url, whole = self.url("/000.bin"), OBJECTS["/000.bin"]
        starts = [None, 0, 19_000, -100, 5, 19_990]
        ends = [None, 10, None, None, 5, 30_000]
        got = haul.cat_ranges(url, starts, ends)
        wanted = [whole, whole[:10], whole[19_000:], whole[-100:], b"", whole[19_990:]]
        self.assertEqual(got, wanted)
        with self.assertRaisesRegex(ValueError, "1 starts"):
            haul.cat_ranges([url, url], [0], [1])
        with self.assertRaises(ValueError):
            haul.cat_ranges(url, [-5], [10])


if __name__ == "__main__":
    unittest.main()
