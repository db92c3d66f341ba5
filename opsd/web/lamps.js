// What users feel, as lamps: the traffic, each daemon, the Redis behind them, and the page's own updates. Pure.
//
// A lamp is `{key, label, level, word, detail}`. `sources` is what `/api/dev/workers` said last, null before that; the
// names in the newest status' `meta.unavailable` are newer.

import * as format from "./format.js";

export const UNKNOWN = { level: "none", word: "Unknown", detail: "Nothing has come yet." };

const NOBODY = { ...UNKNOWN, detail: "No daemon answers." };

const MODES = {
  normal: {
    level: "ok",
    word: "Normal",
    tell: ({ degradedFrom }) => `Fewer than ${share(degradedFrom)} of users were refused or cut off in the last minute.`,
  },
  degraded: {
    level: "warn",
    word: "Degraded",
    tell: ({ degradedFrom, isolatedAbove }) =>
      `From ${share(degradedFrom)} to ${share(isolatedAbove)} of users are refused or cut off.`,
  },
  isolated: {
    level: "bad",
    word: "Isolated",
    tell: ({ isolatedAbove }) => `More than ${share(isolatedAbove)} of users are refused or cut off.`,
  },
};

const share = (fraction) => `${Math.round(fraction * 1000) / 10} %`;

/** A traffic mode's name for people. */
export const trafficWord = (mode) => (MODES[mode] ?? UNKNOWN).word;

/** How the traffic is, by the server's thresholds; unknown where no daemon is there to tell. */
export function traffic({ vector, meta }, sources, thresholds) {
  const daemons = (sources ?? []).filter(({ outside }) => !outside);
  const gone = daemons.length > 0 && daemons.every(({ name }) => isAway(meta, name));
  if (gone || meta.telemetryStatus === "offline") return NOBODY;
  const mode = MODES[vector.directions.trafficMode];
  return mode === undefined ? UNKNOWN : { level: mode.level, word: mode.word, detail: mode.tell(thresholds) };
}

/** How the figures come; `staleFor` is their age in milliseconds when that is too much, else 0. */
export function updates({ state, error, interval, staleFor }) {
  const every = `Asking every ${format.decimal(interval / 1000)} s; the live connection is tried again.`;
  const told = {
    connecting: { level: "none", word: "Connecting", detail: "Nothing has come yet." },
    live: { level: "ok", word: "Live", detail: "Pushed at every change." },
    polling: { level: "warn", word: "Polling", detail: every },
    offline: { level: "bad", word: "No connection", detail: `${capital(error)}; tried again.` },
  }[state];
  if (!staleFor) return told;
  const detail = `Stale for ${format.duration(staleFor / 1000)}. ${told.detail}`;
  return { level: state === "live" ? "warn" : told.level, word: told.word, detail };
}

/** One lamp for each source, and one for Redis, as those daemons see it that answer. */
export function lamps({ meta }, sources) {
  const known = sources ?? (meta.unavailable ?? []).map((name) => ({ name, outside: false, available: false }));
  const daemons = known.filter(({ outside }) => !outside);
  return [
    ...known.map((source) => ({ key: source.name, label: source.name, ...daemon(source, meta) })),
    ...(daemons.length ? [{ key: "redis", label: "Redis", ...redis(daemons, meta) }] : []),
  ];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const isAway = (meta, name) => (meta.unavailable ?? []).includes(name);

function daemon(source, meta) {
  const { name, outside, available, draining, problem, ready, workers } = source;
  if (isAway(meta, name)) {
    const detail = problem ? `No answer: ${problem}. Not counted in any figure.` : "No answer. Not counted in any figure.";
    return { level: outside ? "warn" : "bad", word: "Down", detail };
  }
  // It has just come back: what it is like is asked for at this moment.
  if (!available) return UNKNOWN;
  const count = `${ready} of ${format.plural(workers, "worker")} ready`;
  if (draining) return { level: "warn", word: "Draining", detail: `${count}.` };
  if (!workers) return { level: outside ? "warn" : "bad", word: "No workers", detail: "It answers, and has no worker." };
  if (!ready) return { level: outside ? "warn" : "bad", word: "Not ready", detail: `${count}: users are refused.` };
  if (ready < workers) return { level: "warn", word: "Impaired", detail: `${count}.` };
  return { level: "ok", word: "Up", detail: `${format.plural(workers, "worker")} ready.` };
}

function redis(daemons, meta) {
  const answering = daemons.filter((source) => source.available && source.redis !== null && !isAway(meta, source.name));
  if (!answering.length) return NOBODY;
  const without = answering.filter((source) => source.redis !== "online");
  if (!without.length) return { level: "ok", word: "Up", detail: "Every daemon that answers has it." };
  const detail = `${without.map((source) => `${source.name}: ${source.redis}`).join(", ")}.`;
  return { level: "bad", word: without.length === answering.length ? "Down" : "Not for all", detail };
}

/** What of these lamps is wrong, for the page's one line. */
export function troubles(shown) {
  return shown
    .filter(({ level }) => level === "warn" || level === "bad")
    .map(({ level, label, word }) => ({ level, text: `${label} ${word.charAt(0).toLowerCase()}${word.slice(1)}` }));
}
