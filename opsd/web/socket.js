// A WebSocket that is kept up until `stop`: opened anew when it ends, after pauses that grow, and when it falls silent.

import { Backoff } from "./backoff.js";

// A connection that lasted this long was a good one: the next attempt after it comes soon.
const GOOD = 10_000;

/**
 * `owner` is told what happens, and asked how long (in milliseconds) silence is no matter:
 *   `patience()`, and `patienceSeen()` when the page is looked at again, since timers come late while it is hidden
 *   `opened()`
 *   `heard(message)`  what a message has as JSON; any other message is a sign of life only
 *   `lost({ opened, code, since })`  whether it was open, its close code (null if it fell silent), and when it was there
 *       last, by the clock of the wall; it is tried again soon
 *   `refused(error)`  the address can't be used: it is not tried again
 */
export class LiveSocket {
  #url;
  #owner;
  #socket = null;
  #retry = 0;
  #watchdog = 0;
  /** When it was opened, by `performance.now()`; 0 before that. */
  #opened = 0;
  /** When it last gave a sign of life. By the clock of the wall: a computer that sleeps hears nothing. */
  #heard = 0;
  #backoff = new Backoff();

  constructor(url, owner) {
    this.#url = url;
    this.#owner = owner;
  }

  start() {
    window.addEventListener("online", this.#hurry);
    document.addEventListener("visibilitychange", this.#hurry);
    this.#connect();
  }

  stop() {
    window.removeEventListener("online", this.#hurry);
    document.removeEventListener("visibilitychange", this.#hurry);
    clearTimeout(this.#retry);
    this.#drop();
  }

  send(text) {
    this.#socket?.send(text);
  }

  #hurry = () => {
    if (document.hidden) return;
    if (this.#socket !== null && Date.now() - this.#heard > this.#owner.patienceSeen()) this.#lose(null);
    if (this.#socket === null) this.#connect();
  };

  #connect() {
    clearTimeout(this.#retry);
    let socket;
    try {
      socket = new WebSocket(this.#url);
    } catch (error) {
      this.#owner.refused(error);
      return;
    }
    this.#socket = socket;
    this.#opened = 0;
    this.#watch();
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#opened = performance.now();
      this.#watch();
      this.#owner.opened();
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return;
      this.#take(data);
      this.#watch();
    };
    socket.onclose = ({ code }) => {
      if (this.#socket === socket) this.#lose(code);
    };
  }

  #take(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    this.#owner.heard(message);
  }

  #watch() {
    this.#heard = Date.now();
    clearTimeout(this.#watchdog);
    if (this.#socket !== null) this.#watchdog = setTimeout(() => this.#lose(null), this.#owner.patience());
  }

  #lose(code) {
    const opened = this.#opened !== 0;
    this.#drop();
    if (opened && performance.now() - this.#opened > GOOD) this.#backoff.reset();
    this.#retry = setTimeout(() => this.#connect(), this.#backoff.next());
    this.#owner.lost({ opened, code, since: code === null ? this.#heard : Date.now() });
  }

  #drop() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
