// Elements from data. Whatever comes from data becomes a text node or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An HTML element: `h("a", {href: "#/"}, "text", otherElement)`. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Arrow keys, Home and End move between the visible `[data-item]` of a list, of which one can be tabbed to. */
export function arrows(list, { onside } = {}) {
  const items = () => [...list.querySelectorAll("[data-item]")].filter((item) => item.offsetParent !== null);
  const choose = (item) => {
    for (const each of list.querySelectorAll("[data-item]")) each.tabIndex = each === item ? 0 : -1;
  };
  choose(list.querySelector("[data-item][aria-current]") || list.querySelector("[data-item]"));
  list.addEventListener("focusin", (event) => {
    const item = event.target.closest("[data-item]");
    if (item) choose(item);
  });
  list.addEventListener("keydown", (event) => {
    const item = event.target.closest("[data-item]");
    if (!item || event.target !== item || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = items();
    const at = all.indexOf(item);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      (all[to] || item).focus();
    } else if (onside && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      event.preventDefault();
      onside(item, event.key === "ArrowRight");
    }
  });
  return list;
}

/** What the reader has opened, typed and reached in a part of the page, to be put back after it is drawn anew. */
export function remember(root) {
  const active = root.contains(document.activeElement) ? document.activeElement : null;
  const state = {
    details: new Map([...root.querySelectorAll("details[data-key]")].map((d) => [d.dataset.key, d.open])),
    focus: active && (active.dataset.key || active.id),
    selection: active && active.selectionStart !== undefined ? [active.selectionStart, active.selectionEnd] : null,
    scroll: [window.scrollX, window.scrollY],
  };
  return () => {
    for (const each of root.querySelectorAll("details[data-key]")) {
      if (state.details.has(each.dataset.key)) each.open = state.details.get(each.dataset.key);
      if (each.fill) each.fill();
    }
    if (state.focus) {
      const same = [...root.querySelectorAll("[data-key], [id]")].find(
        (each) => (each.dataset.key || each.id) === state.focus,
      );
      if (same) same.focus({ preventScroll: true });
      if (same && state.selection && same.setSelectionRange) same.setSelectionRange(...state.selection);
    }
    window.scrollTo(...state.scroll);
  };
}
