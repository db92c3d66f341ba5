// One line for the whole page, in the bar and in the title: that all is well, or what is not, the worst first.

import { setAttribute, setText } from "./dom.js";

const TITLE = "Operations";
const RANKS = ["warn", "bad"];

const reports = new Map();

/** What `part` of the page finds wrong now: `{level, text}` each, none if all is well; null if it can't tell. */
export function report(part, troubles) {
  reports.set(part, troubles);
  show();
}

function show() {
  const line = document.getElementById("verdict");
  const told = [...reports.values()].filter((troubles) => troubles !== null);
  const all = told.flat().sort((one, other) => RANKS.indexOf(other.level) - RANKS.indexOf(one.level));
  document.title = all.length ? `${all[0].text} · ${TITLE}` : TITLE;
  if (line === null) return;
  line.hidden = told.length === 0;
  setAttribute(line, "data-level", all[0]?.level ?? "ok");
  setText(line, all.length ? all.map(({ text }) => text).join(" · ") : "All is well");
}
