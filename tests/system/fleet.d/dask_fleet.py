"""Dask on this machine, with a process for each worker."""

import os

import dask
import scenarios
from dask.distributed import Client, LocalCluster

# More than there are cores, so that parts of two jobs run at once.
WORKERS = 4
PARTS = 8


class DaskFleet:
    name = "dask"
    killed = ("python",)
    speculates = False

    def __init__(self, fetch, options):
        self._fetch = fetch
        self._cluster = None
        dask.config.set({"temporary-directory": os.path.join(options.work, "dask")})

    def start(self):
        self._cluster = LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
        )
        self._client = Client(self._cluster)

    def fetch(self, items, directory):
        return list(self._fetch(self._client, items, directory, PARTS))

    def stop(self):
        if self._cluster is not None:
            self._client.close()
            self._cluster.close()
            self._cluster = None


def main(fetch):
    scenarios.main(lambda options: DaskFleet(fetch, options))
