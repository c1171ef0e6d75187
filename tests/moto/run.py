"""Runs moto's own KMS tests against `envol kms serve` and holds what fails against the reviewed list.

usage: run.py ENVOL TESTS    TESTS: the directory of moto's source archive that holds tests/test_kms
Exits 0 only if exactly the tests of reviewed.toml fail.
"""

import os
import pathlib
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).parent


def outcomes(report):
    """Each test's name as pytest's command line has it, and whether it passed."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        module, *classes = case.get("classname").split("tests.test_kms.")[1].split(".")
        name = "::".join([f"{module}.py", *classes, case.get("name")])
        if case.find("skipped") is None:
            yield name, case.find("failure") is None and case.find("error") is None


def run(program, tests):
    """The port of the stand is its first line; pytest's exit code says only that something failed."""
    report = pathlib.Path(tests, "report.xml")
    report.unlink(missing_ok=True)
    stand = subprocess.Popen([sys.executable, "-B", HERE / "stand.py", program], stdout=subprocess.PIPE, text=True)
    try:
        endpoint = f"http://127.0.0.1:{int(stand.stdout.readline())}"
        told = {"TEST_SERVER_MODE": "true", "TEST_SERVER_MODE_ENDPOINT": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        pytest = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "--color=no"]
        with open(pathlib.Path(tests, "pytest.log"), "wb") as log:
            command = [*pytest, f"--junit-xml={report.name}", "tests/test_kms"]
            subprocess.run(command, cwd=tests, env={**os.environ, **told}, stdout=log, stderr=log, check=False)
    finally:
        stand.terminate()
        stand.wait()
    return dict(outcomes(report))


def main():
    results = run(os.path.abspath(sys.argv[1]), sys.argv[2])
    reviewed = tomllib.loads(HERE.joinpath("reviewed.toml").read_text(encoding="utf-8"))["reviewed"]
    listed = {name for entry in reviewed for name in entry["tests"]}
    of_list = lambda name: name in listed or re.sub(r"\[.*", "", name, flags=re.DOTALL) in listed
    failed = {name for name, passed in results.items() if not passed}
    unlisted = sorted(name for name in failed if not of_list(name))
    better = sorted(name for name in results if of_list(name) and name not in failed)
    unknown = sorted(name for name in listed if not any(of == name or of.startswith(name + "[") for of in results))
    for what, names in [("fails", unlisted), ("passes, though it is reviewed", better), ("no such test", unknown)]:
        for name in names:
            print(f"{what}: {name}")
    print(f"moto's KMS tests: {len(results) - len(failed)} of {len(results)} pass, {len(failed) - len(unlisted)} are reviewed")
    sys.exit(1 if unlisted or better or unknown or len(results) < 200 else 0)


if __name__ == "__main__":
    main()
