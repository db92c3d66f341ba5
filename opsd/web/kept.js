// The newest of what comes, bounded in number and in characters: a few messages may be as large as thousands. Pure.

/** `sizeOf` tells an item's characters. The newest item is kept, however large. */
export class Kept {
  items = [];
  #size = 0;

  constructor(most, characters, sizeOf) {
    this.most = most;
    this.characters = characters;
    this.sizeOf = sizeOf;
  }

  /** Take in these; returns those that went for them, the oldest first. */
  push(...items) {
    for (const item of items) this.#size += this.sizeOf(item);
    this.items.push(...items);
    let gone = 0;
    while (this.items.length - gone > this.most || (this.#size > this.characters && this.items.length - gone > 1)) {
      this.#size -= this.sizeOf(this.items[gone]);
      gone += 1;
    }
    return this.items.splice(0, gone);
  }

  /** Give all of them away. */
  take() {
    this.#size = 0;
    return this.items.splice(0);
  }
}
