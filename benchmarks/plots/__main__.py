"""``python -m benchmarks.plots FILE.json ... FOLDER``: the pictures, and the table of ratios that the README shows."""

import argparse
from pathlib import Path

from ..comparison import read
from ..tables import compact, mean_line
from . import draw, merged


def main(arguments: list[str] | None = None) -> None:
    """Draw."""
    parser = argparse.ArgumentParser("python -m benchmarks.plots", description="Draw results of the benchmarks.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        found = merged([read(path) for path in options.files])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for path in draw(found, options.folder):
        print(path)
    print("\n" + compact(found["rows"]))
    print("\n" + mean_line([row for row in found["rows"] if row["suite"] == "workloads"]))


if __name__ == "__main__":
    main()
