"""scripts/bench: every row of "what must be reached", each in the same run as its peer.

Here is the order of things: places (a tmpfs, a disk), groups on each, rounds of each group, subjects in turn in each
round; then the table and the pictures, from all that was measured with this build, now or in an earlier run.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import cipher
import machine
import options as words
import pictures
import rows
import scale
import table
from console import NotMeasured, say
from groups import GROUPS, fits
from processes import Processes
from results import Results
from servers import Place

OUTPUT = Path("target/bench")
ENVOL = Path("target/release/envol")
ALONE = "cpu"  # the place of what needs no file system


class Bench:
    """What the parts share: options, the program, where sockets lie, the processes to end."""

    def __init__(self, options):
        self.options, self.seconds, self.binary = options, options.seconds, ENVOL
        self.processes = Processes()
        self.run_directory = Path(tempfile.mkdtemp(prefix="envol-bench."))
        self.size_bytes = options.size or usual_size(options.tmpfs)
        self.cold_bytes = options.cold_size or 4 << 30
        OUTPUT.mkdir(parents=True, exist_ok=True)
        self.places = self.find_places(options)
        hidden = [(place.directory, "DIR") for place in self.places]
        hidden += [(self.run_directory, "RUN"), (Path.cwd(), ".")]
        self.results = Results(OUTPUT, machine.description(self.binary), hidden)

    def find_places(self, options):
        disk = Path(options.dir) if options.dir else OUTPUT
        kind = machine.file_system(disk)
        return [Place(self, "tmpfs", options.tmpfs, self.size_bytes), Place(self, kind if kind != "tmpfs" else "dir", disk, self.size_bytes)]

    def close(self):
        for place in self.places:
            place.close()
        self.processes.stop_all()
        shutil.rmtree(self.run_directory, ignore_errors=True)


def usual_size(tmpfs):
    """1 GiB; on a small machine as much as five full volumes and the clients fit in with."""
    free = shutil.disk_usage(tmpfs).free
    return max(64 << 20, min(1 << 30, (min(free, machine.memory_bytes()) // 10) >> 20 << 20))


def names(bench):
    """Every group and place, as `--only` matches them."""
    yield "cipher", ALONE, None, None
    yield "ladder", "tmpfs", None, bench.places[0]
    for place in bench.places:
        for group in GROUPS:
            if group.places in ("both", "tmpfs" if place is bench.places[0] else "disk"):
                yield group.name, place.label, group, place


def measure_group(bench, group, place):
    """All rounds of one group; what cannot be measured is in the results, with its reason."""
    rounds = 1 if group.once else bench.options.rounds
    runs, refused = [], {}
    document = {"title": group.title, "rounds": rounds, "seconds": bench.seconds, "size_bytes": place.size_bytes, "runs": runs}
    for number in range(rounds):
        # Every other round the other way round, so that nobody always comes after the same one.
        for subject in group.subjects if number % 2 == 0 else reversed(group.subjects):
            if subject in refused:
                continue
            run = {"subject": subject, "round": number, "load": os.getloadavg()[0], "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            try:
                fits(group, place)
                if place.on_disk:
                    os.sync()
                run["values"] = group.measure(bench, place, subject)
            except NotMeasured as error:
                run["not_measured"] = refused[subject] = str(error)
                say(f"  {subject}: not measured: {error}")
            runs.append(run)
        say(f"{group.name}@{place.label}: round {number + 1} of {rounds}" + progress(runs, number))
        bench.results.save(group.name, place.label, document)


def progress(runs, number):
    """The one figure of each run of this round that tells most."""
    words_ = []
    for run in runs:
        if run["round"] == number and "values" in run:
            name, value = next(iter(run["values"].items()))
            words_.append(f"{run['subject']} {value:,.0f} {name}" if value >= 100 else f"{run['subject']} {value:.2f} {name}")
    return ": " + "; ".join(words_) if words_ else ""


def measure_alone(bench, name, place):
    """The cipher bench, or the ladder: each is a program that takes turns by itself."""
    # Five are the least that the cipher bench takes.
    document = {"rounds": max(5, bench.options.rounds) if name == "cipher" else bench.options.rounds}
    try:
        if name == "cipher":
            document["lines"] = cipher.table(document["rounds"])
        else:
            against = [(server, place.server(server).uri) for server in ("nbdkit file", "nbdkit luks") if served(place, server)]
            seconds = min(bench.seconds, 0.25)
            document["report"] = cipher.ladder(bench.binary, place.directory, bench.options.rounds, seconds, against, OUTPUT / "ladder.svg")
    except (NotMeasured, ValueError, KeyError) as error:
        document["not_measured"] = str(error)
        say(f"{name}: not measured: {error}")
    bench.results.save(name, place.label if place else ALONE, document)


def served(place, name):
    try:
        place.server(name)
        return True
    except NotMeasured as error:
        say(f"  without {name}: {error}")
        return False


class Judging:
    """What rows are judged with, beside their own runs."""

    def __init__(self, results):
        self.results, self.place = results, None

    def document(self, name, place):
        return self.results.load(name, place) or {}

    def cipher_rates(self):
        found = self.document("cipher", ALONE)
        if found.get("lines"):
            return cipher.rates_of_table(found["lines"])
        found = self.document("ladder", "tmpfs")
        return cipher.rates_of_ladder(found["report"]) if found.get("report") else {}

    def why_no_cipher(self):
        return self.document("cipher", ALONE).get("not_measured", "the cipher bench has not run")


def cipher_lines(document):
    """The rows of the cipher bench, which judges itself by the same words."""
    if "lines" not in document:
        yield table.cells("XTS alone", ALONE, "AWS-LC, OpenSSL", rows.Outcome(f"{rows.ABSENT}: {document.get('not_measured', 'not asked for')}"))
        return
    for line in document["lines"]:
        floor, goal = line["floor"], line["goal"]
        yield table.cells(
            f"XTS alone, {line['engine']}, {line['way']}, {line['form']}, {line['sector_bytes']}-byte sectors, {line['request_bytes'] >> 10} KiB",
            ALONE, line["peer"],
            rows.Outcome(
                rows.verdict(round(line["ratio"], 2), floor, goal, True), line["ratio"], "x", line["ratio_low"], line["ratio_high"],
                document["rounds"], f"{line['figure']:.2f} GB/s", f"{line['peer_figure']:.2f} GB/s",
                "" if floor is None else f"{floor:g}x", "" if goal is None else f"{goal:g}x",
            ),
        )


def report(bench):
    """The table of everything measured with this build, as text and markdown; the pictures beside it."""
    context = Judging(bench.results)
    lines, drawn, unasked = [], {}, 0
    if words.asked_for(bench.options, f"cipher@{ALONE}") or context.document("cipher", ALONE):
        lines += cipher_lines(context.document("cipher", ALONE))
    for name, label, group, place in names(bench):
        if group is None:
            continue
        context.place = label
        document = bench.results.load(name, label)
        for row in (row for row in rows.ROWS if row.group == name):
            if document is None:
                unasked += 1
                continue
            outcome = rows.judged(row, document["runs"], context)
            lines.append(table.cells(group.title, label, row.against, outcome))
            drawn.setdefault(label, []).append((group.title, row.against, outcome))
    options = bench.options
    settings = f"{options.rounds} rounds of {options.seconds:g} s, full volumes of {bench.size_bytes >> 20} MiB, cold volume of {bench.cold_bytes >> 20} MiB"
    if options.rounds < 5:
        settings += ". FEWER THAN 5 ROUNDS: this shows that it works, and is no result"
    head = table.heading(bench.results.machine, settings)
    foot = [table.count(lines)]
    if unasked:
        foot.append(f"{unasked} more rows were not asked for (--only), nor measured before with this build.")
    text = table.as_text(head, lines, foot)
    (OUTPUT / "bench.txt").write_text(text)
    (OUTPUT / "bench.md").write_text(table.as_markdown(head, lines, foot))
    print(text)
    try:
        pictures.ratios(OUTPUT, drawn, bench.results.machine)
    except NotMeasured as error:
        say(f"no pictures: {error}")
    say(f"written: {OUTPUT}/bench.txt, {OUTPUT}/bench.md, {OUTPUT}/*.svg, {OUTPUT}/raw/*.json")


def complete(bench, name, label):
    found = bench.results.load(name, label)
    return found is not None and found["rounds"] >= bench.options.rounds and found.get("seconds", bench.seconds) >= bench.seconds


def measure(bench):
    current = None
    for name, label, group, place in names(bench):
        if not words.asked_for(bench.options, f"{name}@{label}"):
            continue
        if bench.options.resume and (group is None or not group.once) and complete(bench, name, label):
            say(f"{name}@{label}: measured already")
            continue
        if place is not None and place is not current:
            if current is not None:
                current.close()
            place.open()
            current = place
        if group is None:
            measure_alone(bench, name, place)
        else:
            measure_group(bench, group, place)


def ended(_signal, _frame):
    raise KeyboardInterrupt


def main():
    options = words.parse(sys.argv[1:])
    if options.list:
        for group in [("cipher", "XTS alone"), ("ladder", "envol bench, with the peers on the same axes")] + [(g.name, g.title) for g in GROUPS]:
            print(f"{group[0]:22} {group[1]}")
        return 0
    if not ENVOL.exists():
        print("scripts/bench: there is no target/release/envol", file=sys.stderr)
        return 2
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, ended)
    bench = Bench(options)
    try:
        if options.scale:
            scale.measure_and_report(bench, OUTPUT)
        else:
            measure(bench)
            report(bench)
        return 0
    except KeyboardInterrupt:
        say("ended; what was measured is kept, and --resume goes on from there")
        return 130
    finally:
        bench.close()


sys.exit(main())
