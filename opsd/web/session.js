// Whether this page may see anything, and what the server told it about itself.
//
// `open` turns true once the server wants no token, or has one of us; at a 401 it turns false and the login form comes.

import { ApiError, getJson, postJson, unauthorized } from "./api.js";

const RETRY = 2000;

class Session extends EventTarget {
  open = false;
  /** Whether the server has been asked at all. */
  known = false;
  tokenRequired = false;
  /** The answer of `/api/dev/config`. */
  config = {};
  /** When it was opened last, by `performance.now()`. */
  #since = 0;
  /** How often it was logged out. */
  #ends = 0;

  constructor() {
    super();
    unauthorized.addEventListener("unauthorized", ({ detail: { asked } }) => {
      // The answer to what an earlier session asked says nothing of this one.
      if (asked >= this.#since) this.#close();
    });
  }

  async begin() {
    const ends = this.#ends;
    try {
      const config = await getJson("/api/dev/config");
      // It says that we were logged in when it was asked.
      if (ends !== this.#ends) return;
      this.config = config;
      this.known = true;
      this.tokenRequired = config.tokenRequired === true;
      this.#set(!this.tokenRequired || config.loggedIn === true);
    } catch (error) {
      // A 401 has closed the session already; without an answer there is nothing to show yet.
      if (!(error instanceof ApiError) || error.status !== 401) setTimeout(() => this.begin(), RETRY);
    }
  }

  /** Trade the token for the cookie; raises ApiError. */
  async logIn(token) {
    await postJson("/api/login", { token });
    await this.begin();
  }

  /** Whatever comes of it, this page shows nothing more; raises ApiError if the server may not have ended the session. */
  async logOut() {
    const since = this.#since;
    try {
      await postJson("/api/logout");
    } catch (error) {
      // Ended already, as by another press.
      if (error.status !== 401) throw error;
    } finally {
      // Whoever has logged in since is not logged out.
      if (since === this.#since) {
        this.#ends += 1;
        this.#close();
      }
    }
  }

  /** Call `start` whenever the session is open (now, if it is) and `stop` whenever it is not, until `signal` aborts. */
  whileOpen(start, stop, signal) {
    let running = false;
    const follow = () => {
      if (this.open === running) return;
      running = this.open;
      if (running) start();
      else stop();
    };
    this.addEventListener("change", follow, { signal });
    signal.addEventListener("abort", () => {
      if (running) stop();
    });
    follow();
  }

  #close() {
    this.known = true;
    this.tokenRequired = true;
    this.#set(false);
  }

  #set(open) {
    if (open && !this.open) this.#since = performance.now();
    this.open = open;
    this.dispatchEvent(new Event("change"));
  }
}

export const session = new Session();

/** What the server holds for good, bad or too old; known once the session is open. */
export const thresholds = () => session.config.thresholds;
