"""statusd as a process: `statusd`, or `python -m statusd`."""

from common.early import begin, leave


def main() -> None:
    """Run and exit with the code that SPEC 6 gives."""
    begin()
    from common.healthcheck import answer_if_asked  # noqa: PLC0415

    answer_if_asked("statusd")
    # Half a second, in which signals are noted.
    from common.cli import run  # noqa: PLC0415
    from common.daemon_cli import program  # noqa: PLC0415
    from statusd.daemon import STATUSD  # noqa: PLC0415
    from statusd.watch import WATCH  # noqa: PLC0415

    leave(run(program(STATUSD, [WATCH])))


if __name__ == "__main__":
    main()
