"""Memory, wake-ups and attach time of daemons that do nothing else. Each starts a daemon of its own on the place."""

import re
import time
from contextlib import contextmanager
from pathlib import Path

from console import NotMeasured
from durable import SyncCount
from processes import forget_peak, resident_bytes
from servers import Daemon
from wire import READ, Client, request

MIB = 1 << 20
IDLE_CONNECTIONS = 100
FLOOD_CLIENTS, FLOOD_READS = 8, 1024
# A connection that falls silent gives its buffers back after a second, its workers end after some more.
SETTLE_S = 5
IDLE_S = 10


@contextmanager
def fresh_daemon(bench, place, name):
    daemon = Daemon(bench, place, name)
    try:
        yield daemon
    finally:
        daemon.end()


def idle_connections(bench, place, _subject):
    """A hundred connections that each read 1 MiB once, and then say nothing."""
    with fresh_daemon(bench, place, "many") as daemon:
        daemon.attach("v", 64 * MIB)
        clients = []
        try:
            for _ in range(IDLE_CONNECTIONS):
                clients.append(Client(daemon.nbd_socket, "v"))
                clients[-1].read(0, MIB)
            time.sleep(SETTLE_S)
            return {"resident_mib": resident_bytes(daemon.pid) / MIB}
        finally:
            for client in clients:
                client.close()


def flood(bench, place, _subject):
    """Clients that ask for 1 GiB each at once, read nothing for a while, and then all of it; the peak of resident memory."""
    server = place.server("envol")
    cap, cap_source = in_flight_cap()
    forget_peak(server.pid)
    clients = [Client(server.socket, server.export) for _ in range(FLOOD_CLIENTS)]
    try:
        reads = b"".join(request(READ, cookie, cookie * MIB % place.size_bytes, MIB) for cookie in range(FLOOD_READS))
        for client in clients:
            client.link.sendall(reads)
        time.sleep(2)
        stalled = resident_bytes(server.pid)
        deadline = time.monotonic() + 60
        errors = sum(client.discard_answers(FLOOD_READS, MIB, deadline) for client in clients)
        if errors:
            raise NotMeasured(f"{errors} of {FLOOD_CLIENTS * FLOOD_READS} READs failed")
        values = {"resident_mib": resident_bytes(server.pid, "VmHWM") / MIB, "stalled_mib": stalled / MIB, "cap_source": cap_source}
        return values if cap is None else {**values, "in_flight_cap_mib": cap / MIB, "limit_mib": 64 + cap / MIB}
    finally:
        for client in clients:
            client.link.close()


def in_flight_cap():
    """The configured cap on payload in flight, in bytes, as the configuration that is shipped documents it; and its name."""
    text = Path("systemd/envol.toml").read_text()
    found = re.search(r"^#?\s*(\w*in_flight\w*)\s*=\s*\"?(\d+)\s*([KMG]?)", text, re.M)
    if not found:
        return None, "this build's configuration has no cap on what is in flight"
    name, number, suffix = found.groups()
    unit = {"K": 1 << 10, "M": MIB, "G": 1 << 30}.get(suffix, MIB if name.endswith("mib") else 1)
    return int(number) * unit, name


def switches(pid):
    """Context switches of each thread so far: `(thread id, name)` to count. A thread that sleeps has no new ones."""
    counted = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (task / "status").read_text()
        except FileNotFoundError:
            continue
        name = re.search(r"^Name:\s*(.*)$", text, re.M).group(1)
        counted[int(task.name), name] = sum(int(count) for count in re.findall(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)", text, re.M))
    return counted


def on_data_path(name):
    """All but the main thread, those of the control door and those of attach and detach: whatever else an engine starts."""
    return name not in ("control",) and not name.startswith("envol")


def idle_wakeups(bench, place, _subject):
    """Eight volumes attached, a client on each that has read and fallen silent: who wakes up within ten seconds."""
    with fresh_daemon(bench, place, "eight") as daemon:
        clients = []
        try:
            for number in range(8):
                daemon.attach(f"v{number}", 64 * MIB)
                clients.append(Client(daemon.nbd_socket, f"v{number}"))
                clients[-1].read(0, MIB)
            # A worker ends after it has had nothing to do for a while: that is the last of it.
            time.sleep(SETTLE_S * 3)
            before = switches(daemon.pid)
            time.sleep(IDLE_S)
            after = switches(daemon.pid)
        finally:
            for client in clients:
                client.close()
    awake = {}
    for thread in before.keys() | after.keys():
        count = after.get(thread, 0) - before.get(thread, 0) if thread in after else 1
        if count:
            awake[thread[1]] = awake.get(thread[1], 0) + count
    return {"wakeups": sum(count for name, count in awake.items() if on_data_path(name)), "all_wakeups": sum(awake.values()),
            "threads": len(after), "by_thread": awake}


def attach_time(bench, place, _subject):
    """One `envol attach`, from the start of the program to its end; the volume is thin."""
    daemon = place.kept.get("terabyte")
    if daemon is None:
        daemon = place.kept["terabyte"] = Daemon(bench, place, "terabyte")
        daemon.call("volume", "create", "v", "--size", "1T", "--key", "alias/bench")
    started = time.monotonic()
    daemon.call("attach", "v")
    took = time.monotonic() - started
    daemon.call("detach", "v")
    started = time.monotonic()
    daemon.call("--version")
    return {"milliseconds": took * 1e3, "program_start_ms": (time.monotonic() - started) * 1e3}


def attach_syncs(bench, place, _subject):
    with fresh_daemon(bench, place, "syncs") as daemon:
        daemon.call("volume", "create", "v", "--size", "1T", "--key", "alias/bench")
        values = {}
        for word in ("attach", "detach"):
            count = SyncCount(daemon.pid, daemon.directory / "strace.txt")
            try:
                daemon.call(word, "v")
            finally:
                calls = count.stop()
            values[f"{word}_syncs"] = sum(number for name, number in calls.items() if name != "io_uring_enter")
            values[f"{word}_calls"] = calls
        return values
