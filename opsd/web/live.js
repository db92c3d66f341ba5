// The status as it comes: pushed over the WebSocket; while that is cut, asked for again and again, and the WebSocket
// is tried again meanwhile.
//
// Events: `status` (detail: the document) and `state`. `state` is one of
//   "connecting"  nothing has come yet
//   "live"        pushed
//   "polling"     the WebSocket is cut, polling works
//   "offline"     neither works; `error` says why

import { getJson } from "./api.js";
import { Backoff, Poller } from "./retry.js";

const PATH = "/api/dev/status/live";

// The server sends one at least every second. A connection that is silent for this long is dead without knowing it;
// one that is looked at again after it was hidden, when timers come late, is not given as long.
const SILENCE = 5000;
const SILENCE_SEEN = 2500;

export class StatusFeed extends EventTarget {
  state = "connecting";
  error = "";
  /** When the newest document came, by `performance.now()`; 0 before the first. */
  receivedAt = 0;

  #socket = null;
  /** Whether this socket has brought a document: what polling brings is older then. */
  #pushed = false;
  #retry = 0;
  #watchdog = 0;
  /** When the socket last gave a sign of life, by `performance.now()`. */
  #heard = 0;
  #backoff = new Backoff(1000, 15_000);
  #poller;
  #started = false;

  constructor(interval) {
    super();
    this.interval = interval;
    this.#poller = new Poller(() => this.#poll(), interval);
    this.hurry = () => {
      if (document.hidden) return;
      if (this.#socket !== null && performance.now() - this.#heard > SILENCE_SEEN) this.#lost();
      if (this.#socket === null) this.#connect();
    };
  }

  start() {
    if (this.#started) return;
    this.#started = true;
    window.addEventListener("online", this.hurry);
    document.addEventListener("visibilitychange", this.hurry);
    this.#connect();
  }

  stop() {
    this.#started = false;
    window.removeEventListener("online", this.hurry);
    document.removeEventListener("visibilitychange", this.hurry);
    clearTimeout(this.#retry);
    this.#poller.stop();
    this.#drop();
  }

  #connect() {
    clearTimeout(this.#retry);
    const url = new URL(PATH, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#watch();
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return;
      this.#watch();
      if (!this.#take(data)) return;
      this.#pushed = true;
      this.#backoff.reset();
      this.#poller.stop();
      this.#become("live");
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lost();
    };
  }

  #lost() {
    this.#drop();
    if (!this.#started) return;
    this.#poller.start();
    this.#retry = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #drop() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    this.#pushed = false;
    socket?.close();
  }

  #watch() {
    this.#heard = performance.now();
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lost(), SILENCE);
  }

  async #poll() {
    try {
      const status = await getJson("/api/dev/status");
      if (!this.#started || this.#pushed) return;
      this.#give(status);
      this.#become("polling");
    } catch (error) {
      if (this.#started && !this.#pushed) this.#become("offline", error.message);
    }
  }

  #take(data) {
    try {
      this.#give(JSON.parse(data));
      return true;
    } catch {
      return false;
    }
  }

  #give(status) {
    if (status?.vector === undefined) throw new TypeError("not a status document");
    this.receivedAt = performance.now();
    this.dispatchEvent(new CustomEvent("status", { detail: status }));
  }

  #become(state, error = "") {
    if (this.state === state && this.error === error) return;
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event("state"));
  }
}
