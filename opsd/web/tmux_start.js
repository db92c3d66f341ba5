// The daemons' tmux session, started after a question. Who cares hears of it: the document's event `tmux-changed`.

import { postJson } from "./api.js";
import { ask } from "./ask.js";

/** Milliseconds: the daemons in the session are given time to drain. */
export const SLOW = 30_000;

/** Resolves when it is started, or the answer was no. Raises ApiError. */
export async function askToStart(name) {
  const yes = await ask({
    title: "Start the tmux session?",
    detail: `${name ? `The session “${name}”` : "It"} runs this platform's daemons, one window each, as they are configured.`,
    yes: "Start",
  });
  if (!yes) return;
  await postJson("/api/dev/tmux/start", undefined, SLOW);
  document.dispatchEvent(new CustomEvent("tmux-changed"));
}
