"""The raw results: one JSON file for each group and place, every single run in it, with the machine it was measured on.

Nothing in a file names a path of the machine: directories that a run made are written as words.
"""

import json
from pathlib import Path


class Results:
    def __init__(self, directory, machine, hidden):
        self.raw = Path(directory) / "raw"
        self.raw.mkdir(parents=True, exist_ok=True)
        self.machine, self.hidden = machine, hidden

    def path(self, group, place):
        return self.raw / f"{group}@{place}.json"

    def load(self, group, place):
        """What was measured with this very build, options apart; None where nothing was."""
        try:
            found = json.loads(self.path(group, place).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        same = found["machine"]["versions"]["envol_build"] == self.machine["versions"]["envol_build"]
        return found if same and found["machine"]["environment"] == self.machine["environment"] else None

    def save(self, group, place, document):
        text = json.dumps({"machine": self.machine, "group": group, "place": place, **document}, indent=1)
        for directory, word in self.hidden:
            text = text.replace(str(directory), word)
        path = self.path(group, place)
        part = path.with_suffix(".part")
        part.write_text(text + "\n")
        part.replace(path)
