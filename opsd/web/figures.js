// The figures of a status document that more than one part of the page shows, so that all of them say the same. Pure.
//
// Where nobody answers, or nothing was measured, the server counts 0. That is no figure: here it is not a number.

const answered = ({ meta }) => meta.telemetryStatus !== "offline";
const ifAnswered = (read) => (status) => (answered(status) ? read(status.vector) : NaN);

export const connections = ifAnswered(({ sessions }) => sessions.websocketConnections);
export const workers = ifAnswered(({ sessions }) => sessions.activeWorkers);
export const cpu = ifAnswered(({ others }) => others.cpu);
export const uptime = ifAnswered(({ others }) => others.uptime);

/** Every process has some. */
export const memory = ({ vector }) => vector.others.memory || NaN;

/** Milliseconds of the requests of the last minute. */
export function latency({ vector }) {
  const { requestsPerSecond, avgLatency } = vector.directions.requestFlow;
  return requestsPerSecond > 0 ? avgLatency : NaN;
}

export const errorRate = ({ vector }) => vector.others.errorRate;
