"""The table: as text for a terminal, and as markdown."""

import rows
from rows import Outcome

COLUMNS = ("work", "on", "against", "envol", "peer", "is", "rounds", "floor", "goal", "verdict")


def number(outcome):
    if outcome.value is None:
        return ""
    if outcome.unit in ("x", "x the time"):
        return f"{outcome.value:.2f}x"
    if outcome.unit == "us more":
        return f"{outcome.value:+.1f} us"
    return ""


def spread(outcome):
    if outcome.rounds < 2 or outcome.low is None:
        return str(outcome.rounds or "")
    return f"{outcome.rounds}: {outcome.low:.2f} to {outcome.high:.2f}"


def cells(title, place, against, outcome: Outcome):
    note = f" ({outcome.note})" if outcome.note else ""
    return (title, place, against, outcome.envol, outcome.peer, number(outcome), spread(outcome), outcome.floor, outcome.goal,
            outcome.verdict + note)


def heading(machine, settings):
    processor, versions = machine["processor"], machine["versions"]
    chosen = ", ".join(f"{name}={value}" for name, value in machine["environment"].items())
    return [
        f"{machine['date']}, {processor['cpus']} cpus of {processor['model']} ({', '.join(processor['features'])}), "
        f"{machine['memory_gib']} GiB, {'virtual: ' + machine['virtual'] if machine['virtual'] not in ('none', 'absent') else 'not virtual'}, "
        f"{machine['system']}, Linux {machine['kernel']}",
        f"{versions['envol']} (commit {versions['envol_commit']}; {versions['rustc']}), {versions['fio']}, {versions['nbdkit']}, "
        f"{versions['nbdcopy']}, {versions['qemu-img']}" + (f"; {chosen}" if chosen else ""),
        settings,
        "Peer and envol take turns in each round; a figure is the median of the ratios of the rounds. Clients share the processors.",
    ]


def count(lines):
    """How many rows of each verdict."""
    verdicts = [line[-1].partition(":")[0].partition(" (")[0] for line in lines]
    kinds = (rows.GOAL, rows.FLOOR, rows.MEASURED, rows.BELOW, rows.ABSENT)
    return ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds if verdicts.count(kind))


def as_text(head, lines, foot):
    # A group's name stands once, on its first line.
    lines = [("", "", *line[2:]) if before and line[:2] == before[:2] else line for before, line in zip([None, *lines], lines)]
    shown = [COLUMNS, *lines]
    widths = [max(len(line[column]) for line in shown) for column in range(len(COLUMNS) - 1)]
    body = ["  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[-1]]).rstrip() for line in shown]
    return "\n".join([*head, "", body[0], "-" * len(body[0]), *body[1:], "", *foot]) + "\n"


def as_markdown(head, lines, foot):
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    table = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS), *(f"| {' | '.join(line)} |" for line in escaped)]
    return "\n".join(["# envol and its peers, measured", "", *(line + "  " for line in head), "", *table, "", *(line + "  " for line in foot)]) + "\n"
