// One conversation with statusd or preflightd, as a browser on the platform has it, kept up until `stop`.
//
// Pings are answered, and hang-ups taken note of: unlike a page of the platform, an operator's comes back after one.
// Events: `frame` (detail: the payload's object), `back` (detail: the `seconds` for which it was away and the `reason`),
// and `state`. `state` is one of
//   "connecting"  the first attempt is under way
//   "open"        the daemon takes part
//   "waiting"     it ended or could not be reached (`reason`); tried again soon
//   "stopped"     by us

import { Backoff } from "./retry.js";
import { closeReason } from "./run_text.js";

// Silence for so many of the longest interval between pings means that the other side is gone; the bounds are for one
// that pings often, and for one whose interval is not known yet.
const PINGS = 3;
const LEAST_SILENCE = 15_000;
const MOST_SILENCE = 65_000;

// A conversation that lasted this long was a good one: the next attempt after it comes soon.
const GOOD = 10_000;

export class RunSocket extends EventTarget {
  state = "connecting";
  reason = "";

  #url;
  #socket = null;
  #timer = 0;
  #watchdog = 0;
  #opened = 0;
  /** The longest time between two pings, and when the last one came, by `performance.now()`; 0 before them. */
  #interval = 0;
  #pinged = 0;
  /** When the daemon was last heard, and why it is not heard any more; null before its first word, and while it is. */
  #heard = 0;
  #away = null;
  #backoff = new Backoff(1000, 30_000);

  constructor(url) {
    super();
    this.#url = url;
    this.hurry = () => {
      if (this.state === "waiting" && !document.hidden) this.#connect();
    };
  }

  start() {
    window.addEventListener("online", this.hurry);
    document.addEventListener("visibilitychange", this.hurry);
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    let socket;
    try {
      socket = new WebSocket(this.#url);
    } catch (error) {
      this.#become("stopped", `the address ${this.#url} can't be used (${error.name})`);
      return;
    }
    this.#socket = socket;
    this.#opened = this.#pinged = 0;
    socket.onopen = () => {
      this.#opened = performance.now();
      socket.send('{"type":"init"}');
      this.#watch();
      this.#become("open");
      this.#back();
    };
    socket.onmessage = ({ data }) => {
      this.#take(socket, data);
      this.#watch();
    };
    socket.onclose = ({ code }) => this.#lost(socket, this.#opened ? closeReason(code) : "the daemon can't be reached");
  }

  stop() {
    window.removeEventListener("online", this.hurry);
    document.removeEventListener("visibilitychange", this.hurry);
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#become("stopped");
  }

  #take(socket, data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame?.type === "ping") this.#pong(socket);
    // The close frame that follows a hang-up says why.
    else if (frame?.type !== "hangup") this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #pong(socket) {
    const now = performance.now();
    if (this.#pinged) this.#interval = Math.max(this.#interval, now - this.#pinged);
    this.#pinged = now;
    socket.send('{"type":"pong"}');
  }

  #back() {
    if (this.#away === null) return;
    const { since, reason } = this.#away;
    this.#away = null;
    // By the clock of the wall: a computer that sleeps is away as well.
    this.dispatchEvent(new CustomEvent("back", { detail: { seconds: (Date.now() - since) / 1000, reason } }));
  }

  #watch() {
    this.#heard = Date.now();
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    if (socket === null) return;
    const patience = this.#interval ? Math.max(LEAST_SILENCE, PINGS * this.#interval) : MOST_SILENCE;
    this.#watchdog = setTimeout(
      () => this.#lost(socket, "the daemon has gone silent", this.#heard),
      Math.min(patience, MOST_SILENCE),
    );
  }

  /** `since` is when nothing was heard any more. */
  #lost(socket, reason, since = Date.now()) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    if (this.#opened) this.#away ??= { since, reason };
    socket?.close();
    clearTimeout(this.#watchdog);
    if (this.#opened && performance.now() - this.#opened > GOOD) this.#backoff.reset();
    this.#timer = setTimeout(() => this.#connect(), this.#backoff.next());
    this.#become("waiting", reason);
  }

  #become(state, reason = "") {
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("state"));
  }
}
