"""The words of scripts/bench, and what stands for a word that is left out."""

import argparse
import fnmatch


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures envol against its peers, row by row, interleaved; writes target/bench/.",
        epilog="Also --no-install: install nothing, measure what can be measured with what is there. ENVOL_IO and what else "
        "chooses envol's data path is taken from the environment, and stands in the results.",
    )
    parser.add_argument("--only", metavar="PATTERN", help="groups whose name@place contains one of these (comma; * and ? work); see --list")
    parser.add_argument("--rounds", type=positive(int), metavar="N", help="how often each takes its turn [default: 5]")
    parser.add_argument("--seconds", type=positive(float), metavar="S", help="how long a turn is [default: 2]")
    parser.add_argument("--size", type=size, metavar="SIZE", help="of each full volume, such as 512M [default: 1G, less on a small machine]")
    parser.add_argument("--cold-size", type=size, metavar="SIZE", help="of the volume that is read from disk [default: 4G]")
    parser.add_argument("--dir", metavar="DIR", help="on which disk [default: target/bench]")
    parser.add_argument("--tmpfs", metavar="DIR", default="/dev/shm", help="on which tmpfs [default: /dev/shm]")
    parser.add_argument("--quick", action="store_true", help="one round of one second: whether all works, not a result")
    parser.add_argument("--resume", action="store_true", help="leave out what is measured already, with this build and as many rounds")
    parser.add_argument("--scale", action="store_true", help="instead: cost against volumes, connections, volume size, queue depth")
    parser.add_argument("--list", action="store_true", help="only list the groups")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


def positive(kind):
    def number(text):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    return number


def size(text):
    """Bytes, of a number with K, M, G or T (binary); a multiple of 1 MiB, as the files are written in such pieces."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(text[-1:].upper(), 1)
    digits = text[:-1] if unit > 1 else text
    if not digits.isdigit():
        raise argparse.ArgumentTypeError("is a number with K, M, G or T")
    bytes_ = int(digits) * unit
    if bytes_ < 64 << 20 or bytes_ % (1 << 20):
        raise argparse.ArgumentTypeError("is at least 64M, and a multiple of 1M")
    return bytes_


def asked_for(options, name):
    """Whether `--only` names it."""
    if not options.only:
        return True
    words = [word.strip().lower() for word in options.only.split(",") if word.strip()]
    return any(word in name.lower() or fnmatch.fnmatch(name.lower(), word) for word in words)
