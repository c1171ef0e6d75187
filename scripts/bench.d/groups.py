"""What is measured: groups of runs, in each of which the subjects take turns, round after round.

A group knows where it makes sense (`places`), who takes part (`subjects`) and how one of them is measured once. What the
runs of a group say about a row of the table is `rows.py`'s part.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cold
import durable
import resources
from console import NotMeasured
from load import fio, nbd_job, nbdcopy
from processes import cpu_seconds

MIB = 1 << 20
ENCRYPTED = ("nbdkit file", "nbdkit luks", "envol null", "trial nothing", "trial file", "envol")
PLAIN = ("nbdkit file", "envol null", "envol")


@dataclass(frozen=True)
class Group:
    """`measure(bench, place, subject)` gives a dict of numbers, or raises NotMeasured."""

    name: str
    title: str
    subjects: tuple
    measure: Callable
    places: str = "both"  # "tmpfs", "disk" or "both"
    once: bool = False  # not a timing: one round tells


def over_nbd(measure):
    """A measurement of a server on a full volume, with the processor time that it took for each request."""

    def measured(bench, place, subject):
        server = place.server(subject)
        before = cpu_seconds(server.pid)
        values = measure(bench, place, server)
        if "requests" in values:
            values["server_cpu_us_per_request"] = (cpu_seconds(server.pid) - before) * 1e6 / max(1, values["requests"])
        return values

    return measured


def throughput(rw, bs, iodepth, **more):
    def measure(bench, place, server):
        return fio([nbd_job(server.uri, rw, bs, iodepth, bench.seconds, place.size_bytes, **more)], {})[0]

    return over_nbd(measure)


@over_nbd
def copy_out(_bench, place, server):
    return nbdcopy(server.uri, "null:", place.size_bytes)


@over_nbd
def copy_in(_bench, place, server):
    return nbdcopy(str(place.plain_file()), server.uri, place.size_bytes)


@over_nbd
def neighbour(bench, place, server):
    """The p99 of one connection's reads beside another's deep queue of large writes."""
    heavy = nbd_job(server.uri, "write", "256k", 128, bench.seconds, place.size_bytes)
    light = nbd_job(server.uri, "randread", "4k", 1, bench.seconds, place.size_bytes)
    for job in (heavy, light):
        del job["group_reporting"]
    wrote, read = fio([heavy, light], {})
    return {**read, "heavy_bytes_per_s": wrote["bytes_per_s"], "requests": wrote["requests"] + read["requests"]}


GROUPS = [
    Group("randread-4k", "4k randread, qd32", ENCRYPTED, throughput("randread", "4k", 32)),
    Group("randwrite-4k", "4k randwrite, qd32", ENCRYPTED, throughput("randwrite", "4k", 32)),
    Group("read-256k", "256k read, qd8", ENCRYPTED, throughput("read", "256k", 8)),
    Group("write-256k", "256k write, qd8", ENCRYPTED, throughput("write", "256k", 8)),
    Group("copy-out", "nbdcopy to null, 4 connections", ENCRYPTED, copy_out),
    Group("copy-in", "nbdcopy from a file, 4 connections", ENCRYPTED, copy_in),
    Group("mixed-64k", "64k random 70/30, qd16, 2 connections", PLAIN, throughput("randrw", "64k", 16, rwmixread=70, numjobs=2)),
    Group("read-4k-qd1", "4k randread, qd1", PLAIN, throughput("randread", "4k", 1)),
    Group("write-4k-qd1", "4k randwrite, qd1", PLAIN, throughput("randwrite", "4k", 1)),
    Group("write-512", "512-byte randwrite, 4096-byte sectors, qd32", PLAIN, throughput("randwrite", "512", 32)),
    Group("neighbour", "4k randread, qd1, beside 256k write qd128", ("nbdkit file", "envol"), neighbour),
    Group("cold-randread-4k", "4k randread, qd32, not cached", cold.SUBJECTS, cold.reads("randread", "4k", 32), "disk"),
    Group("cold-read-256k", "256k read, qd8, not cached", cold.SUBJECTS, cold.reads("read", "256k", 8), "disk"),
    Group("cold-randread-4k-qd1", "4k randread, qd1, not cached", cold.SUBJECTS, cold.reads("randread", "4k", 1), "disk"),
    Group("cold-read-256k-qd1", "256k read, qd1, not cached", cold.SUBJECTS, cold.reads("read", "256k", 1), "disk"),
    Group("durable-1", "durable 4k writes, qd1", durable.SUBJECTS, durable.writes(1), "disk"),
    Group("durable-16", "durable 4k writes, 16 connections", durable.SUBJECTS, durable.writes(16), "disk"),
    Group("durable-shared", "syncs of FUA 4k writes, 16 connections", ("envol",), durable.syncs, "disk", once=True),
    Group("memory-idle", "memory: 100 idle connections", ("envol",), resources.idle_connections, "tmpfs", once=True),
    Group("memory-flood", "memory: 8 clients, 1024 reads of 1 MiB each", ("envol",), resources.flood, "tmpfs", once=True),
    Group("idle", "idle, 8 volumes attached, 10 s", ("envol",), resources.idle_wakeups, "tmpfs", once=True),
    Group("attach", "attach, embedded KMS, 1 TiB volume", ("envol",), resources.attach_time),
    Group("attach-syncs", "syncs of an attach and a detach", ("envol",), resources.attach_syncs, "tmpfs", once=True),
]


def fits(group, place):
    """Whether the group is measured there; a group for disks on what is none says so in its rows."""
    if group.places == "disk" and not place.on_disk:
        raise NotMeasured(f"needs a disk, and this is a {place.file_system}")
