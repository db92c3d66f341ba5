"""The books of a run, when all is over: each conversation, each end and each log against what was done. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bench.chaos.accounts import Channel, Message, audit_preflight, audit_status
from bench.chaos.actors import BULK
from bench.chaos.crowd import name_of, texts
from bench.chaos.ends import DOCUMENTED, explained
from bench.chaos.programme import COUNTED, status_frame
from bench.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.chaos.accounts import Account
    from bench.chaos.crowd import Crowd
    from bench.chaos.faults import Fault
    from bench.chaos.journal import Journal
    from bench.chaos.writer import Writer
    from tests.support.load import Traffic


def audit(
    crowd: Crowd, traffic: Traffic, writer: Writer, journals: dict[str, Journal], faults: Sequence[Fault]
) -> list[Verdict]:
    """Hold each conversation against what was published and written, and each end against what was done."""
    channels = {
        name: Channel([Message(sent.at, sent.heard is not None) for sent in account], [sent.frame for sent in account])
        for name, account in traffic.sent.items()
    }
    accounts: dict[str, list[Account]] = {"statusd": [], "preflightd": []}
    findings: dict[str, list[str]] = {"statusd": [], "preflightd": []}
    extras = {status_frame(payload) for payload in (BULK, *COUNTED)}
    for visit in crowd.visits:
        guest = visit.guest
        if guest.daemon == "statusd":
            journal = journals["statusd"]
            account = audit_status(
                texts(visit),
                channels[guest.path[1:]],
                journal.outages_of(journal.server.get(visit.address)),
                asked=visit.asked,
                opened=visit.opened,
                wants_gap=guest.wants_gap,
                extras=extras,
            )
        else:
            account = audit_preflight(texts(visit), writer.truths[guest.path[1:]])
        accounts[guest.daemon].append(account)
        findings[guest.daemon] += [f"{name_of(visit)}: {finding}" for finding in account.findings]
    status = accounts["statusd"]
    checklists = accounts["preflightd"]
    published = sum(map(len, traffic.sent.values()))
    return [
        Verdict(
            "while the link lives each message comes once, in order, none lost, none foreign",
            f"{len(status)} conversations, {published} messages, {sum(one.received for one in status)} received,"
            f" {sum(one.excused for one in status)} missed in outages that were told,"
            f" {sum(one.gaps for one in status)} gap frames",
            tuple(findings["statusd"]),
        ),
        Verdict(
            "checklists are true, none twice in a row, none older than the last",
            f"{len(checklists)} conversations, {writer.number} writes,"
            f" {sum(one.received for one in checklists)} frames",
            tuple(findings["preflightd"]),
        ),
        _audit_ends(crowd, journals, faults),
    ]


def _audit_ends(crowd: Crowd, journals: dict[str, Journal], faults: Sequence[Fault]) -> Verdict:
    findings: list[str] = []
    reasons: Counter[str] = Counter()
    for visit in crowd.visits:
        guest, journal = visit.guest, journals[visit.guest.daemon]
        reason = journal.reason.get(visit.address)
        felt = [fault for fault in faults if fault.daemon in {"", guest.daemon}]
        if reason is None:
            # Nobody lives to tell of it, or what was told did not fit on the disk.
            silent = any(fault.kind.deaths or fault.kind.alone for fault in felt)
            reasons["process gone" if silent else "untold"] += 1
            if not silent:
                findings.append(f"{name_of(visit)}: an end of which the log says nothing")
            continue
        reasons[reason] += 1
        allowed = explained(guest.manner, far=guest.far, daemon=guest.daemon, faults=felt)
        if reason not in DOCUMENTED & allowed:
            findings.append(f"{name_of(visit)}: ended with {reason}, which nothing explains")
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    refused = ", ".join(f"{why} {count}" for why, count in crowd.refused.most_common())
    return Verdict(
        "every end has a documented reason", f"{told}; handshakes refused: {refused or 'none'}", tuple(findings)
    )


def check_logs(journals: dict[str, Journal], stderr: Mapping[str, str], faults: Sequence[Fault]) -> Verdict:
    """What the daemons have said of themselves, and on standard error."""
    findings: list[str] = []
    told: list[str] = []
    for name, journal in journals.items():
        findings += [f"{name}: {traceback[-600:]}" for traceback in journal.tracebacks]
        if stderr[name]:
            findings.append(f"{name} on standard error: {stderr[name][-600:]}")
        killed = sum(fault.kind.deaths for fault in faults if fault.daemon == name)
        if len(journal.died) > killed:
            findings.append(f"{name}: {len(journal.died)} workers died, and {killed} were killed")
        errors = ", ".join(f"{message} x {count}" for message, count in sorted(journal.errors.items()))
        told.append(f"{name}: {errors or 'no errors'}, {journal.dropped} lines dropped")
    return Verdict(
        "no traceback, no death that is nobody's doing, nothing on standard error", "; ".join(told), tuple(findings)
    )
