// What has happened, as opsd's events tell it: in words, for the list and for the charts. Pure.

import * as format from "./format.js";

const LEVELS = new Map([
  ["normal", "ok"],
  ["healthy", "ok"],
  ["up", "ok"],
  ["ready", "ok"],
  ["online", "ok"],
  ["isolated", "bad"],
  ["offline", "bad"],
  ["down", "bad"],
  ["none", "bad"],
]);

const SUBJECTS = new Map([
  ["mode", () => "Traffic"],
  ["telemetry", () => "Telemetry"],
  ["source", ({ source }) => source],
  ["workers", ({ source }) => `Workers of ${source}`],
]);

/** What an event is known by. */
export const keyOf = ({ time, kind, source }) => `${time} ${kind} ${source ?? ""}`;

/** How bad what it came to is; what has no word here is worth a look. */
export const levelOf = ({ to }) => LEVELS.get(to) ?? "warn";

/** Whom it is about; of a kind that is not known yet, as it comes. */
export function subjectOf(event) {
  const known = SUBJECTS.get(event.kind)?.(event);
  return String(known ?? [event.kind, event.source].filter((part) => part !== undefined).join(" "));
}

/** One line: “statusd: down”. */
export const titleOf = (event) => `${subjectOf(event)}: ${event.to}`;

/** What was before it, and what else is known. */
export function detailOf(event) {
  const rate = event.kind === "mode" && Number.isFinite(event.errorRate);
  return `was ${event.from}${rate ? `, error rate ${format.text(format.percent(event.errorRate))}` : ""}`;
}
