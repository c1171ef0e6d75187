"""Processes that this run starts, and their end: whatever ends the run, nothing that it started goes on."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from console import NotMeasured


def tool(name):
    """The program `name`, or the reason why a row is not measured."""
    if shutil.which(name) is None:
        raise NotMeasured(f"there is no {name} here")
    return name


def run(argv, timeout=180, **options):
    """The finished command's stdout as text. Its failure is why something is not measured."""
    tool(argv[0])
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, **options)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{Path(argv[0]).name} did not end within {timeout} s") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()
        raise NotMeasured(f"{Path(argv[0]).name} failed ({done.returncode}): {' / '.join(words[-3:])}")
    return done.stdout


class Processes:
    """The servers of this run. They end when it ends, even when it is killed (their parent's death is a signal to them)."""

    def __init__(self):
        self.started = []

    def start(self, argv, log, environment=None):
        """A process in the background, its output in the file `log`."""
        tool(argv[0])
        guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with open(log, "ab") as output:
            process = subprocess.Popen(
                guard + argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
            )
        self.started.append(process)
        return process

    def stop(self, process, patience_s=20):
        """Ends a process that `start` gave."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.started:
            self.started.remove(process)

    def stop_all(self):
        for process in list(reversed(self.started)):
            self.stop(process, patience_s=5)


def listens(path):
    """Whether somebody accepts connections there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        return link.connect_ex(str(path)) == 0


def wait_for_socket(path, process, log, patience_s=10):
    """Waits until something listens at `path`; its log's last words are the reason where nothing does."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if listens(path):
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    words = Path(log).read_text(errors="replace").strip().splitlines()[-2:]
    raise NotMeasured(f"a server did not start: {' / '.join(words) or 'no word'}")


def cpu_seconds(pid):
    """Processor time of a process so far, user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid, field="VmRSS"):
    """Resident memory of a process: now (`VmRSS`), the most since `forget_peak` (`VmHWM`), or what is locked (`VmLck`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise NotMeasured(f"/proc shows no {field}")


def forget_peak(pid):
    """Makes the peak of resident memory count from now on."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError as error:
        raise NotMeasured(f"the peak of resident memory cannot be reset: {error.strerror}") from None
