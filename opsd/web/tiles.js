// What the tiles show, in their groups: each has a key, a title, how its figure is read, the small line below, and
// perhaps how bad it is. Pure.

import * as figures from "./figures.js";
import * as format from "./format.js";

const words = (value) => ({ value, unit: "" });

const routes = ({ activeRoutes, totalRoutes }) => ({
  value: format.count(activeRoutes).value,
  unit: `of ${format.count(totalRoutes).value}`,
});

/** As the server calls the traffic at such an error rate. */
function errorLevel(status, { degradedFrom, isolatedAbove }) {
  const errorRate = figures.errorRate(status);
  if (errorRate > isolatedAbove) return "bad";
  return errorRate >= degradedFrom ? "warn" : null;
}

const SESSIONS = [
  {
    key: "connections",
    title: "WebSocket connections",
    read: (status) => format.count(figures.connections(status)),
    hint: "over all daemons",
  },
  {
    key: "workers",
    title: "Active workers",
    read: (status) => format.count(figures.workers(status)),
    hint: "serving processes",
  },
  {
    key: "api",
    title: "API requests",
    read: ({ vector }) => format.count(vector.sessions.apiSessions),
    hint: "in flight",
  },
  {
    key: "tmux",
    title: "tmux sessions",
    read: ({ vector }) => format.count(vector.sessions.tmux),
    hint: "on this machine",
  },
];

const DIRECTIONS = [
  {
    key: "rps",
    title: "Requests",
    read: ({ vector }) => format.rate(vector.directions.requestFlow.requestsPerSecond),
    hint: "last minute",
  },
  {
    key: "latency",
    title: "Average latency",
    read: (status) => format.milliseconds(figures.latency(status)),
    hint: "last minute",
  },
  {
    key: "routes",
    title: "Active routes",
    read: ({ vector }) => routes(vector.directions.requestFlow),
    hint: "of daemons that answer",
  },
  {
    key: "region",
    title: "Region",
    read: ({ vector }) => words(vector.directions.primaryRegion),
    hint: "primary",
    inWords: true,
  },
];

const OPERATIONS = [
  {
    key: "errors",
    title: "Error rate",
    read: (status) => format.percent(figures.errorRate(status)),
    hint: "last 5 minutes",
    level: errorLevel,
  },
  {
    key: "memory",
    title: "Memory",
    read: (status) => format.bytes(figures.memory(status)),
    hint: "resident, all daemons",
  },
  {
    key: "cpu",
    title: "CPU time",
    read: (status) => words(format.cpu(figures.cpu(status))),
    hint: "used, all daemons",
    inWords: true,
  },
  {
    key: "uptime",
    title: "Uptime",
    read: (status) => words(format.duration(figures.uptime(status))),
    hint: "of the longest-running",
    inWords: true,
  },
];

export const GROUPS = [
  { title: "Sessions", tiles: SESSIONS },
  { title: "Directions", tiles: DIRECTIONS },
  { title: "Operations", tiles: OPERATIONS },
];
