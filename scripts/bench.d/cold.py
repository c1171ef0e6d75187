"""Reads of what is not in the page cache: envol beside fio's io_uring straight on envol's own backing file, and beside the
trial, which reads that file for the same client and does nothing else.

Before each run the cache is dropped, no block is read twice in one run (fio keeps a map), and the device's counter of
bytes read is compared with what the client got: a run that was served from memory is no measurement.
"""

import machine
from console import NotMeasured
from load import duration, fio

SUBJECTS = ("fio, O_DIRECT", "fio, buffered", "trial ring", "trial direct", "envol", "envol, O_DIRECT")
# What came from the device, of what the client got: below this, part of it was in the page cache.
COLD_SHARE = 0.9


def reads(rw, bs, iodepth):
    """fio stops at the end of the volume or of the time, whichever is first, so that nothing is read again."""

    def measure(bench, place, subject):
        server = place.server("envol cold direct" if subject == "envol, O_DIRECT" else "envol cold")
        backing = server.daemon.backing("v")
        device = machine.BlockDevice(backing)
        job = {"rw": rw, "bs": bs, "iodepth": iodepth, "size": bench.cold_bytes, "runtime": duration(bench.seconds), "readonly": None}
        if not subject.startswith("fio"):
            job |= {"ioengine": "nbd", "uri": place.server(subject).uri if subject.startswith("trial") else server.uri}
        else:
            # Behind the header, and on the boundaries that O_DIRECT asks for.
            job |= {"ioengine": "io_uring", "filename": str(backing), "direct": int(subject.endswith("O_DIRECT")), "invalidate": 0}
        machine.drop_page_cache([backing])
        before = device.read_bytes()
        values = fio([job], {})[0]
        from_device = device.read_bytes() - before
        values["from_device_share"] = from_device / values["bytes"]
        if values["from_device_share"] < COLD_SHARE:
            raise NotMeasured(f"only {values['from_device_share']:.0%} came from the device: part of it was cached")
        return values

    return measure
