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

  #poller;
  #socket = new LiveSocket(new URL("/api/dev/status/live", location.href.replace(/^http/, "ws")), {
    patience: () => thresholds().silentAfter * 1000,
    patienceSeen: () => thresholds().silentAfter * 500,
    opened: () => {},
    heard: (status) => this.#push(status),
    lost: () => this.#poller.start(),
    refused: () => this.#poller.start(),
  });

  /** `interval` is between two questions, in milliseconds. */
  constructor(interval) {
    super();
    this.interval = interval;
    this.#poller = new Poller(
      {
        ask: () => getJson("/api/dev/status"),
        take: (status) => {
          if (this.#give(status)) this.#become("polling");
        },
        fail: ({ message }) => this.#become("offline", message),
      },
      interval,
    );
  }

  start() {
    this.#socket.start();
  }

  /** What has come is of no login to come. */
  stop() {
    this.#socket.stop();
    this.#poller.stop();
    this.receivedAt = 0;
    this.state = "connecting";
    this.error = "";
  }

  /** Milliseconds after which a document is too old to be relied on. */
  get patience() {
    const stale = thresholds().staleAfter * 1000;
    return this.state === "polling" ? Math.max(stale, 3 * this.interval) : stale;
  }

  #push(status) {
    if (!this.#give(status)) return;
    // What polling brings from here on is older.
    this.#poller.stop();
    this.#become("live");
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
