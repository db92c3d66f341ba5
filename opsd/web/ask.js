// A question before something is done: a modal dialog, which keeps the focus, ends on Escape and gives the focus back.
// Without a login the answer is no, also when it is lost meanwhile: the form for it would be behind the dialog.

import { make, partsOf, setText } from "./dom.js";
import { session } from "./session.js";

/** Resolves to whether the answer was yes. */
export async function ask({ title, detail, yes, danger = false }) {
  if (!session.open) return false;
  const dialog = make("question");
  const parts = partsOf(dialog);
  setText(parts.title, title);
  setText(parts.detail, detail);
  setText(parts.yes, yes);
  parts.yes.className = danger ? "danger" : "primary";
  parts.no.autofocus = danger;
  parts.yes.autofocus = !danger;
  document.body.append(dialog);
  dialog.showModal();
  const follow = () => {
    if (!session.open) dialog.close("no");
  };
  session.addEventListener("change", follow);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      session.removeEventListener("change", follow);
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
