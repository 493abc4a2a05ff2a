// Unified diffs of one file, a line each, with line numbers. Colour is not the only sign: + and − stay.

import { h } from "./dom.js";

const MOST = 400;

export function diffOf(text) {
  const lines = text.replace(/\n$/, "").split("\n");
  const body = h("tbody");
  const draw = (from, to) => body.append(...rowsOf(lines, from, to));
  draw(0, MOST);
  const table = h("table", { class: "diff", role: "presentation" }, body);
  if (lines.length <= MOST) return h("div", { class: "diffbox", tabindex: 0, role: "region", "aria-label": "Diff" }, table);
  const more = h("button", { type: "button", class: "more", onclick: () => { draw(MOST, lines.length); more.remove(); } },
    `Show ${lines.length - MOST} more lines`);
  return h("div", { class: "diffbox", tabindex: 0, role: "region", "aria-label": "Diff" }, table, more);
}

const numbers = new WeakMap();

function rowsOf(lines, from, to) {
  const state = numbers.get(lines) || { old: 0, new: 0 };
  numbers.set(lines, state);
  const rows = [];
  for (const line of lines.slice(from, to)) {
    const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)/.exec(line);
    if (hunk) {
      [state.old, state.new] = [Number(hunk[1]), Number(hunk[2])];
      rows.push(row("hunk", "", "", line));
      state.begun = true;
    } else if (!state.begun || line.startsWith("\\")) {
      // The file is named above the diff.
      if (!/^(Index:|={10,}|diff --git|index |--- |\+\+\+ )/.test(line)) rows.push(row("head", "", "", line));
    } else if (line.startsWith("+")) rows.push(row("added", "", state.new++, line));
    else if (line.startsWith("-")) rows.push(row("deleted", state.old++, "", line));
    else rows.push(row("same", state.old++, state.new++, line));
  }
  return rows;
}

function row(kind, before, after, text) {
  return h("tr", { class: kind }, h("td", { class: "no" }, before), h("td", { class: "no" }, after), h("td", {}, text || " "));
}

/** How many lines a change adds and deletes. */
export function changed(additions, deletions) {
  if (additions === null && deletions === null) return null;
  return h("span", { class: "counts" },
    h("span", { class: "plus" }, `+${additions || 0}`), " ", h("span", { class: "minus" }, `−${deletions || 0}`));
}
