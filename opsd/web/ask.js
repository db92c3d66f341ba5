// A question before something is done: a modal dialog, which keeps the focus, ends on Escape and gives the focus back.
// When the login is lost it ends with no: the form for it would be behind it.

import { unauthorized } from "./api.js";
import { h } from "./dom.js";

let asked = 0;

/** Resolves to whether the answer was yes. */
export function ask({ title, detail, yes, danger = false }) {
  asked += 1;
  const [titleId, detailId] = [`ask-title-${asked}`, `ask-detail-${asked}`];
  const dialog = h(
    "dialog",
    { class: "ask", "aria-labelledby": titleId, "aria-describedby": detailId },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: titleId }, title),
      h("p", { id: detailId }, detail),
      h(
        "div",
        { class: "row end" },
        h("button", { value: "no", autofocus: danger }, "Cancel"),
        h("button", { value: "yes", class: danger ? "danger" : "primary", autofocus: !danger }, yes),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  const refused = () => dialog.close("no");
  unauthorized.addEventListener("unauthorized", refused);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      unauthorized.removeEventListener("unauthorized", refused);
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
