// One conversation with statusd or preflightd, as a browser on the platform has it, kept up until `stop`.
//
// Pings are answered, and hang-ups taken note of: unlike a page of the platform, an operator's comes back after one.
// Events: `frame` (detail: the payload's object), `back` (detail: the `seconds` for which it was away and the `reason`),
// and `state`. `state` is one of
//   "connecting"  the first attempt is under way
//   "open"        the daemon takes part
//   "waiting"     it ended or could not be reached (`reason`); tried again soon
//   "stopped"     by us, or since the address can't be used (`reason`)

import { closeReason } from "./run_words.js";
import { LiveSocket } from "./socket.js";

// Silence for so many of the longest interval between pings means that the other side is gone; the bounds are for one
// that pings often, and for one whose interval is not known yet.
const PINGS = 3;
const LEAST_SILENCE = 15_000;
const MOST_SILENCE = 65_000;

export class RunSocket extends EventTarget {
  state = "connecting";
  reason = "";

  #socket;
  /** The longest time between two pings, and when the last one came, by `performance.now()`; 0 before them. */
  #interval = 0;
  #pinged = 0;
  /** Since when the daemon is not heard any more, and why; null before its first word, and while it is heard. */
  #away = null;

  constructor(url) {
    super();
    this.#socket = new LiveSocket(url, {
      patience: () => this.#patience(),
      patienceSeen: () => this.#patience(),
      opened: () => this.#opened(),
      heard: (frame) => this.#take(frame),
      lost: (how) => this.#lost(how),
      refused: ({ name }) => this.#become("stopped", `the address ${url} can't be used (${name})`),
    });
  }

  start() {
    this.#socket.start();
  }

  stop() {
    this.#socket.stop();
    this.#become("stopped");
  }

  #patience() {
    if (!this.#interval) return MOST_SILENCE;
    return Math.min(MOST_SILENCE, Math.max(LEAST_SILENCE, PINGS * this.#interval));
  }

  #opened() {
    this.#socket.send('{"type":"init"}');
    this.#pinged = 0;
    this.#become("open");
    if (this.#away === null) return;
    const { since, reason } = this.#away;
    this.#away = null;
    this.dispatchEvent(new CustomEvent("back", { detail: { seconds: (Date.now() - since) / 1000, reason } }));
  }

  #take(frame) {
    if (frame?.type === "ping") this.#pong();
    // The close frame that follows a hang-up says why.
    else if (frame?.type !== "hangup") this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #pong() {
    const now = performance.now();
    if (this.#pinged) this.#interval = Math.max(this.#interval, now - this.#pinged);
    this.#pinged = now;
    this.#socket.send('{"type":"pong"}');
  }

  #lost({ opened, code, since }) {
    const ended = code === null ? "the daemon has gone silent" : closeReason(code);
    const reason = opened ? ended : "the daemon can't be reached";
    if (opened) this.#away ??= { since, reason };
    this.#become("waiting", reason);
  }

  #become(state, reason = "") {
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("state"));
  }
}
