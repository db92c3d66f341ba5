// What a new status says that the one before it did not. Pure.

import { trafficWord } from "./lamps.js";

/** Whether the sources are to be asked again. */
export const concernsSources = (before, after) => gist(before) !== gist(after);

/** Whether there may be a new event. */
export const concernsEvents = (before, after) => conditions(before) !== conditions(after);

/** For who can't see the page: changes of the traffic mode, of who is there, and of the telemetry. */
export function announce(before, after) {
  const said = [];
  const { trafficMode } = after.vector.directions;
  if (before.vector.directions.trafficMode !== trafficMode) {
    said.push(`Traffic is ${trafficWord(trafficMode).toLowerCase()}.`);
  }
  const [old, away] = [before, after].map(({ meta }) => meta.unavailable ?? []);
  said.push(...away.filter((name) => !old.includes(name)).map((name) => `${name} is down.`));
  said.push(...old.filter((name) => !away.includes(name)).map((name) => `${name} is back.`));
  if (before.meta.telemetryStatus !== after.meta.telemetryStatus) {
    said.push(`Telemetry is ${after.meta.telemetryStatus}.`);
  }
  return said.join(" ");
}

const gist = ({ vector, meta }) => JSON.stringify([meta.telemetryStatus, meta.unavailable, vector.sessions.activeWorkers]);

const conditions = (status) => `${status.vector.directions.trafficMode} ${gist(status)}`;
