// Which run, and which of its channels: what their names may be, and the page's address for them. Pure.

const RUN = /^[A-Za-z0-9_.;-]{1,256}$/;
const CHANNEL = /^[A-Za-z0-9_.-]{1,256}$/;
const DOTS = new Set([".", ".."]);

export const isRun = (id) => RUN.test(id) && !DOTS.has(id);
export const isChannel = (name) => CHANNEL.test(name) && !DOTS.has(name);

/** `#run=<runid>:<channel>` as its two parts, null if it is something else. */
export function parseHash(hash) {
  if (!hash.startsWith("#run=")) return null;
  let whole;
  try {
    whole = decodeURIComponent(hash.slice("#run=".length));
  } catch {
    return null;
  }
  const at = whole.indexOf(":");
  return at < 0 ? null : { run: whole.slice(0, at), channel: whole.slice(at + 1) };
}

export const makeHash = ({ run, channel }) => `#run=${encodeURIComponent(run)}:${encodeURIComponent(channel)}`;
