// What a run says, as it is shown. Pure.

const RUN = /^[A-Za-z0-9_.;-]{1,256}$/;
const CHANNEL = /^[A-Za-z0-9_.-]{1,256}$/;
const DOTS = new Set([".", ".."]);
const PERCENT = /(?<![\d.])(\d{1,3}(?:\.\d+)?)\s?%/;
const BAD = /\bEXCEPTION\b|\bTraceback\b|\bERROR\b|\bFAILED\b/;
const GOOD = /\bTRIGGER\b|\bCOMPLETED\b/;

const JOB = /^rq:(\S{1,200})\s+(STARTED|COMPLETED|EXCEPTION|STATUS|TRIGGER)(?![\p{L}\p{N}_])[ \t]*(.*)$/su;
// As many as of a commit's.
const SHORT_ID = 8;
const LEVELS = { STARTED: "start", COMPLETED: "ok", EXCEPTION: "bad", TRIGGER: "signal" };

export const isRun = (id) => RUN.test(id) && !DOTS.has(id);
export const isChannel = (name) => CHANNEL.test(name) && !DOTS.has(name);

/** `#run=<runid>:<channel>` as its two parts, null if it is something else. */
export function parseHash(hash) {
  if (!hash.startsWith("#run=")) return null;
  let whole;
  try {
    whole = decodeURIComponent(hash.slice("#run=".length));
  } catch {
    return null;
  }
  const at = whole.indexOf(":");
  return at < 0 ? null : { run: whole.slice(0, at), channel: whole.slice(at + 1) };
}

export const makeHash = ({ run, channel }) => `#run=${encodeURIComponent(run)}:${encodeURIComponent(channel)}`;

/**
 * A line: as it was published (`raw`), its text, its percentage if it carries one, what that is about, how bad it is, and
 * the `job` that says it, null if none does: `{id, short, event}`.
 */
export function readLine(data) {
  const line = { raw: data, text: data, percent: null, task: "", level: "", job: null };
  const fields = readObject(data);
  if (fields === null) return { ...line, ...(readJob(data) ?? { percent: percentIn(data), level: levelOf(data) }) };
  const text = [fields.message, fields.msg, fields.text].find((part) => typeof part === "string") ?? data;
  const number = [fields.percent, fields.percentage].find((part) => typeof part === "number");
  return {
    ...line,
    text,
    percent: number === undefined ? percentIn(text) : bounded(number),
    task: typeof fields.task === "string" ? fields.task : "",
    level: levelOf(text),
  };
}

/** What a job of the platform says: the same rules as the terminal's (statusd/jobs.py). */
function readJob(data) {
  const found = JOB.exec(data);
  if (found === null) return null;
  const [, id, event, rest] = found;
  const letters = [...id];
  const short = letters.length <= SHORT_ID ? id : `${letters.slice(0, SHORT_ID).join("")}…`;
  // A trigger's columns are padded.
  const text = event === "TRIGGER" ? rest.trim().split(/\s+/).join(" ") : rest;
  const level = event === "STATUS" ? levelOf(text) : LEVELS[event];
  return { text, percent: percentIn(rest), level, job: { id, short: `rq:${short}`, event } };
}

function readObject(data) {
  if (!data.startsWith("{")) return null;
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function percentIn(text) {
  const found = PERCENT.exec(text);
  return found === null ? null : bounded(Number(found[1]));
}

const bounded = (number) => (number >= 0 && number <= 100 ? number : null);

function levelOf(text) {
  if (BAD.test(text)) return "bad";
  return GOOD.test(text) ? "ok" : "";
}

const ITEMS = new Map([
  ["sbs_map", "Burn severity map"],
  ["channels", "Channels"],
  ["outlet", "Outlet"],
  ["subcatchments", "Subcatchments"],
  ["landuse", "Land use"],
  ["rangeland_cover", "Rangeland cover"],
  ["soils", "Soils"],
  ["climate", "Climate"],
  ["rap_ts", "RAP time series"],
  ["openet_ts", "OpenET time series"],
  ["wepp", "WEPP"],
  ["observed", "Observed data"],
  ["debris", "Debris flow"],
  ["ag_fields", "Agricultural fields"],
  ["watar", "WATAR"],
  ["omni_scenarios", "Omni scenarios"],
  ["omni_contrasts", "Omni contrasts"],
  ["run_path_ce", "PATH cost-effectiveness"],
  ["roads", "Roads"],
  ["rhem", "RHEM"],
  ["rusle", "RUSLE"],
  ["geneva", "Geneva"],
  ["postfire_debris_flow", "Post-fire debris flow"],
  ["dss_export", "DSS export"],
]);

/** A name for people; one that is not known yet is shown as it came. */
export const itemTitle = (key) => ITEMS.get(key) ?? key;

const REASONS = new Map([
  // No close frame came: a daemon that gives a slow page up sends none, since another frame may be half written.
  [1006, "the connection broke off: network, killed daemon, or a page that was too slow"],
  [1001, "the daemon is being stopped"],
  [1008, "the daemon heard nothing from this page"],
  [1009, "a message was too big"],
  [1011, "the daemon could not go on with this run"],
  [1013, "Redis is not available"],
]);

/** Why a connection ended, in words. */
export const closeReason = (code) => REASONS.get(code) ?? "the connection was lost";
