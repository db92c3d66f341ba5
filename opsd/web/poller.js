// Asking again and again, for as long as the answers are wanted.

/**
 * Asks now and then `interval` ms after each end, while started and the page can be seen. `owner` has
 *   `ask()`          promises an answer
 *   `take(answer)`   is given it
 *   `fail(error)`    is told why there is none
 * What was asked before `stop` is given to nobody after it, whenever it comes.
 */
export class Poller {
  #owner;
  #interval;
  #timer = 0;
  /** From `start` to `stop`: whether an answer is awaited, and whether to ask once more after it; null while stopped. */
  #run = null;
  #seen = () => {
    if (document.hidden) clearTimeout(this.#timer);
    else this.now();
  };

  constructor(owner, interval) {
    this.#owner = owner;
    this.#interval = interval;
  }

  start() {
    if (this.#run !== null) return;
    this.#run = { asking: false, again: false };
    document.addEventListener("visibilitychange", this.#seen);
    this.now();
  }

  stop() {
    this.#run = null;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  /** Ask at once; if an answer is awaited at this moment, once more after it. */
  async now() {
    const run = this.#run;
    clearTimeout(this.#timer);
    if (run === null) return;
    run.again = run.asking;
    if (run.asking) return;
    run.asking = true;
    const give = await this.#ask();
    if (run !== this.#run) return;
    try {
      give();
    } finally {
      run.asking = false;
      if (run === this.#run) this.#plan(run.again);
    }
  }

  async #ask() {
    try {
      const answer = await this.#owner.ask();
      return () => this.#owner.take(answer);
    } catch (error) {
      return () => this.#owner.fail(error);
    }
  }

  #plan(again) {
    if (again) this.now();
    else if (!document.hidden) this.#timer = setTimeout(() => this.now(), this.#interval);
  }
}
