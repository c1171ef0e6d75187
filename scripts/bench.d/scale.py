"""scripts/bench --scale: what one more volume, connection, byte of volume or request in flight costs.

Each cost is fitted as size^exponent, by least squares of the logarithms, over all sizes and over the larger half of them;
the steeper of the two is judged. About 0 is flat, 1 is linear, and more than that is what must not be.
"""

import json
import math
import statistics
import time

import pictures
from console import NotMeasured, say
from load import fio, nbd_job
from options import asked_for
from processes import cpu_seconds, resident_bytes
from resources import fresh_daemon
from servers import Server
from wire import Client

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
VOLUMES = (1, 2, 5, 10, 20, 50, 100, 200)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES_GIB = (1, 4, 16, 64, 256, 1024, 4096, 8192)
DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DATA = 256 * MIB
OVER_ALL, CPU = "time for a read over all, us", "processor time of a read, us"
# envol admits 50 handshakes of one user at once, and a busy machine takes its time over each. fio opens all of its connections
# at once, or those together that have fallen due while it slept; so more than these are opened at so many a second.
AT_ONCE, OPENED_PER_S = 32, 32
# A fitted exponent is a measurement too: this much over 1 is still linear.
TOLERANCE = 0.15


def slope(points):
    """The exponent that fits `(size, cost)` best."""
    x, y = [math.log(size) for size, _ in points], [math.log(max(cost, 1e-9)) for _, cost in points]
    return statistics.linear_regression(x, y).slope


def exponent(points):
    """The steeper of the fits over all points and over the larger half."""
    return max(slope(points), slope(points[len(points) // 2 - 1:]))


def median_ms(action, times):
    taken = []
    for _ in range(times):
        started = time.monotonic()
        action()
        taken.append((time.monotonic() - started) * 1e3)
    return statistics.median(taken)


def reads(bench, server, iodepth, connections=1):
    """4k random reads: latencies, rate, and the server's processor time for each."""
    # One after the other where they are many: jobs of one group, which fio reports as one.
    opening = connections / OPENED_PER_S if connections > AT_ONCE else 0
    seconds = max(bench.seconds, 2 * opening, 2 if connections > 1 else 0)
    jobs = [{"startdelay": f"{number * opening * 1000 // connections:.0f}ms"} if opening else {} for number in range(connections)]
    before, started = cpu_seconds(server.pid), time.monotonic()
    values = fio(jobs, {"thread": None, **nbd_job(server.uri, "randread", "4k", iodepth, seconds, DATA)})[0]
    # The first few connections keep the machine busy, so the time in which the others open counts whole, and so does that
    # of a server which lets some wait long. fio itself takes less than a second to start and end.
    took = max(seconds + opening, time.monotonic() - started - 1)
    return {
        "4k read, p50, us": values["p50_us"], "4k read, p99, us": values["p99_us"], OVER_ALL: took * 1e6 / values["requests"],
        CPU: (cpu_seconds(server.pid) - before) * 1e6 / values["requests"],
    }


def filled(daemon):
    """A volume full of data, served."""
    server = Server("envol", daemon.attach("v", DATA), daemon.process, daemon)
    fio([{"ioengine": "nbd", "uri": server.uri, "rw": "write", "bs": "1M", "iodepth": 4, "size": DATA, "refill_buffers": None}], {})
    return server


def peer_of(place):
    """nbdkit on a plain file, for the same load on the same machine; None where there is none."""
    try:
        return place.server("nbdkit file")
    except NotMeasured as error:
        say(f"without nbdkit: {error}")
        return None


def volumes(bench, place):
    """Attached volumes: the next attach, memory, and the reads of one among them."""
    with fresh_daemon(bench, place, "volumes") as daemon:
        server, count = filled(daemon), 1
        for wanted in VOLUMES:
            while count < wanted:
                count += 1
                daemon.attach(f"v{count}", GIB)
            daemon.call("volume", "create", "next", "--size", "1G", "--key", "alias/bench")
            attach = []
            for _ in range(5):
                attach.append(median_ms(lambda: daemon.call("attach", "next"), 1))
                daemon.call("detach", "next")
            daemon.call("volume", "delete", "next", "--yes")
            read = reads(bench, server, 1)["4k read, p50, us"]
            costs = {
                "attach of one more, ms": statistics.median(attach), "4k read qd1 on one, p50, us": read,
                "resident memory, MiB": resident_bytes(daemon.pid) / MIB, "locked memory, KiB": resident_bytes(daemon.pid, "VmLck") / KIB,
                "envol volume list, ms": median_ms(lambda: daemon.call("volume", "list"), 3), "restart until all are attached, ms": restart(daemon),
            }
            server.pid = daemon.pid
            yield wanted, costs, {}


def restart(daemon):
    """Stops the daemon, starts it, and waits until every volume is served again."""
    daemon.bench.processes.stop(daemon.process)
    daemon.socket.unlink(missing_ok=True)
    started = time.monotonic()
    daemon.start()
    deadline = started + 120
    while time.monotonic() < deadline:
        listed = json.loads(daemon.call("volume", "list", "--json"))
        if all(volume["state"] == "in-use" for volume in listed):
            return (time.monotonic() - started) * 1e3
        time.sleep(0.005)
    raise NotMeasured("not every volume was attached again within two minutes")


def connections(bench, place):
    """Connections to one volume, each with one request after the other."""
    peer = peer_of(place)
    with fresh_daemon(bench, place, "connections") as daemon:
        server = filled(daemon)
        for wanted in CONNECTIONS:
            costs = reads(bench, server, 1, wanted)
            # nbdkit lets some wait long for their connection, so that fewer than these are ever served at once: its latencies
            # are not those of so many connections.
            beside = {key: cost for key, cost in (reads(bench, peer, 1, wanted) if peer else {}).items() if key in (OVER_ALL, CPU)}
            clients = []
            try:
                for _ in range(wanted):
                    clients.append(Client(server.socket, server.export))
                    clients[-1].read(0, 4096)
                costs["connecting one more, ms"] = median_ms(lambda: Client(server.socket, server.export).close(), 9)
                time.sleep(2)
                costs["resident memory, idle, MiB"] = resident_bytes(daemon.pid) / MIB
            finally:
                for client in clients:
                    client.close()
            yield wanted, costs, beside


def volume_sizes(bench, place):
    """Thin volumes: what their size costs before a byte is written, and reads over the whole of them."""
    with fresh_daemon(bench, place, "sizes") as daemon:
        # The first connection of a daemon costs what no volume does.
        reads(bench, filled(daemon), 1)
        for gib in SIZES_GIB:
            name = f"v{gib}"
            create = median_ms(lambda: daemon.call("volume", "create", name, "--size", f"{gib}G", "--key", "alias/bench"), 1)
            attach, detach = [], []
            for _ in range(5):
                attach.append(median_ms(lambda: daemon.call("attach", name), 1))
                detach.append(median_ms(lambda: daemon.call("detach", name), 1))
            before = resident_bytes(daemon.pid, "VmLck")
            uri = daemon.call("attach", name).strip()
            locked = resident_bytes(daemon.pid, "VmLck") - before
            values = fio([nbd_job(uri, "randread", "4k", 1, bench.seconds, gib * GIB)], {})[0]
            daemon.call("detach", name)
            yield gib, {
                "create, ms": create, "attach, ms": statistics.median(attach), "detach, ms": statistics.median(detach),
                "4k read qd1 anywhere, p50, us": values["p50_us"], "locked memory while attached, KiB": locked / KIB,
                "room at rest, KiB": daemon.backing(name).stat().st_blocks / 2,
            }, {}


def depths(bench, place):
    """Requests in flight on one connection."""
    peer = peer_of(place)
    with fresh_daemon(bench, place, "depths") as daemon:
        server = filled(daemon)
        for depth in DEPTHS:
            costs, beside = reads(bench, server, depth), reads(bench, peer, depth) if peer else {}
            yield depth, {**costs, "resident memory, MiB": resident_bytes(daemon.pid) / MIB}, beside


SCALES = [
    ("volumes", "attached volumes", volumes),
    ("connections", "connections", connections),
    ("volume-size", "volume size, GiB", volume_sizes),
    ("queue-depth", "requests in flight", depths),
]


def limits(name, series):
    """One sentence, from the figures, on what a size costs and what limits it."""
    first, last = {key: points[0] for key, points in series.items()}, {key: points[-1] for key, points in series.items()}
    most = max(size for size, _ in last.values())

    def grown(key):
        return (last[key][1] - first[key][1]) / max(1, last[key][0] - first[key][0])

    def at(key, which=last):
        return which[key][1]

    if name == "volumes":
        attach = "attach of one more, ms"
        return (f"An attached volume costs {grown('resident memory, MiB') * KIB:.0f} KiB of memory, {grown('locked memory, KiB'):.0f} KiB of it locked, and "
                f"{grown('restart until all are attached, ms'):.1f} ms after a restart; with {most} attached, one more takes {at(attach):.1f} ms "
                f"({at(attach, first):.1f} ms with one). Locked memory (RLIMIT_MEMLOCK) limits their number, then the 10,000 that one daemon takes.")
    if name == "connections":
        return (f"A connection costs a thread and {grown('resident memory, idle, MiB') * KIB:.0f} KiB of memory while idle; a 4k read costs {at(CPU, first):.1f} us of the daemon's "
                f"processor time on one connection and {at(CPU):.1f} us on {most}. The processors limit what all of them do together, and 400 is the most that one listener admits.")
    if name == "volume-size":
        return (f"A thin volume of {most // KIB} TiB takes {at('room at rest, KiB'):.0f} KiB on disk, {at('locked memory while attached, KiB'):.0f} KiB of locked memory and "
                f"{at('attach, ms'):.1f} ms to attach ({at('attach, ms', first):.1f} ms with {first['attach, ms'][0]} GiB). The largest file of the file system limits it "
                "(ext4 with 4 KiB blocks: 16 TiB), then the 256 TiB of a volume's 256 keys.")
    rate = {size: 1e6 / value for size, value in series[OVER_ALL]}
    busy = {size: value * rate[size] / 1e6 for size, value in series[CPU]}
    best = max(rate.values())
    enough = min(size for size, value in rate.items() if value >= 0.9 * best)
    return (f"{enough} requests in flight give a connection {rate[enough] / 1e3:.0f}k 4k reads a second, and none gave more than {best / 1e3:.0f}k; the daemon is then busy {busy[enough]:.0%} of one processor, "
            f"the client has the rest. More in flight only wait longer (p50 {at('4k read, p50, us'):.0f} us at {most}); past 1,024 requests, or the bytes allowed in flight, a connection is not read from.")


def measure_and_report(bench, directory):
    """All scales on the tmpfs; pictures, raw figures, and `scale.txt` with exponents and a sentence for each."""
    place, written = bench.places[0], [pictures.origin(bench.results.machine), ""]
    place.open()
    for name, across, scale in SCALES:
        if not asked_for(bench.options, f"scale-{name}"):
            continue
        series, beside, document = {}, {}, {"rounds": 1, "seconds": bench.seconds, "points": []}
        try:
            for size, costs, peer in scale(bench, place):
                say(f"{name} {size}: " + "; ".join(f"{key} {value:.4g}" for key, value in costs.items()))
                document["points"].append({"size": size, "costs": costs, "nbdkit file": peer})
                for kept, found in ((series, costs), (beside, peer)):
                    for key, cost in found.items():
                        kept.setdefault(key, []).append((size, cost))
        except NotMeasured as error:
            document["not_measured"] = str(error)
        bench.results.save("scale-" + name, place.label, document)
        written += report(name, across, series, beside, document, bench, directory)
    text = "\n".join(written) + "\n"
    (directory / "scale.txt").write_text(text)
    print(text)


def report(name, across, series, beside, document, bench, directory):
    lines = [f"cost against {across}"]
    if "not_measured" in document:
        lines.append(f"  NOT MEASURED beyond {document['points'][-1]['size'] if document['points'] else 'nothing'}: {document['not_measured']}")
    if not series or len(next(iter(series.values()))) < 4:
        return [*lines, ""]
    fits = {key: exponent(points) for key, points in series.items()}
    for key, points in series.items():
        word = "WORSE THAN LINEAR" if fits[key] > 1 + TOLERANCE else "not worse than linear"
        peer = f"; nbdkit file {exponent(beside[key]):+.2f}" if key in beside else ""
        lines.append(f"  {key:36} {points[0][1]:8.4g} at {points[0][0]:<3} {points[-1][1]:8.4g} at {points[-1][0]:<5} exponent {fits[key]:+.2f}  {word}{peer}")
    try:
        drawn = [(key, points, beside.get(key), fits[key]) for key, points in series.items()]
        pictures.costs(directory / f"scale-{name}.svg", across, drawn, bench.results.machine)
    except NotMeasured as error:
        say(f"no pictures: {error}")
    if "not_measured" not in document:
        lines.append("  " + limits(name, series))
    return [*lines, ""]
