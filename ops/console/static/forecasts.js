import { h, byId, money, percent, time, table, put, say, fail } from "./parts.js";

const EVERY_MS = 10000;
// The moves of a map, as they are published: from a fall of half to a rise of half, in equal steps but for nothing at all.
let found = null;

function chart(one, steps) {
  const all = ["sold", "bought"].flatMap((side) => [one[`alone_${side}`], one[`with_betas_${side}`]]).flat();
  const most = Math.max(1, ...all);
  const column = (at) => {
    const side = steps[at] < 0 ? "sold" : "bought";
    const strong = h("span", { class: `strong ${side}` });
    const light = h("span", { class: `light ${side}` });
    strong.style.blockSize = `${(100 * one[`with_betas_${side}`][at]) / most}%`;
    light.style.blockSize = `${(100 * one[`alone_${side}`][at]) / most}%`;
    return h("span", { class: "column" }, light, strong);
  };
  const picks = steps.map((_, at) => at).filter((at) => Math.abs(Math.round(steps[at] * 100)) % 5 === 0);
  const label = `Forced notional by move of ${one.scope}`;
  return h("div", { class: "map" },
    h("h3", null, one.scope.replace("underlying:", ""), " ", h("small", null,
      `depth ${money(one.depth)}${one.depth_known ? "" : ", assumed"}; `,
      one.diverges_at == null ? "comes to rest" : `diverges from a move of ${percent(one.diverges_at)}`)),
    h("div", { class: "columns", role: "img", "aria-label": label }, steps.map((_, at) => column(at))),
    h("details", { "data-key": one.scope }, h("summary", null, "figures"),
      table(label, [
        ["move", "name", (at) => percentMove(steps[at])],
        ["sold alone", "n", (at) => money(one.alone_sold[at])],
        ["bought alone", "n", (at) => money(one.alone_bought[at])],
        ["sold with betas", "n", (at) => money(one.with_betas_sold[at])],
        ["bought with betas", "n", (at) => money(one.with_betas_bought[at])],
        ["×", "n", (at) => (one.cascade_multiplier[at] == null ? "∞" : one.cascade_multiplier[at].toFixed(2))],
      ], picks)));
}

function percentMove(move) {
  return `${move > 0 ? "+" : ""}${(move * 100).toFixed(0)} %`;
}

function draw() {
  if (!found) return;
  fail(found.error);
  say("as-of", `as of ${time(found.as_of_us)} UTC`);
  const horizon = Number(byId("horizon").value);
  put("forecasts-table", found.forecasts.filter((row) => row.horizon_s === horizon), (rows) => table("Forecasts", [
    ["who", "name", (r) => r.scope], ["level", "", (r) => r.level],
    ["probability", "n", (r) => `${(r.probability * 100).toFixed(2)} %`], ["state", "", (r) => r.state],
    ["why, in log-odds", "", (r) => r.why], ["said", "", (r) => time(r.since_us)],
  ], rows));
  say("map-as-of", found.maps.length ? time(found.map_as_of_us) : "");
  put("maps", [found.maps, found.steps], ([maps, steps]) => (maps.length ? maps.map((one) => chart(one, steps)) : h("p", { class: "quiet" }, "no map yet")));
}

async function look() {
  try {
    const answer = await fetch("/api/forecasts");
    if (answer.status === 401) location.assign("/login");
    found = await answer.json();
    draw();
  } catch (error) {
    fail(`connection lost: ${error.message}`);
  }
  setTimeout(look, EVERY_MS);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  if (event.key === "t") turnTheme();
  if (event.key === "f" || event.key === "Escape") location.assign("/");
});
byId("horizon").addEventListener("change", draw);
look();
