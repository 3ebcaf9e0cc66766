"""Entry point of `python -m manyfit` and of the installed command."""

from __future__ import annotations

from manyfit.start import own_packages_first


def main() -> None:
    """Run the command line."""
    own_packages_first()
    from search.cli import main as command

    command()


if __name__ == "__main__":
    main()
