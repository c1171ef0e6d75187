"""Durable writes: envol with FUA, and with a FLUSH after each write, beside fio with fdatasync on a file of the same size.

fio's NBD engine cannot ask for FUA, so a bare client does; its FLUSH is fio's own (`fsync=1`). A part of envol is that a
sync is shared by every request that waited before it began: `syncs` counts them.
"""

import os
import signal
import subprocess
import time

import machine
import wire
from console import NotMeasured
from load import duration, fio, nbd_job
from processes import tool

SUBJECTS = ("fio, fdatasync", "nbdkit file FUA", "envol FUA", "envol FLUSH")
SYNCS = "fsync,fdatasync,syncfs,sync_file_range,msync"


def writes(connections):
    def measure(bench, place, subject):
        server = place.server("nbdkit file" if subject.startswith("nbdkit") else "envol")
        device = machine.BlockDevice(place.directory)
        beside(place)
        os.sync()
        before = device.flushes()
        if subject.endswith("FUA"):
            values = wire.durable_writes(server.socket, server.export, connections, bench.seconds)
        elif subject == "envol FLUSH":
            values = fio([nbd_job(server.uri, "randwrite", "4k", 1, bench.seconds, place.size_bytes, numjobs=connections, fsync=1)], {})[0]
        else:
            values = fio([{
                "ioengine": "psync", "filename": str(beside(place)), "rw": "randwrite", "bs": "4k", "size": place.size_bytes,
                "time_based": None, "runtime": duration(bench.seconds), "norandommap": None, "randrepeat": 0, "fdatasync": 1,
                "numjobs": connections, "group_reporting": None, "invalidate": 0,
            }], {})[0]
        if before is not None:
            values["device_flushes_per_write"] = (device.flushes() - before) / values["requests"]
        return values

    return measure


def beside(place):
    """A full file that is nobody's volume, for fio to write to: the backing's own bytes must stay."""
    path = place.directory / "fdatasync.img"
    if not path.exists():
        with open(place.plain_file(), "rb") as source, open(path, "wb") as target:
            while piece := source.read(8 << 20):
                target.write(piece)
            os.fsync(target.fileno())
    return path


class SyncCount:
    """Counts the calls of a running process that sync, by strace; `stop` gives them by name."""

    def __init__(self, pid, report):
        tool("strace")
        self.report = report
        self.process = subprocess.Popen(
            ["strace", "-f", "-c", "-e", f"trace={SYNCS},io_uring_enter", "-o", str(report), "-p", str(pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        time.sleep(0.7)
        if self.process.poll() is not None:
            raise NotMeasured(f"strace may not look at the daemon: {self.process.stderr.read().strip().splitlines()[-1]}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        counts = {}
        for line in self.report.read_text().splitlines():
            words = line.split()
            if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
                counts[words[-1]] = int(words[3])
        return counts


def syncs(bench, place, _subject):
    """Syncs for each acknowledged FUA write of 16 connections: calls, and flushes that reached the device."""
    server = place.server("envol")
    device = machine.BlockDevice(place.directory)
    count = SyncCount(server.pid, place.directory / "strace.txt")
    before = device.flushes()
    try:
        done = wire.durable_writes(server.socket, server.export, 16, bench.seconds)
    finally:
        calls = count.stop()
    if calls.get("io_uring_enter"):
        raise NotMeasured("this engine syncs through io_uring, which strace does not see; device flushes stand in the raw data")
    total = sum(calls.values())
    return {"syncs_per_write": total / done["requests"], "syncs": total, "writes": done["requests"],
            "device_flushes": None if before is None else device.flushes() - before}
