// The status as it comes: pushed over the WebSocket; while that is cut, asked for again and again, and the WebSocket
// is tried again meanwhile.
//
// Events: `status` (detail: the document) and `state`. `state` is one of
//   "connecting"  nothing has come yet
//   "live"        pushed
//   "polling"     the WebSocket is cut, polling works
//   "offline"     neither works; `error` says why

import { getJson } from "./api.js";
import { Poller } from "./poller.js";
import { thresholds } from "./session.js";
import { LiveSocket } from "./socket.js";

export class StatusFeed extends EventTarget {
  state = "connecting";
  error = "";
  /** When the newest document came, by `performance.now()`; 0 before the first. */
  receivedAt = 0;

  #started = false;
  /** Whether this connection has brought a document: what polling brings is older then. */
  #pushed = false;
  #poller;
  #socket = new LiveSocket(new URL("/api/dev/status/live", location.href.replace(/^http/, "ws")), {
    patience: () => thresholds().silentAfter * 1000,
    patienceSeen: () => thresholds().silentAfter * 500,
    opened: () => {},
    heard: (status) => this.#push(status),
    lost: () => this.#lost(),
    refused: () => this.#lost(),
  });

  /** `interval` is between two questions, in milliseconds. */
  constructor(interval) {
    super();
    this.interval = interval;
    this.#poller = new Poller(() => this.#poll(), interval);
  }

  start() {
    this.#started = true;
    this.#socket.start();
  }

  stop() {
    this.#started = this.#pushed = false;
    this.#socket.stop();
    this.#poller.stop();
  }

  /** Milliseconds after which a document is too old to be relied on. */
  get patience() {
    const stale = thresholds().staleAfter * 1000;
    return this.state === "polling" ? Math.max(stale, 3 * this.interval) : stale;
  }

  #push(status) {
    if (!this.#give(status)) return;
    this.#pushed = true;
    this.#poller.stop();
    this.#become("live");
  }

  #lost() {
    this.#pushed = false;
    this.#poller.start();
  }

  async #poll() {
    try {
      const status = await getJson("/api/dev/status");
      if (this.#started && !this.#pushed && this.#give(status)) this.#become("polling");
    } catch (error) {
      if (this.#started && !this.#pushed) this.#become("offline", error.message);
    }
  }

  /** Returns whether it is a status document. */
  #give(status) {
    if (status?.vector === undefined) return false;
    this.receivedAt = performance.now();
    this.dispatchEvent(new CustomEvent("status", { detail: status }));
    return true;
  }

  #become(state, error = "") {
    if (this.state === state && this.error === error) return;
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event("state"));
  }
}
