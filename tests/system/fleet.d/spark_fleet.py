"""Spark standalone: a master, and workers that count as two nodes."""

import os
import pathlib
import socket
import subprocess

import pyspark
import scenarios
from pyspark.sql import SparkSession

NODES = ("127.0.0.1", "127.0.0.2")
PARTS = 8
MASTER = "127.0.0.1"

SETTINGS = {
    "spark.driver.host": MASTER,
    "spark.driver.bindAddress": MASTER,
    "spark.executor.cores": "2",
    "spark.executor.memory": "512m",
    # A job begins once both nodes are there.
    "spark.cores.max": "4",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",
}

# A second attempt of what takes longer than half of the others do, soon enough for small lists.
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.quantile": "0.5",
    "spark.speculation.minTaskRuntime": "1s",
}


# Begins soon, and leaves nothing elsewhere.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -Djava.io.tmpdir="


def free_port():
    with socket.socket() as listener:
        listener.bind((MASTER, 0))
        return listener.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex((MASTER, port)) == 0


class SparkFleet:
    name = "spark"
    killed = ("python", "java")
    speculates = True

    def __init__(self, fetch, options):
        self._fetch = fetch
        self._work = pathlib.Path(options.work) / "spark"
        self._work.mkdir()
        os.environ["JAVA_TOOL_OPTIONS"] = JAVA_OPTIONS + str(self._work)
        os.environ["SPARK_LOCAL_DIRS"] = str(self._work / "local")
        self._daemons = []
        self._spark = None

    def _daemon(self, name, *words):
        program = os.path.join(os.path.dirname(pyspark.__file__), "bin", "spark-class")
        log = open(self._work / f"{name}.log", "ab")
        with log:
            self._daemons.append(
                subprocess.Popen([program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def start(self, speculates=False):
        port = free_port()
        self._daemon(
            "master", "org.apache.spark.deploy.master.Master",
            "--host", MASTER, "--port", str(port), "--webui-port", "0",
        )
        if not scenarios.until(lambda: accepts(port), 60):
            raise SystemExit("the master of Spark does not listen after 60 s")
        url = f"spark://{MASTER}:{port}"
        for node in NODES:
            self._daemon(
                f"worker-{node}", "org.apache.spark.deploy.worker.Worker", url, "--host", node, "--cores", "2",
                "--memory", "600m", "--webui-port", "0", "--work-dir", str(self._work / node),
            )
        builder = SparkSession.builder.master(url).config("spark.sql.warehouse.dir", str(self._work / "warehouse"))
        for key, value in {**SETTINGS, **(SPECULATION if speculates else {})}.items():
            builder = builder.config(key, value)
        self._spark = builder.getOrCreate()

    def fetch(self, items, directory):
        return [row.asDict() for row in self._fetch(self._spark, items, directory, PARTS).collect()]

    def stop(self):
        if self._spark is not None:
            context = self._spark.sparkContext
            gateway = context._gateway
            self._spark.stop()
            # The JVM of the driver would stay until this program ends, with the settings of the first session.
            gateway.shutdown()
            if gateway.proc is not None:
                gateway.proc.stdin.close()
                gateway.proc.wait()
            type(context)._gateway = type(context)._jvm = None
            self._spark = None
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait()
        self._daemons.clear()


def main(fetch):
    scenarios.main(lambda options: SparkFleet(fetch, options))
