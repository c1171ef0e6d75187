"""The rows of the table "what must be reached": what each compares, its floor and goal, and what the runs of a group say.

A ratio is the median of the ratios within each round, not the ratio of two medians: what slowed both down cancels out.
"""

import statistics
from dataclasses import dataclass, field

GOAL, FLOOR, BELOW, MEASURED, ABSENT = "goal reached", "floor reached", "BELOW THE FLOOR", "measured", "not measured"


@dataclass
class Outcome:
    """One row as measured: `value` in `unit`, the two sides' medians as text, the lowest and highest of the rounds."""

    verdict: str
    value: float | None = None
    unit: str = "x"
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    envol: str = ""
    peer: str = ""
    floor: str = ""
    goal: str = ""
    note: str = ""
    floor_value: float | None = None
    goal_value: float | None = None


@dataclass(frozen=True)
class Row:
    """One comparison of a group: `judge(runs, context)` gives its Outcome."""

    group: str
    against: str
    judge: object


class Missing(Exception):
    """Runs that a row needs are not there; the text is the reason."""


def by_round(runs, subject, metric):
    """`metric` of `subject`, by round."""
    found = {run["round"]: run["values"][metric] for run in runs if run["subject"] == subject and metric in run.get("values", {})}
    if not found:
        reasons = [run["not_measured"] for run in runs if run["subject"] == subject and "not_measured" in run]
        raise Missing(reasons[-1] if reasons else f"no run of {subject}")
    return found


def paired(runs, sides, metric):
    """Of each round that has all sides: their values."""
    series = [by_round(runs, side, metric) for side in sides]
    rounds = sorted(set.intersection(*(set(one) for one in series)))
    if not rounds:
        raise Missing("no round in which all sides were measured")
    return [tuple(one[number] for one in series) for number in rounds]


def written(value, metric):
    if metric == "bytes_per_s":
        return f"{value / 1e6:.0f} MB/s"
    if metric == "iops":
        return f"{value / 1e3:.1f}k IOPS" if value >= 1e4 else f"{value:.0f} IOPS"
    return f"{value:.0f} us" if value >= 100 else f"{value:.1f} us"


def verdict(value, floor, goal, least):
    """`least`: whether more is better. Values are judged as they are shown."""
    reached = (lambda bar: value >= bar) if least else (lambda bar: value <= bar)
    if goal is not None and reached(goal):
        return GOAL
    if floor is None:
        return MEASURED
    return FLOOR if reached(floor) else BELOW


def summary(values):
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}


@dataclass(frozen=True)
class Ratio:
    """envol's rate as a multiple of the peer's."""

    metric: str
    peer: str
    floor: float | None
    goal: float | None
    subject: str = "envol"

    def __call__(self, runs, _context):
        pairs = paired(runs, (self.subject, self.peer), self.metric)
        numbers = summary([own / other for own, other in pairs])
        sides = [written(statistics.median(side), self.metric) for side in zip(*pairs)]
        return Outcome(
            verdict(round(numbers["value"], 2), self.floor, self.goal, True), **numbers, envol=sides[0], peer=sides[1],
            floor="" if self.floor is None else f"{self.floor:g}x", goal="" if self.goal is None else f"{self.goal:g}x",
            floor_value=self.floor, goal_value=self.goal,
        )


@dataclass(frozen=True)
class NoWorse:
    """A latency, as a multiple of the peer's: at most 1."""

    metric: str
    peer: str = "nbdkit file"

    def __call__(self, runs, _context):
        pairs = paired(runs, ("envol", self.peer), self.metric)
        numbers = summary([own / other for own, other in pairs])
        sides = [written(statistics.median(side), self.metric) for side in zip(*pairs)]
        return Outcome(
            verdict(round(numbers["value"], 2), 1.0, None, False), **numbers, unit="x the time", envol=sides[0], peer=sides[1],
            floor="not worse", floor_value=1.0,
        )


@dataclass(frozen=True)
class OfPossible:
    """Encryption costs its cycles and nothing else: the rate as a part of 1/(1/null cipher + 1/cipher alone)."""

    kind: str  # which of the cipher's rates: "bulk" or "single"
    ways: dict = field(default_factory=dict)  # the share of each way
    floor: float = 0.9
    goal: float = 0.95

    def __call__(self, runs, context):
        pairs = paired(runs, ("envol", "envol null"), "bytes_per_s")
        rates = context.cipher_rates()
        if not rates:
            raise Missing("no figure of the cipher alone: " + context.why_no_cipher())
        per_byte = sum(share / rates[self.kind, way] for way, share in self.ways.items())
        possible = [1 / (1 / null + per_byte) for _, null in pairs]
        numbers = summary([own / most for (own, _), most in zip(pairs, possible)])
        return Outcome(
            verdict(round(numbers["value"], 2), self.floor, self.goal, True), **numbers,
            envol=written(statistics.median(own for own, _ in pairs), "bytes_per_s"),
            peer=written(statistics.median(possible), "bytes_per_s"), floor=f"{self.floor:g}x", goal=f"{self.goal:g}x",
            note=f"null cipher {written(statistics.median(null for _, null in pairs), 'bytes_per_s')}, cipher alone {1 / per_byte / 1e9:.1f} GB/s",
            floor_value=self.floor, goal_value=self.goal,
        )


@dataclass(frozen=True)
class Over:
    """A latency: how many microseconds over the peer's."""

    metric: str
    peer: str
    floor: float | None
    goal: float | None
    subject: str = "envol"

    def __call__(self, runs, _context):
        pairs = paired(runs, (self.subject, self.peer), self.metric)
        numbers = summary([own - other for own, other in pairs])
        sides = [written(statistics.median(side), self.metric) for side in zip(*pairs)]
        return Outcome(
            verdict(round(numbers["value"], 1), self.floor, self.goal, False), **numbers, unit="us more", envol=sides[0],
            peer=sides[1], floor="" if self.floor is None else f"+{self.floor:g} us", goal="" if self.goal is None else f"+{self.goal:g} us",
        )


@dataclass(frozen=True)
class AtMost:
    """An amount with a bound, which may come with the runs (`bound_metric`); without any bound it is only stated."""

    metric: str
    unit: str
    bound: float | None = None
    bound_metric: str | None = None
    digits: int = 1
    only_on: str | None = None  # the bound holds on this place alone

    def __call__(self, runs, context):
        values = list(by_round(runs, "envol", self.metric).values())
        bound = self.bound if self.only_on in (None, context.place) else None
        if self.bound_metric:
            found = [run["values"].get(self.bound_metric) for run in runs if "values" in run]
            bound = found[-1] if found else None
        numbers = summary(values)
        return Outcome(
            verdict(round(numbers["value"], self.digits), bound, None, False), **numbers, unit=self.unit,
            envol=f"{numbers['value']:.{self.digits}f} {self.unit}", floor="" if bound is None else f"<= {bound:g} {self.unit}",
        )


FILE, LUKS, NULL = "nbdkit file", "nbdkit luks", "1/(1/null + 1/cipher)"


def against_servers(group, metric, file, luks=None):
    rows = [Row(group, FILE, Ratio(metric, FILE, *file))]
    return rows + ([Row(group, LUKS, Ratio(metric, LUKS, *luks)), *trials(group, metric)] if luks else [])


def trials(group, metric):
    """What a server gets that does only what none can leave out, without a cipher: the limit that the bars run into."""
    sides = ((way, peer) for peer in (FILE, LUKS) for way in ("trial nothing", "trial file"))
    return [Row(group, f"{way} / {peer}", Ratio(metric, peer, None, None, way)) for way, peer in sides]


def of_possible(group, kind, **ways):
    return Row(group, NULL, OfPossible(kind, ways))


def latencies(group, way):
    rows = [Row(group, f"{FILE}, {metric[:3]}", NoWorse(metric)) for metric in ("p50_us", "p99_us")]
    return [*rows, of_possible(group, "single", **{way: 1})]


def cold(group, over=None):
    """At qd1 the latency `over`: p50; of sequential reads the mean, since readahead makes most of them hits."""
    direct, buffered = "fio, O_DIRECT", "fio, buffered"
    sides = (
        (direct, direct, "envol"), (buffered, buffered, "envol"), (f"both O_DIRECT / {direct}", direct, "envol, O_DIRECT"),
        (f"trial ring / {buffered}", buffered, "trial ring"), (f"trial direct / {direct}", direct, "trial direct"),
    )
    rows = []
    for against, peer, subject in sides:
        barred = not subject.startswith("trial")
        if over:
            floor, goal = (30, 20) if barred else (None, None)
            rows.append(Row(group, f"{against}, {over.removesuffix('_us')}", Over(over, peer, floor, goal, subject)))
        else:
            rows.append(Row(group, against, Ratio("bytes_per_s", peer, 0.9 if barred else None, None, subject)))
    return rows


def durable(group):
    """A WRITE and a FLUSH are two requests, each of which is waited for, where fio makes one: no bar is set for that."""
    sides = (("FUA", 0.9), ("FLUSH", None))
    rows = [Row(group, f"{how} / fio, fdatasync", Ratio("iops", "fio, fdatasync", floor, None, f"envol {how}")) for how, floor in sides]
    return [*rows, Row(group, "FUA / nbdkit file, FUA", Ratio("iops", "nbdkit file FUA", None, None, "envol FUA"))]


ROWS = [
    *against_servers("randread-4k", "iops", (1.5, 2.0), (2.5, 3.5)), of_possible("randread-4k", "single", read=1),
    *against_servers("randwrite-4k", "iops", (1.5, 2.0), (2.5, 3.5)), of_possible("randwrite-4k", "single", write=1),
    *against_servers("read-256k", "bytes_per_s", (1.1, 1.3), (4, 5)), of_possible("read-256k", "bulk", read=1),
    *against_servers("write-256k", "bytes_per_s", (0.9, 1.1), (4, 5)), of_possible("write-256k", "bulk", write=1),
    *against_servers("copy-out", "bytes_per_s", (1.0, 1.2), (3, 4)), of_possible("copy-out", "bulk", read=1),
    *against_servers("copy-in", "bytes_per_s", (1.0, 1.2), (3, 4)), of_possible("copy-in", "bulk", write=1),
    *against_servers("mixed-64k", "bytes_per_s", (1.0, 1.3)), of_possible("mixed-64k", "bulk", read=0.7, write=0.3),
    *latencies("read-4k-qd1", "read"),
    *latencies("write-4k-qd1", "write"),
    *against_servers("write-512", "iops", (0.9, None)), of_possible("write-512", "single", write=1),
    Row("neighbour", f"{FILE}, p99", NoWorse("p99_us")),
    *cold("cold-randread-4k"), *cold("cold-read-256k"),
    *cold("cold-randread-4k-qd1", "p50_us"), *cold("cold-read-256k-qd1", "mean_us"),
    *durable("durable-1"), *durable("durable-16"),
    Row("durable-shared", "-", AtMost("syncs_per_write", "syncs a write", bound=0.99, digits=2)),
    Row("memory-idle", "-", AtMost("resident_mib", "MiB", bound=64)),
    Row("memory-flood", "-", AtMost("resident_mib", "MiB", bound_metric="limit_mib")),
    Row("idle", "data path", AtMost("wakeups", "wake-ups", bound=0, digits=0)),
    Row("attach", "-", AtMost("milliseconds", "ms", bound=20, only_on="tmpfs")),
    Row("attach-syncs", "attach", AtMost("attach_syncs", "syncs", digits=0)),
    Row("attach-syncs", "detach", AtMost("detach_syncs", "syncs", digits=0)),
]


def judged(row, runs, context):
    """The row's outcome; where something is missing, the reason, loud."""
    try:
        outcome = row.judge(runs, context)
    except Missing as missing:
        return Outcome(f"{ABSENT}: {missing}")
    outcome.note = outcome.note or remark(runs)
    return outcome


def remark(runs):
    """What must be known to judge the figures, where a group measured that too."""
    values = [run["values"] for run in runs if "values" in run]
    shares = [one["from_device_share"] for one in values if "from_device_share" in one]
    if shares:
        return f"cold: the device gave {min(shares):.0%} or more of what the client got"
    flushes = [one["device_flushes"] for one in values if one.get("device_flushes") is not None]
    if flushes:
        return f"{flushes[-1]} flushes of the device for {values[-1]['writes']} writes"
    if values and "cap_source" in values[-1]:
        return values[-1]["cap_source"]
    return ""
