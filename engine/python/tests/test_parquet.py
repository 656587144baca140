"""Parquet over HTTP, read by pandas, pyarrow and DuckDB through `haul.fsspec`."""

import importlib.util
import random
import tempfile
import unittest

from case import MIB, Case

_NEEDED = ("fsspec", "pandas", "pyarrow", "duckdb")
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
if _MISSING:
    raise unittest.SkipTest(f"{', '.join(_MISSING)} cannot be imported")

import duckdb
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

from haul.fsspec import HaulFileSystem, register

ROWS = 200_000
COLUMNS = 8


def setUpModule():
    register(("haul+http", "haul+https"))


def table():
    values = random.Random(1)
    columns = {"row": pyarrow.array(range(ROWS))}
    for at in range(1, COLUMNS):
        columns[f"c{at}"] = pyarrow.array([values.random() for _ in range(ROWS)])
    return pyarrow.table(columns)


def written(of, **options):
    with tempfile.NamedTemporaryFile() as file:
        pyarrow.parquet.write_table(of, file.name, **options)
        return file.read()


TABLE = table()
FILE = written(TABLE, row_group_size=ROWS // 10, compression="none")


class Parquet(Case):
    objects = {"/table.parquet": FILE, "/2.parquet": FILE}

    def setUp(self):
        super().setUp()
        self.address = "haul+" + self.url("/table.parquet")

    def assert_fetched_below(self, share):
        """That less was fetched of the file than this share of it."""
        fetched = self.origin.served["/table.parquet"] / len(FILE)
        self.assertLess(fetched, share, f"of {len(FILE) / MIB:.1f} MiB")

    def test_pandas(self):
        self.assertTrue(pandas.read_parquet(self.address).equals(TABLE.to_pandas()))
        self.origin.served.clear()
        one = pandas.read_parquet(self.address, columns=["c3"])
        self.assertTrue(one.equals(TABLE.select(["c3"]).to_pandas()))
        self.assert_fetched_below(0.2)

    def test_pandas_sends_headers(self):
        pandas.read_parquet(self.address, columns=["c3"], storage_options={"headers": {"X-Test": "1"}})
        self.assertEqual({fields.get("x-test") for _, fields in self.origin.requests}, {"1"})

    def test_pyarrow(self):
        fs = HaulFileSystem()
        url = self.url("/table.parquet")
        self.assertTrue(pyarrow.parquet.read_table(url, filesystem=fs).equals(TABLE))
        self.origin.served.clear()
        one = pyarrow.parquet.read_table(url, filesystem=fs, columns=["c3"])
        self.assertTrue(one.equals(TABLE.select(["c3"])))
        self.assert_fetched_below(0.2)

    def test_a_dataset_of_pyarrow(self):
        urls = [self.url("/table.parquet"), self.url("/2.parquet")]
        dataset = pyarrow.dataset.dataset(urls, filesystem=HaulFileSystem(), format="parquet")
        self.assertEqual(dataset.count_rows(), 2 * ROWS)
        # Ranges of rows that the footer excludes are not fetched.
        found = dataset.to_table(columns=["c1"], filter=pyarrow.dataset.field("row") < 10)
        self.assertEqual(found.num_rows, 20)
        self.assert_fetched_below(0.15)

    def test_duckdb(self):
        connection = duckdb.connect()
        self.addCleanup(connection.close)
        connection.register_filesystem(HaulFileSystem())
        found = connection.execute(f"SELECT count(*), sum(c3) FROM read_parquet('{self.address}')").fetchone()
        self.assertEqual(found[0], ROWS)
        self.assertAlmostEqual(found[1], sum(TABLE["c3"].to_pylist()), places=3)
        self.assert_fetched_below(0.2)
        with self.assertRaises(Exception):
            connection.execute(f"SELECT * FROM read_parquet('haul+{self.url('/none.parquet')}')").fetchall()


if __name__ == "__main__":
    unittest.main()
