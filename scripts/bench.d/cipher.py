"""The cipher alone: the rows of envol's own cipher bench, and the rates that encrypted rows are held against.

The bench is `cipher_table` (cargo feature `bench-peers`), which measures AWS-LC and OpenSSL in the same process and
judges itself; its lines become rows as they are. Where it is not there, the rates come from the ladder of `envol bench`.
"""

import json
import re
import shutil
from pathlib import Path

from console import NotMeasured
from processes import run

BENCH = ["cargo", "bench", "--locked", "--quiet", "--bench", "cipher_table", "--features", "bench-peers"]


def table(rounds):
    """The lines of the cipher bench: dicts with engine, way, sector_bytes, request_bytes, figure (GB/s), peer, ratio, ..."""
    if not re.search(r"^bench-peers *=", Path("Cargo.toml").read_text(), re.M):
        raise NotMeasured("this build has no cipher bench (no cargo feature bench-peers)")
    if shutil.which("cargo") is None:
        raise NotMeasured("there is no cargo to run the cipher bench")
    text = run([*BENCH, "--", "--json", "--rounds", str(rounds)], timeout=1200)
    return json.JSONDecoder().raw_decode(text[text.index("["):])[0]


def ladder(binary, directory, rounds, seconds, against, svg):
    """The report of `envol bench` with other servers on the same axes, and its picture in the file `svg`."""
    if "bench" not in run([str(binary), "--help"]).split("Commands:")[-1].split("Options:")[0].split():
        raise NotMeasured("this build has no envol bench")
    servers = [word for name, uri in against for word in ("--against", f"{name}={uri}")]
    return json.loads(run([
        str(binary), "bench", "--json", "--yes", "--dir", str(directory), "--rounds", str(rounds), "--seconds", str(seconds), "--svg", str(svg), *servers,
    ], timeout=600))


def rates_of_table(lines):
    """Bytes per second of one core, by kind of request (`bulk`, `single`) and way (`read` decrypts, `write` encrypts)."""
    rates = {}
    fastest = lines[0]["engine"]
    for line in lines:
        if line["engine"] != fastest or line["sector_bytes"] != 4096 or line["form"] != "in place":
            continue
        kind = {4096: "single", 65536: "bulk"}.get(line["request_bytes"])
        if kind:
            rates.setdefault((kind, "read" if line["way"].startswith("dec") else "write"), line["figure"] * 1e9)
    return rates


def rates_of_ladder(report):
    rates = {}
    for job in report["jobs"]:
        kind = {4096: "single", 262144: "bulk"}.get(job["block_size"])
        for figures in job["results"]:
            if kind and figures["rung"] == "cipher":
                rates.setdefault((kind, job["direction"]), figures["bytes_per_second"])
    return rates
