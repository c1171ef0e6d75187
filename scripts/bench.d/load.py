"""The clients: fio (its NBD engine, and io_uring or plain calls straight on a file) and nbdcopy; their results as numbers."""

import json
import time

from console import NotMeasured
from processes import run


def fio(jobs, shared):
    """Runs fio with options `shared` and, side by side, one job for each dict of `jobs`; returns what each measured.

    An option with the value None is a flag. Latencies are whole ones (submission to completion), in microseconds.
    """
    argv = ["fio", "--output-format=json", "--lat_percentiles=1", "--clat_percentiles=0", *options(shared)]
    for number, job in enumerate(jobs):
        argv += [f"--name=job{number}", *options(job)]
    text = run(argv)
    # The NBD engine speaks before the report, and some versions after it.
    start = text.find("{\n")
    if start < 0:
        raise NotMeasured(f"fio gave no report: {text.strip()[-200:]}")
    report, _ = json.JSONDecoder().raw_decode(text[start:])
    for job in report["jobs"]:
        if job.get("error"):
            raise NotMeasured(f"fio: error {job['error']} in {job['jobname']}")
    return [job_values(job) for job in report["jobs"]]


def options(values):
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in values.items()]


def job_values(job):
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"]]
    if not sides:
        raise NotMeasured("fio did no I/O")
    values = {
        "iops": sum(side["iops"] for side in sides),
        "bytes_per_s": sum(side["bw_bytes"] for side in sides),
        "requests": sum(side["total_ios"] for side in sides),
        "bytes": sum(side["io_bytes"] for side in sides),
    }
    if len(sides) == 1:
        percentiles = sides[0]["lat_ns"].get("percentile", {})
        for name, key in (("p50_us", "50.000000"), ("p99_us", "99.000000")):
            if key in percentiles:
                values[name] = percentiles[key] / 1e3
        values["mean_us"] = sides[0]["lat_ns"]["mean"] / 1e3
    return values


def duration(seconds):
    """As fio takes it: it reads only the whole part of seconds, and no limit where that is 0."""
    return f"{max(1, round(seconds * 1000))}ms"


def nbd_job(uri, rw, bs, iodepth, seconds, size_bytes, **more):
    """One time-based fio job over NBD; random places may repeat, so that no map of them costs the client time."""
    return {
        "ioengine": "nbd", "uri": uri, "rw": rw, "bs": bs, "iodepth": iodepth, "size": size_bytes, "time_based": None,
        "runtime": duration(seconds), "norandommap": None, "randrepeat": 0, "group_reporting": None, **more,
    }


def nbdcopy(source, target, size_bytes, connections=4):
    """Copies a full volume; how fast."""
    started = time.monotonic()
    run(["nbdcopy", f"--connections={connections}", source, target])
    seconds = time.monotonic() - started
    return {"bytes_per_s": size_bytes / seconds, "seconds": seconds, "bytes": size_bytes}
