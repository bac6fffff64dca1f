"""`make bench`: figures to read, never asserted. Ratios are of paired rounds, the rest is the machine's mood."""

import argparse

from tests.bench import apply, bench_modes, bench_plan, bench_routes, bench_xds, compile, throughput  # noqa: A004 - the bench's name is what it measures

BENCHES = {
    "compile": compile.run,
    "routes": bench_routes.run,
    "xds": bench_xds.run,
    "apply": apply.run,
    "plan": bench_plan.run,
    "throughput": throughput.run,
    "modes": bench_modes.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="which; all by default")
    for name in parser.parse_args().names or BENCHES:
        BENCHES[name]()


if __name__ == "__main__":
    main()
