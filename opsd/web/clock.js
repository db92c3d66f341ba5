// The server's time, from the documents that it sends. Axes and lines are in it, whatever this browser's clock says.

// Documents on their way for less than this (in milliseconds) differ by the network, not by a clock that was set.
const JITTER = 2000;
// From here on the difference is told: less is nothing that a reader would notice.
const OFF = 30_000;

let ahead = 0;

/** Take in a document's time, an RFC 3339 string, at the moment in which it came. */
export function hear(timestamp) {
  const sample = Date.parse(timestamp) - Date.now();
  // A document that was late on its way makes the server seem behind: the largest of samples that agree is the best.
  if (Number.isFinite(sample) && (sample > ahead || ahead - sample > JITTER)) ahead = sample;
}

/** Milliseconds since 1970, by the server's clock; by this browser's until the server was heard. */
export const now = () => Date.now() + ahead;

/** Milliseconds that the server's clock is ahead of this browser's; 0 while that is too little to be told. */
export const offset = () => (Math.abs(ahead) >= OFF ? ahead : 0);
