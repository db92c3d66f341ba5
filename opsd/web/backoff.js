// Waiting between attempts.

const BASE = 1000;
const FACTOR = 2;
const MOST = 15_000;

/** Delays in milliseconds after failed attempts: doubling up to a bound, each spread over its upper half. */
export class Backoff {
  #failures = 0;

  next() {
    // The exponent is bounded: after days of failures it would overflow.
    const delay = Math.min(MOST, BASE * FACTOR ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return delay / 2 + (Math.random() * delay) / 2;
  }

  reset() {
    this.#failures = 0;
  }
}
