"""The command: ``python -m haul``, and ``haul`` where the package is installed."""

import sys

from haul import _haul


def main():
    name = "haul" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    return _haul.run([name, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
