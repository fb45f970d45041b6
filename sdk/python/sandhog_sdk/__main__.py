"""`python -m sandhog_sdk build [PROJECT] [--out FILE]`: makes the component of a project, and prints where it is."""

import argparse
import sys
from pathlib import Path

from .build import BuildError, build


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="sandhog-python", description="Makes components of Python handlers.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("build", help="make the component of a project, and print where it is")
    command.add_argument("project", nargs="?", type=Path, default=Path("."), help="its folder, with a pyproject.toml")
    command.add_argument("--out", type=Path, help="the component's file; NAME.wasm in the project, if not given")
    given = parser.parse_args()
    try:
        print(build(given.project, given.out))
    except BuildError as error:
        print(f"sandhog-python: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
