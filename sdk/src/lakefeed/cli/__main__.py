"""``python -m lakefeed.cli``."""

from lakefeed.cli.main import main

if __name__ == "__main__":
    main()
