// Doing something again and again.

/** Runs `task` now and then `interval` ms after each end, while started and the page can be seen. */
export class Poller {
  #timer = 0;
  #started = false;
  #running = false;
  #again = false;

  constructor(task, interval) {
    this.task = task;
    this.interval = interval;
    this.seen = () => {
      if (document.hidden) clearTimeout(this.#timer);
      else this.now();
    };
  }

  start() {
    if (this.#started) return;
    this.#started = true;
    document.addEventListener("visibilitychange", this.seen);
    this.now();
  }

  stop() {
    this.#started = false;
    this.#again = false;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.seen);
  }

  /** Run at once; if it runs at this moment, once more after it. */
  async now() {
    clearTimeout(this.#timer);
    if (!this.#started) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    try {
      await this.task();
    } finally {
      this.#running = false;
      this.#plan();
    }
  }

  #plan() {
    if (this.#again) {
      this.#again = false;
      this.now();
    } else if (this.#started && !document.hidden) {
      this.#timer = setTimeout(() => this.now(), this.interval);
    }
  }
}
