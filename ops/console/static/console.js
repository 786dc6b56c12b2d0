import { h, byId, money, number, percent, time, clock, bar, table, put, say, fail } from "./parts.js";

let state = null;
const SECTIONS = ["incidents", "counterparties", "alerts", "limits", "history", "audit"];

// --- sections -----------------------------------------------------------------------------------------------------

function tiles(s) {
  const hard = s.limits.filter((one) => one.level === "hard").length;
  const behind = s.audit.reduce((sum, one) => sum + one.records - one.sealed, 0);
  const records = s.audit.reduce((sum, one) => sum + one.records, 0);
  const tile = (title, value, note, bad) =>
    h("div", { class: bad ? "tile bad" : "tile" }, h("span", { class: "quiet" }, title), h("strong", null, value), h("span", { class: "quiet" }, note));
  const firm = s.firm || {};
  return [
    tile("Open incidents", s.incidents_open, s.incidents_open ? "see below" : "all is quiet", s.incidents_open > 0),
    tile("Hard limits broken", hard, `${s.limits.filter((one) => one.level === "soft").length} soft`, hard > 0),
    tile("Gross notional", money(firm.gross_notional), `${s.currency}, firm`),
    tile("Profit and loss", money(firm.pnl), `${s.currency}, firm`, firm.pnl < 0),
    tile("Audit records", money(records), behind ? `${behind} not sealed yet` : "all sealed"),
  ];
}

function incident(one) {
  const restricted = Object.entries(one.restricted);
  return h("details", { "data-key": one.cause, class: one.open ? "incident open" : "incident" },
    h("summary", null,
      h("span", { class: one.open ? "level hard" : "level none" }, one.open ? "open" : "over"), " ",
      h("span", { class: "quiet" }, clock(one.opened_us)), " ", h("span", { class: "cause" }, one.cause), " ",
      one.commands.map((command) => h("span", { class: `chip ${command.state}` }, command.kind))),
    h("ol", { class: "story" }, one.story.map((line) => h("li", null, h("time", null, clock(line.at_us)), " ", line.text))),
    one.commands.length ? table("Commands", [
      ["command", "", (c) => c.kind], ["to", "", (c) => c.target],
      ["state", "", (c) => h("span", { class: `chip ${c.state}` }, c.state)],
      ["id", "id", (c) => c.id.slice(0, 12)],
    ], one.commands) : null,
    restricted.map(([target, rung]) => h("p", { class: "restricted" }, `${target} stands at ${rung} until people release it`)));
}

function drawIncidents(s) {
  const shown = byId("show-closed").checked ? s.incidents : s.incidents.filter((one) => one.open);
  say("incidents-count", `${s.incidents_open} open`);
  put("incidents-list", shown, (rows) => rows.length ? rows.map(incident) : h("p", { class: "quiet" }, "no open incident"));
}

function drawCounterparties(s) {
  const wanted = byId("filter").value.trim().toLowerCase();
  const shown = s.counterparties.filter((row) => row.name.toLowerCase().includes(wanted));
  const more = s.counterparties_more ? `, ${s.counterparties_more} more` : "";
  say("counterparties-count", `${shown.length} of ${s.counterparties.length}${more}, ${s.currency}`);
  put("counterparties-table", shown, (rows) => table("Exposures by counterparty", [
    ["counterparty", "name", (r) => [r.name, h("small", null, r.worst ? `${r.worst.limit} on ${r.worst.scope}` : "no limit")]],
    ["utilisation", "", (r) => bar(r.utilisation, r.worst && r.worst.level)],
    ["current exposure", "n", (r) => money(r.current_exposure)],
    ["potential", "n", (r) => money(r.potential_exposure)],
    ["collateral", "n", (r) => money(r.collateral_held)],
    ["gross notional", "n", (r) => money(r.gross_notional)],
    ["profit and loss", "n", (r) => money(r.pnl)],
  ], rows));
}

function alert(one) {
  const parts = Object.entries(one.contributions || {}).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 6);
  return h("details", { "data-key": `${one.shard}-${one.seq}-${one.kind}-${one.scope}` },
    h("summary", null, h("span", { class: `level s${one.severity}` }, `severity ${one.severity}`), " ",
      h("span", { class: "quiet" }, clock(one.as_of_us)), " ", h("strong", null, one.kind), " ", one.scope),
    h("p", null, one.text),
    one.score == null ? null : h("p", { class: "quiet" }, `score ${number(one.score)}`),
    h("ul", { class: "parts" }, parts.map(([name, share]) => h("li", null, h("span", null, name), bar(Math.abs(share), "none")))));
}

function drawLimits(s) {
  say("limits-count", `${s.limits.length} of ${s.limits.length + s.limits_more}`);
  put("limits-table", s.limits.slice(0, 40), (rows) => table("Most used limits", [
    ["limit", "name", (r) => [r.limit, h("small", null, `${r.measure.replaceAll("_", " ")} of ${r.scope}`)]],
    ["value", "n", (r) => number(r.value)],
    ["warning, soft, hard", "n", (r) => r.bounds.map(number).join(", ")],
    ["utilisation", "", (r) => bar(r.utilisation, r.level)],
  ], rows));
}

function drawHistory(s) {
  put("history-list", s.history, (rows) => rows.length ? rows.map((one) =>
    h("details", { "data-key": `${one.version}-${one.sha256}-${one.as_of_us}` },
      h("summary", null, `version ${one.version}, ${one.outcome} `, h("span", { class: "quiet" }, time(one.as_of_us)), " ", one.reason),
      h("ul", null, one.changes.map((change) => h("li", null, change))),
      one.comment ? h("p", null, one.comment) : null,
      h("p", { class: "id" }, one.keys.length ? `signed by ${one.keys.join(", ")}` : "from the limits file", ` · ${one.sha256}`)))
    : h("p", { class: "quiet" }, "no limits yet"));
}

function drawAudit(s) {
  put("audit-table", s.audit, (rows) => table("Audit positions", [
    ["partition", "name", (r) => (r.partition === rows.length - 1 ? `${r.partition} (all shards)` : r.partition)],
    ["records in the chain", "n", (r) => r.records.toLocaleString("en")],
    ["under the last checkpoint", "n", (r) => r.sealed.toLocaleString("en")],
    ["root", "id", (r) => r.root.slice(0, 32)],
  ], rows));
}

function draw() {
  const s = state;
  fail(s?.error);
  if (!s || !s.audit) return;
  say("environment", s.environment);
  byId("environment").dataset.environment = s.environment;
  say("issuer", s.issuer);
  say("as-of", `as of ${time(s.as_of_us)} UTC`);
  document.title = s.incidents_open ? `(${s.incidents_open}) Seawall` : "Seawall";
  put("tiles", [s.firm, s.incidents_open, s.limits, s.audit], () => tiles(s));
  drawIncidents(s);
  drawCounterparties(s);
  say("alerts-count", `last ${s.alerts.length}`);
  put("alerts-list", s.alerts, (rows) => (rows.length ? rows.map(alert) : h("p", { class: "quiet" }, "no alert")));
  drawLimits(s);
  drawHistory(s);
  drawAudit(s);
}

// --- following ----------------------------------------------------------------------------------------------------

function follow() {
  const stream = new EventSource("/api/stream");
  const show = (text, good) => {
    say("following", text);
    byId("following").className = good ? "badge good" : "badge bad";
  };
  stream.addEventListener("state", (event) => {
    state = JSON.parse(event.data);
    const replaying = state.replaying;
    if (!state.audit) show("starting", false);
    else show(replaying ? `replaying ${percent(replaying.done / replaying.total)}` : "following", !replaying);
    draw();
  });
  stream.addEventListener("error", () => {
    show("connection lost", false);
    if (stream.readyState === EventSource.CLOSED) setTimeout(again, 3000);
  });
}

async function again() {
  const answer = await fetch("/api/state").catch(() => null);
  if (answer && answer.status === 401) location.assign("/login");
  else follow();
}

async function verify() {
  const button = byId("verify");
  if (button.disabled) return;
  button.disabled = true;
  byId("verified").className = "";
  say("verified", "verifying every signature, chain and seal …");
  byId("findings").replaceChildren();
  try {
    const answer = await fetch("/api/verify", { method: "POST", headers: { "X-Seawall": "verify" } });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const found = await answer.json();
    const behind = found.behind ? `, ${found.behind} places still being written` : "";
    byId("verified").className = found.good ? "good" : "bad";
    say("verified", found.good ? `${found.records.toLocaleString("en")} records, nothing changed, removed, added or swapped${behind}`
      : `${found.findings.length + found.more} findings in ${found.records.toLocaleString("en")} records: do not trust this run`);
    byId("findings").replaceChildren(...found.findings.map((text) => h("li", null, text)));
  } catch (error) {
    byId("verified").className = "bad";
    say("verified", `could not verify: ${error.message}`);
  }
  button.disabled = false;
}

// --- keys ---------------------------------------------------------------------------------------------------------

function step(by) {
  const all = [...byId("incidents-list").querySelectorAll("summary")];
  if (!all.length) return;
  const now = all.indexOf(document.activeElement);
  all[Math.max(0, Math.min(all.length - 1, now < 0 ? (by > 0 ? 0 : all.length - 1) : now + by))].focus();
}

function go(name) {
  byId(name).focus({ preventScroll: true });
  byId(name).scrollIntoView({ block: "start" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const keys = { j: () => step(1), k: () => step(-1), v: verify, t: turnTheme, f: () => location.assign("/forecasts"),
    "/": () => byId("filter").focus(), "?": () => byId("help").showModal() };
  SECTIONS.forEach((name, at) => { keys[String(at + 1)] = () => go(name); });
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
byId("verify").addEventListener("click", verify);
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("filter").addEventListener("input", draw);
byId("show-closed").addEventListener("change", draw);
follow();
