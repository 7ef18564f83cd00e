"""Runs the `lexiseg` command for `python -m lexiseg`."""

from lexiseg.cli.main import run

if __name__ == "__main__":
    run()
