"""preflightd as a process: `preflightd`, or `python -m preflightd`."""

from common.early import begin, leave


def main() -> None:
    """Run and exit with the code that SPEC 6 gives."""
    begin()
    from common.healthcheck import answer_if_asked  # noqa: PLC0415

    answer_if_asked("preflightd")
    # Half a second, in which signals are noted.
    from common.cli import run  # noqa: PLC0415
    from common.daemon_cli import program  # noqa: PLC0415
    from preflightd.checklist_command import CHECKLIST  # noqa: PLC0415
    from preflightd.daemon import PREFLIGHTD  # noqa: PLC0415
    from preflightd.evaluate import EVALUATE  # noqa: PLC0415
    from preflightd.watch import WATCH  # noqa: PLC0415

    leave(run(program(PREFLIGHTD, [CHECKLIST, EVALUATE, WATCH])))


if __name__ == "__main__":
    main()
