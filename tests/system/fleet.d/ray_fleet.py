"""Ray on this machine."""

import logging
import os

import ray
import scenarios

# More than there are cores, so that parts of two jobs run at once.
WORKERS = 4
PARTS = 8


class RayFleet:
    name = "ray"
    killed = ("python",)
    speculates = False

    def __init__(self, fetch, options):
        self._fetch = fetch
        self._temporary = os.path.join(options.work, "ray")

    def start(self):
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            object_store_memory=100 << 20,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=self._temporary,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False

    def fetch(self, items, directory):
        return self._fetch(items, directory, PARTS).take_all()

    def stop(self):
        ray.shutdown()


def main(fetch):
    scenarios.main(lambda options: RayFleet(fetch, options))
