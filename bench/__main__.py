"""Runs the benchmarks one after the other and puts their results into the pages: `python -m bench [QUESTION ...]`."""

import argparse
import subprocess
import sys
from pathlib import Path

from bench.render import ROOT

ORDER = (
    "front",
    "worker",
    "dispatch",
    "limiter",
    "scale",
    "fairness",
    "utilisation",
    "saturation",
    "estimates",
    "recovery",
    "webhooks",
    "hostile",
    "fleet",
)
"""Each is a module of this package with a command line of its own."""


def questions() -> list[str]:
    """Those of the order that are here."""
    return [name for name in ORDER if Path(__file__).with_name(f"{name}.py").exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="*", help=f"of {', '.join(questions())}; all without any")
    parser.add_argument("--quick", action="store_true", help="short runs that are not kept")
    parser.add_argument("--repetitions", type=int, help="how often each is measured")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.question) - set(questions()))
    if unknown:
        parser.error(f"no such question: {', '.join(unknown)}; there are {', '.join(questions())}")
    failed = []
    for name in chosen.question or questions():
        print(f"== {name}", flush=True)
        options = ["--quick"] * chosen.quick
        if chosen.repetitions:
            options += ["--repetitions", str(chosen.repetitions)]
        if subprocess.run(
            [sys.executable, "-m", f"bench.{name}", *options], cwd=ROOT, check=False
        ).returncode:
            failed.append(name)
    if not chosen.quick:
        subprocess.run([sys.executable, "-m", "bench.render"], cwd=ROOT, check=True)
    if failed:
        sys.exit(f"these ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
