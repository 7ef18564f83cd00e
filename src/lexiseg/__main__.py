"""`python -m lexiseg` is the `lexiseg` command."""

from lexiseg.cli.main import run

if __name__ == "__main__":
    run()
