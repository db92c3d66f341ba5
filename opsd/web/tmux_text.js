// What the tmux status says of the daemons' session and their panes, in words. Pure.

import * as format from "./format.js";

// A window of this name only follows what the others say.
const FOLLOWER = "logs";

const FATE =
  "The daemons close each connection and say why. The platform's pages then try again until the daemons run; " +
  "messages published until then are not sent later.";

export const daemonsOf = ({ panes }) => panes.filter(({ window }) => window !== FOLLOWER);

export const endedOf = (status) => daemonsOf(status).filter(({ dead }) => dead);

/** The names of their windows, each once. */
export const names = (panes) => [...new Set(panes.map(({ window }) => window))].join(", ");

/** How the session is. */
export function stateWords(status) {
  const { available, reason, changing, sessionName } = status;
  if (!available) return `No tmux here: ${reason || "it is not installed"}.`;
  if (reason) return `tmux says: ${reason}.`;
  return changing ? `“${sessionName}” is being started or stopped…` : runningWords(status);
}

function runningWords(status) {
  const { running, sessionName } = status;
  if (!running) return `“${sessionName}” is not running.`;
  const ended = endedOf(status);
  if (!ended.length) return `“${sessionName}” is running.`;
  if (ended.length === daemonsOf(status).length) return `“${sessionName}” is there, but nothing runs in it any more.`;
  return `“${sessionName}” is running, but not all of it: ended ${names(ended)}.`;
}

/** What becomes of whom when it is stopped; `connections` is null where nobody can tell. */
export function stopWords(sessionName, connections) {
  const told = `“${sessionName}” and the daemons in it end.`;
  if (connections === null) return `${told} How many clients are connected can't be told. ${FATE}`;
  if (connections === 0) return `${told} No client is connected to them.`;
  const are = connections === 1 ? "is" : "are";
  return `${told} ${format.plural(connections, "client")} ${are} connected to them. ${FATE}`;
}

/** One of all sessions of the machine. */
export function sessionWords({ windows, attached, created }) {
  const since = created ? `, since ${format.dateTime(new Date(created))}` : "";
  return `${format.plural(windows, "window")}${attached ? ", attached" : ""}${since}`;
}

export const paneWords = (pane) => `pane ${pane.index}, ${pane.dead ? endWords(pane) : pane.command}`;

/** How a dead pane ended, as far as tmux knows, and the last that it said: the reason, where there is one. */
function endWords({ exitCode, exitSignal, lines }) {
  // A last line may be tmux's own.
  const said = lines.findLast((line) => line && !line.startsWith("Pane is dead"));
  return `${ending(exitCode, exitSignal)}${said ? `: ${said}` : ""}`;
}

function ending(exitCode, exitSignal) {
  if (Number.isFinite(exitCode)) return `ended with ${exitCode}`;
  return Number.isFinite(exitSignal) ? `ended by signal ${exitSignal}` : "ended, nobody knows how";
}
