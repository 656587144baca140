"""What must hold when a fleet fetches a list: with errors, killed, twice at once, and again.

Prints a line for each check: `ok` or `FAILED`, a TAB, and the text.
"""

import argparse
import hashlib
import itertools
import os
import pathlib
import random
import shutil
import signal
import threading
import time
import traceback

import ledger
import processes

# As many of the items are refused once.
REFUSED_ONCE = 0.05

# A large object takes so long: a kill may cost a second, which has to be little of it, and on a busy machine nothing
# may wait in sockets.
SECONDS = 8

# The most that may be fetched, as a part of the bytes that there are.
MOST = 1.05

# The word for a status that stays.
WORDS = {401: "access-denied", 403: "access-denied"}

# No job here takes so long, on the busiest machine.
LONGEST_JOB = 600


def check(holds, text):
    print(f"{'ok' if holds else 'FAILED'}\t{text}", flush=True)
    return holds


def until(condition, seconds):
    """Waits for a condition, and returns whether it came."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def megabytes(count):
    return f"{count / 1e6:.1f} MB"


class Job:
    """A job of the fleet, in a thread."""

    def __init__(self, fetch):
        self.rows = None
        self.error = None
        self._thread = threading.Thread(target=self._run, args=[fetch], daemon=True)
        self._thread.start()

    def _run(self, fetch):
        try:
            self.rows = fetch()
        except Exception:  # all of them are told
            self.error = traceback.format_exc()

    @property
    def runs(self):
        return self._thread.is_alive()

    def end(self):
        """Its rows. A job that failed or hangs ends the program."""
        self._thread.join(LONGEST_JOB)
        if self.rows is None:
            raise SystemExit(self.error or f"a job has not ended after {LONGEST_JOB} s")
        return self.rows


class Disk:
    """How long the disk takes to store something."""

    def __init__(self, directory):
        self._took = []
        self._file = open(directory / "probe", "wb", buffering=0)
        threading.Thread(target=self._probe, daemon=True).start()

    def _probe(self):
        while True:
            began = time.monotonic()
            self._file.write(b"x")
            os.fsync(self._file.fileno())
            self._took.append((began, time.monotonic() - began))
            time.sleep(0.1)

    def slowest(self, since):
        """The longest that it took since then, in seconds."""
        return max((took for began, took in list(self._took) if began + took >= since), default=0)


class Scenarios:
    """All scenarios on one fleet, which has `start(twice_at_once)`, `stop()`, `fetch(items, directory)` and the
    programs `killed`, one of which is killed at a time: a worker in Python, or the JVM above it."""

    def __init__(self, fleet, options):
        self.fleet = fleet
        self.work = pathlib.Path(options.work)
        self.refused = options.refused
        self.wanted = options.scenarios
        self.random = random.Random(options.seed)
        self.objects = ledger.objects(options.small, options.large, options.large_bytes)
        self.total = sum(map(len, self.objects.values()))
        self.sums = {path: hashlib.sha256(data).hexdigest() for path, data in self.objects.items()}
        self.origin = ledger.Ledger(self.objects, options.rate)

    def run(self, rounds):
        self.disk = Disk(self.work)
        with self.origin.serving():
            self.port = int(self.origin.url.rpartition(":")[2])
            try:
                for number in range(1, rounds + 1):
                    self.label = f"{self.fleet.name}, round {number}"
                    self.fleet.start()
                    if "again" in self.wanted:
                        self.comes_back()
                    for program in self.fleet.killed:
                        if "killed" in self.wanted:
                            self.killed(program)
                    if "twice" in self.wanted:
                        self.twice()
                    self.stop()
            finally:
                self.fleet.stop()

    def comes_back(self):
        """Errors that pass and errors that stay, then all machines anew, and the job again."""
        label = f"{self.label}, errors"
        items, directory = self.begin("errors")
        paths = sorted(self.objects)
        self.origin.once = set(self.random.sample(paths, max(1, int(REFUSED_ONCE * len(paths)))))
        small = [path for path in paths if path.startswith("/small")]
        for_good = dict(zip(self.random.sample(small, len(self.refused)), self.refused))
        self.origin.refused = dict(for_good)
        missing = sum(len(self.objects[path]) for path in for_good)
        self.check_rows(label, self.job(items, directory).end(), directory, for_good)
        self.check_fetched(label, self.total - missing)

        self.stop()
        self.fleet.start()
        for what, again in (("what failed is fetched", missing), ("nothing is asked for", 0)):
            self.origin.reset()
            self.check_rows(f"{self.label}, again", self.job(items, directory).end(), directory)
            fetched, requests = self.origin.sent(), len(self.origin.requests)
            check(
                fetched == again and (again > 0 or requests == 0),
                f"{self.label}, again: {what}, {fetched} bytes in {requests} requests",
            )
        self.end(directory)

    def killed(self, program):
        """A worker, or the JVM above it, is killed while it fetches."""
        label = f"{self.label}, {program} killed"
        items, directory = self.begin("killed")
        moment = self.random.uniform(0.1, 0.9) * self.total
        job = self.job(items, directory)
        seen, found = {}, {}
        end = time.monotonic() + LONGEST_JOB
        while job.runs and time.monotonic() < end and (self.origin.sent() < moment or not found):
            found = processes.fetchers(self.port)
            for pid, connections in found.items():
                # Those that are closed wait for nothing any more, and may be of the last second.
                seen[pid] = {**dict.fromkeys(seen.get(pid, ()), 0), **connections}
            time.sleep(0.02)
        if not check(bool(found), f"{label}: a worker is found while it fetches"):
            job.end()
            return
        busiest = max(found, key=lambda pid: self.origin.sent(seen[pid]))
        above = itertools.takewhile(lambda pid: pid != os.getpid(), (busiest, *processes.ancestors(busiest)))
        victim = next((pid for pid in above if program in processes.program(pid)), None)
        if not check(victim is not None, f"{label}: it is still there to be killed"):
            job.end()
            return
        family = [pid for pid in found if pid == victim or victim in processes.ancestors(pid)]
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        gone = until(lambda: not any(map(processes.is_alive, family)), 30)
        ended = time.monotonic()
        check(gone, f"{label}: no haul outlives it, {ended - killed:.2f} s")
        # What arrives while the disk is busy is recorded when it is not.
        window = 1 + 2 * self.disk.slowest(killed - 5)
        self.check_rows(label, job.end(), directory)
        connections = {port: waiting for pid in family for port, waiting in seen[pid].items()}
        size, sent = self.origin.fetched_again(connections)
        # A connection that takes over from another costs some bytes, also where nothing is killed.
        bound = self.origin.at_risk(connections, ended, window) + int((MOST - 1) * size)
        check(
            sent - size <= bound,
            f"{label} at {moment / self.total:.0%}: of {megabytes(size)}, {megabytes(sent - size)} are fetched again, "
            f"at most {megabytes(bound)}: {window:.1f} s and what was on the way",
        )
        self.end(directory)

    def twice(self):
        """The same part of the list is fetched twice at once, and one object of it is slow."""
        label = f"{self.label}, twice at once"
        if self.fleet.speculates:
            self.stop()
            self.fleet.start(speculates=True)
        items, directory = self.begin("twice")
        slow = max(self.objects, key=lambda path: len(self.objects[path]))
        # It is still on its way when all else was fetched, twice if need be.
        self.origin.slow[slow] = len(self.objects[slow]) / (2 * SECONDS + 2 * self.total / self.origin.rate)
        jobs = [self.job(items, directory) for _ in range(1 if self.fleet.speculates else 2)]
        at_once, end = 0, time.monotonic() + LONGEST_JOB
        while any(job.runs for job in jobs) and time.monotonic() < end:
            at_once = max(at_once, processes.sharing(directory + "/results"))
            time.sleep(0.05)
        for job in jobs:
            self.check_rows(label, job.end(), directory)
        check(at_once >= 2, f"{label}: {at_once} attempts had the same part at once")
        self.check_fetched(label, self.total)
        self.end(directory)

    def begin(self, name):
        self.origin.reset()
        self.origin.slow = {
            path: len(data) / SECONDS for path, data in self.objects.items() if path.startswith("/large")
        }
        directory = str(self.work / name)
        paths = sorted(self.objects)
        self.random.shuffle(paths)
        # Every second one says its digest.
        return [
            {"url": self.origin.url + path, "digest": f"sha256={self.sums[path]}" if at % 2 else None}
            for at, path in enumerate(paths)
        ], directory

    def job(self, items, directory):
        return Job(lambda: self.fleet.fetch(items, directory))

    def check_fetched(self, label, total):
        fetched = self.origin.sent()
        check(
            total <= fetched <= MOST * total,
            f"{label}: {megabytes(fetched)} are fetched, {fetched / total:.3f} of all",
        )

    def check_rows(self, label, rows, directory, failed=None):
        """Each item has one row, those that do not fail are there, and nothing else is.

        `failed` has the status of those that do."""
        failed = failed or {}
        wrong = []
        if sorted(row["url"] for row in rows) != sorted(self.origin.url + path for path in self.objects):
            wrong.append(f"{len(rows)} rows are not the items")
        for row in rows:
            path = row["url"][len(self.origin.url) :]
            if path in failed:
                if row["status"] != WORDS.get(failed[path], "http-status") or row["path"] is not None:
                    wrong.append(f"{row} failed")
            elif row["status"] != "complete":
                wrong.append(f"{row}")
            elif hashlib.sha256(pathlib.Path(row["path"]).read_bytes()).hexdigest() != self.sums[path]:
                wrong.append(f"{row} is another file")
            elif (row["digest"] or "").startswith("sha256=") and row["digest"] != f"sha256={self.sums[path]}":
                wrong.append(f"{row} has another digest")
        expected = {path[1:] for path in self.objects if path not in failed} | {"results"}
        others = set(os.listdir(directory)) ^ expected
        if others:
            wrong.append(f"there are, or are not, {sorted(others)[:5]}")
        text = f"{len(rows)} results of {len(self.objects)} items, {len(failed)} of them failures"
        check(not wrong, f"{label}: {text}" + "".join(f"; {it}" for it in wrong[:3]))

    def end(self, directory):
        """After a job nobody fetches, and nobody has a file of it open."""
        idle = until(lambda: not processes.users_of(directory), 30)
        check(idle, f"{self.label}: no attempt goes on after {pathlib.Path(directory).name}")
        shutil.rmtree(directory)

    def stop(self):
        self.fleet.stop()
        mark = os.environ["HAUL_FLEET"]
        gone = until(lambda: not processes.marked(mark), 30)
        left = [processes.command(pid) for pid in processes.marked(mark)]
        check(gone, f"{self.label}: no process of the fleet is left" + "".join(f"; {it}" for it in left))


def main(fleet_of):
    """Runs the scenarios on the fleet that `fleet_of` makes of the options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--large", type=int, default=3)
    parser.add_argument("--large-bytes", type=int, default=20_000_000)
    parser.add_argument("--rate", type=int, default=20_000_000)
    parser.add_argument("--refused", type=int, nargs="*", default=[403, 404, 500])
    parser.add_argument("--scenarios", nargs="*", default=["again", "killed", "twice"])
    options = parser.parse_args()
    Scenarios(fleet_of(options), options).run(options.rounds)
    print("ended\t", flush=True)
