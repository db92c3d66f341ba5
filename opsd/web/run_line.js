// What a run's line says. Pure.

const PERCENT = /(?<![\d.])(\d{1,3}(?:\.\d+)?)\s?%/;
const BAD = /\bEXCEPTION\b|\bTraceback\b|\bERROR\b|\bFAILED\b/;
const GOOD = /\bTRIGGER\b|\bCOMPLETED\b/;

const JOB = /^rq:(\S{1,200})\s+(STARTED|COMPLETED|EXCEPTION|STATUS|TRIGGER)(?![\p{L}\p{N}_])[ \t]*(.*)$/su;
// As many as of a commit's.
const SHORT_ID = 8;
const LEVELS = { STARTED: "start", COMPLETED: "ok", EXCEPTION: "bad", TRIGGER: "signal" };

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
