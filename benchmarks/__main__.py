"""Run the benchmarks: `python -m benchmarks [--quick] [name ...]`.

Each suite is a module with `SUITE`, a list of measurements (see `benchmarks.report`). The table
is printed and written to `benchmarks/results/<time>.json` with what is known of the machine.
"""

import argparse
from importlib import import_module

from benchmarks.report import Report

SUITES = ("audio", "engine", "server", "live", "page", "soak")


def main() -> None:
    """Run the suites named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, shorter files")
    parser.add_argument("--only", help="measurements whose name contains this")
    options = parser.parse_args()
    unknown = set(options.names) - set(SUITES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    report = Report()
    try:
        for name in options.names or SUITES:
            for measure in import_module(f"benchmarks.{name}").SUITE:
                if not options.only or options.only in measure.__name__:
                    print(f"{name}: {measure.__name__} ...", flush=True)
                    measure(report, options.quick)
    finally:
        report.print()
        print(f"written to {report.write()}")


if __name__ == "__main__":
    main()
