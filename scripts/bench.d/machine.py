"""Where the figures come from: processor, kernel, versions, file systems. No path of the machine, no name of it."""

import datetime
import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path

from console import NotMeasured
from processes import run

FILE_SYSTEM_BY_MAGIC = ("stat", "-f", "-c", "%T")


def first_line(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
    words = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return words[0] if words else "no word"


def processor():
    """Its model, and those of its features that the ciphers here ask for."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.M)
    asked = ("aes", "avx2", "avx512f", "vaes", "vpclmulqdq", "gfni", "avx512_vbmi2", "pmull")
    present = flags.group(1).split() if flags else []
    return {
        "model": model.group(1).strip() if model else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "features": [flag for flag in asked if flag in present],
    }


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def file_system(path):
    """The kind of file system that `path` lies on, as the mount table names it."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == number:
            return rest.split()[0]
    return first_line([*FILE_SYSTEM_BY_MAGIC, str(path)])


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def description(binary):
    """All of it, as it is put into every file of results."""
    commit = first_line(["git", "rev-parse", "--short", "HEAD"])
    changed = first_line(["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.toml", "Cargo.lock"])
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "kernel": platform.release(),
        "virtual": first_line(["systemd-detect-virt"]),
        "system": re.search(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.M).group(1),
        "versions": {
            "envol": first_line([str(binary), "--version"]),
            "envol_commit": commit + ("" if changed == "no word" else ", with changes"),
            "envol_build": digest(binary),
            "rustc": first_line(["rustc", "--version"]),
            "fio": first_line(["fio", "--version"]),
            "nbdkit": first_line(["nbdkit", "--version"]),
            "nbdcopy": first_line(["nbdcopy", "--version"]),
            "qemu-img": first_line(["qemu-img", "--version"]),
            "python": platform.python_version(),
        },
        # What chooses envol's data path is part of a figure.
        "environment": {name: value for name, value in sorted(os.environ.items()) if name in ("ENVOL_IO", "ENVOL_CIPHER")},
    }


class BlockDevice:
    """Counters of the device below a file: what really went to the disk."""

    def __init__(self, path):
        device = os.stat(path).st_dev
        self.stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
        if not self.stat.exists():
            raise NotMeasured(f"there is no one block device below the file system ({file_system(path)})")

    def read_bytes(self):
        return int(self.stat.read_text().split()[2]) * 512

    def flushes(self):
        """Flushes completed; None where the kernel or the device does not count them."""
        fields = self.stat.read_text().split()
        return int(fields[15]) if len(fields) > 15 else None


def drop_page_cache(paths):
    """Makes the data of `paths` leave the page cache: written back, then dropped, by file and (as root) everywhere."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    if os.geteuid() == 0:
        run(["sync"])
        Path("/proc/sys/vm/drop_caches").write_text("3")
