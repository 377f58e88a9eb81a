"""How fast the demo catalogue is generated, and how its memory grows with its size.

python -m benchmarks.demo_catalogue
python -m benchmarks.demo_catalogue --products 1000000 --repeats 1
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

# One process per run: peak memory belongs to a process and never falls.
_RUN = """
import json, resource, sys, time
from pathlib import Path
from pipelines.demo.generate import DemoOptions, generate

folder, products, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
summary = generate(folder, DemoOptions(products=products, seed=seed))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({
    "seconds": seconds, "before_mib": before / 1024, "peak_mib": peak / 1024,
    "pairs": sum(summary.pairs.values()), "behaviours": summary.rows["behaviours.parquet"],
    "disk_mib": sum(path.stat().st_size for path in folder.iterdir()) / 2**20,
}))
"""


def measure(products: int, seed: int) -> dict[str, float]:
    """Seconds, memory and rows of one generation in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        run = subprocess.run(
            [sys.executable, "-c", _RUN, str(Path(scratch) / "demo"), str(products), str(seed)],
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(run.stdout)


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    print(f"`python -m benchmarks.demo_catalogue {' '.join(sys.argv[1:])}`".replace(" `", "`"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()};")
    print(f"median of {arguments.repeats}, one process each\n")
    print("| products | pairs | behaviour rows | disk | seconds | products/s | peak memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    points = []
    for products in arguments.products:
        runs = [measure(products, seed) for seed in range(arguments.repeats)]
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        points.append((products, middle))
        print(
            f"| {products:,} | {middle['pairs']:,.0f} | {middle['behaviours']:,.0f} | "
            f"{middle['disk_mib']:,.0f} MiB | {middle['seconds']:.1f} | "
            f"{products / middle['seconds']:,.0f} | {middle['peak_mib']:,.0f} MiB |",
            flush=True,
        )
    for (few, small), (many, large) in pairwise(points):
        more = many - few
        print(
            f"\nfrom {few:,} to {many:,}: "
            f"{1e6 * (large['seconds'] - small['seconds']) / more:.1f} µs and "
            f"{2**20 * (large['peak_mib'] - small['peak_mib']) / more:,.0f} bytes per product"
        )


if __name__ == "__main__":
    main()
