"""statusd as a process: `statusd`, or `python -m statusd`."""

from common.early import begin, leave


def main() -> None:
    """Run and exit with the code that SPEC 6 gives."""
    begin()
    from common.healthcheck import answer_if_asked  # noqa: PLC0415

    answer_if_asked("statusd")
    # Half a second, in which signals are noted.
    from common.cli import run  # noqa: PLC0415
    from statusd.cli import PROGRAM  # noqa: PLC0415

    leave(run(PROGRAM))


if __name__ == "__main__":
    main()
