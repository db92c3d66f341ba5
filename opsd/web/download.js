// Files that the page makes or has got, given to the browser as downloads.

// The browser has begun to read the file long before.
const KEPT = 60_000;

export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEPT);
}
