// One conversation with statusd or preflightd, as a browser on the platform has it, kept up until `stop`.
//
// Pings are answered, and hang-ups taken note of: unlike a page of the platform, an operator's comes back after one.
// Events: `frame` (detail: the payload's object) and `state`. `state` is one of
//   "connecting"  the first attempt is under way
//   "open"        the daemon takes part
//   "waiting"     it ended or could not be reached (`reason`); tried again soon
//   "stopped"     by us

import { Backoff } from "./retry.js";
import { closeReason } from "./run_text.js";

// The daemons ping every few seconds. Silence for this long means that the other side is gone.
const SILENCE = 65_000;

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
    this.#opened = 0;
    socket.onopen = () => {
      this.#opened = performance.now();
      socket.send('{"type":"init"}');
      this.#watch();
      this.#become("open");
    };
    socket.onmessage = ({ data }) => {
      this.#watch();
      this.#take(socket, data);
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
    if (frame?.type === "ping") socket.send('{"type":"pong"}');
    // The close frame that follows a hang-up says why.
    else if (frame?.type !== "hangup") this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #watch() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#watchdog = setTimeout(() => this.#lost(socket, "the daemon has gone silent"), SILENCE);
  }

  #lost(socket, reason) {
    if (this.#socket !== socket) return;
    this.#socket = null;
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
