// Bars over time, drawn by hand. The same numbers stand in a table beside or below the chart.

import { h, s } from "./dom.js";

const HEIGHT = 200;
const LEFT = 56;
const BOTTOM = 24;

/**
 * Bars: `points` are {label, value, parts?: [{name, value}]}; `show` writes a value.
 * `choose`, if given, is called with a point's index when its bar is clicked.
 */
export function bars(points, { title, show, kinds = [], choose, height = HEIGHT, axis = true }) {
  const box = h("figure", { class: "chart" });
  const readout = h("figcaption", { class: "readout", "aria-hidden": "true" }, "\u00a0");
  const draw = () => {
    const width = Math.max(240, Math.floor(box.clientWidth || 640));
    box.replaceChildren(drawn(points, width, { title, show, kinds, choose, height, axis, readout }), readout);
  };
  let last = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== last) { last = box.clientWidth; draw(); }
  }).observe(box);
  draw();
  return box;
}

function drawn(points, width, { title, show, kinds, choose, height, axis, readout }) {
  const left = axis ? LEFT : 0;
  const bottom = axis ? BOTTOM : 4;
  const high = height - bottom - 8;
  const top = nice(Math.max(...points.map((point) => point.value), 0));
  const step = (width - left) / Math.max(points.length, 1);
  const wide = Math.max(1, Math.min(42, step * 0.76));
  const y = (value) => 8 + high - (top ? (value / top) * high : 0);
  const picture = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  if (axis) {
    for (const part of [0, 0.5, 1]) {
      picture.append(
        s("line", { class: "grid", x1: left, x2: width, y1: y(top * part), y2: y(top * part) }),
        s("text", { class: "tick", x: left - 8, y: y(top * part) + 4, "text-anchor": "end" }, show(top * part)),
      );
    }
  }
  const every = Math.ceil(points.length / Math.max(1, Math.floor((width - left) / 74)));
  points.forEach((point, index) => {
    const x = left + index * step + (step - wide) / 2;
    const told = `${point.label}: ${show(point.value)}`;
    const group = s("g", { class: choose ? "bar click" : "bar" });
    let base = 0;
    for (const [place, part] of (point.parts || [{ value: point.value }]).entries()) {
      const size = y(base) - y(base + part.value);
      if (size > 0) {
        group.append(s("rect", { class: `series-${kinds.length ? place : 0}`, x, y: y(base + part.value), width: wide, height: Math.max(size, 0.5), rx: 1 }));
      }
      base += part.value;
    }
    group.append(s("rect", { class: "hit", x: left + index * step, y: 0, width: step, height: height - bottom }), s("title", {}, told));
    group.addEventListener("pointerenter", () => { readout.textContent = told; });
    if (choose) group.addEventListener("click", () => choose(index));
    picture.append(group);
    if (axis && index % every === 0) {
      picture.append(s("text", { class: "tick", x: left + index * step + step / 2, y: height - 6, "text-anchor": "middle" }, point.short || point.label));
    }
  });
  return picture;
}

/** The least round number that is not below a value. */
function nice(value) {
  if (value <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((each) => each * unit).find((each) => each >= value * 0.999) || value;
}

/** What the colours of a chart stand for. */
export function legend(kinds) {
  return h("ul", { class: "legend" }, kinds.map((kind, place) => h("li", {}, h("span", { class: `swatch series-${place}` }), kind)));
}

/** One bar of a whole, divided. */
export function divided(parts, title) {
  const whole = parts.reduce((sum, part) => sum + part.value, 0);
  return h("div", { class: "divided", role: "img", "aria-label": title },
    parts.map((part, place) => part.value > 0 && h("span", { class: `series-${place}`, "--share": `${(part.value / whole) * 100}%`, title: part.title })));
}
