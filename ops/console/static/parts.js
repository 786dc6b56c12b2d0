// Parts of both pages. Values become text nodes and nothing else.

export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  for (const child of children.flat()) {
    if (child != null) node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

export const byId = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

export function money(value) {
  return value == null ? "–" : Math.abs(value) >= 1e6 ? short.format(value) : whole.format(value);
}

export function number(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  return size >= 1000 ? money(value) : size === 0 || size >= 0.01 ? String(+value.toPrecision(4)) : value.toExponential(2);
}

export function percent(value) {
  return value == null ? "–" : value >= 100 ? "over" : `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
}

export function time(us) {
  return us ? new Date(us / 1000).toISOString().replace("T", " ").slice(0, 21) : "–";
}

export function clock(us) {
  return us ? new Date(us / 1000).toISOString().slice(11, 21) : "–";
}

// A bar with its figure and its level in words: colour alone says nothing.
export function bar(share, level) {
  const fill = h("span", { class: `fill ${level || "none"}` });
  fill.style.inlineSize = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  const text = percent(share) + (level && level !== "none" ? ` ${level}` : "");
  return h("span", { class: "used" }, h("span", { class: "bar", "aria-hidden": "true" }, fill), h("span", { class: "figure" }, text));
}

// A table that becomes a stack of cards on a narrow screen; columns are [title, class, cell of a row].
export function table(caption, columns, rows, key) {
  if (!rows.length) return h("p", { class: "quiet" }, "nothing");
  const head = h("tr", null, columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)));
  const body = rows.map((row) =>
    h("tr", { "data-key": key ? key(row) : null },
      columns.map(([title, kind, cell], at) => h(at ? "td" : "th", { class: kind, "data-title": title, scope: at ? null : "row" }, [cell(row)].flat()))));
  return h("table", null, h("caption", { class: "unseen" }, caption), h("thead", null, head), h("tbody", null, body));
}

// Put new content in a place, but only where it differs, keeping what is open and where the focus is.
const drawn = new Map();
export function put(id, value, draw) {
  const text = JSON.stringify(value);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const place = byId(id);
  const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  const held = place.contains(document.activeElement) ? document.activeElement.closest("[data-key]")?.dataset.key : null;
  place.replaceChildren(...[draw(value)].flat());
  for (const one of place.querySelectorAll("details")) {
    if (open.has(one.dataset.key)) one.open = true;
    if (held != null && one.dataset.key === held) one.querySelector("summary").focus({ preventScroll: true });
  }
}

export function say(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}

export function fail(text) {
  byId("error").hidden = !text;
  say("error", text || "");
}
