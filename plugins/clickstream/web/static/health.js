// The page `Pipeline health`: asks for the state every ten seconds and writes it into the page, always as text.

const EVERY_MS = 10_000;
const GIVE_UP_MS = 8_000;
const AIRFLOW = new URL("../", location.href); // the page is at <Airflow>/clickstream/health

let shown = null; // the last state, and when it came by this browser's steady clock
let timer;
let asking = false;

const $ = (selector) => document.querySelector(selector);

// Elements. A string or number becomes a text node, never markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Makes an element's children equal to others without replacing what is the same: focus and scroll stay. */
function patch(element, children) {
  const fresh = children.flat().filter((child) => child !== null && child !== undefined);
  fresh.forEach((child, index) => {
    const next = child instanceof Node ? child : document.createTextNode(child);
    const old = element.childNodes[index];
    if (!old) element.append(next);
    else if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) old.replaceWith(next);
    else if (next.nodeType === Node.TEXT_NODE) {
      if (old.data !== next.data) old.data = next.data;
    } else {
      for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      patch(old, [...next.childNodes]);
    }
  });
  while (element.childNodes.length > fresh.length) element.lastChild.remove();
}

// Forms of values

const grouped = new Intl.NumberFormat("en");
const number = (value) => (value === null || value === undefined ? "–" : grouped.format(value));
const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s < 1) return `${sign}${Math.round(s * 1000)} ms`;
  if (s < 10) return `${sign}${s.toFixed(1)} s`;
  if (s < 120) return `${sign}${Math.floor(s)} s`;
  if (s < 600) return `${sign}${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 7200) return `${sign}${Math.floor(s / 60)} min`;
  if (s < 172800) return `${sign}${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${sign}${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** The server's time now: that of the state, plus what has passed here since it came. */
const now = () => Date.parse(shown.state.as_of) + performance.now() - shown.at;

const age = (iso) => {
  const seconds = Math.max(0, Math.floor((now() - Date.parse(iso)) / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  return `${seconds < 7200 ? `${Math.floor(seconds / 60)} min` : span(seconds)} ago`;
};

function time(iso, { aged = true } = {}) {
  if (!iso) return "–";
  const [day, clock] = new Date(iso).toISOString().split("T");
  const today = new Date(now()).toISOString().startsWith(day);
  const text = `${today ? "" : `${day.slice(5)} `}${clock.slice(0, 8)}`;
  return make("time", { datetime: iso, title: `${day} ${clock.slice(0, 8)} UTC` }, text,
    aged ? make("span", { class: "age", "data-age": iso }, ` ${age(iso)}`) : null);
}

const status = (name, text = name) => make("span", { class: `status ${name}` }, text);

const cell = (content, kind) => make("td", { class: kind }, content);
const count = (value, { alarm = false, edge = false } = {}) =>
  cell(number(value), ["number", edge && "edge", value === 0 && "zero", alarm && value > 0 && "bad"].filter(Boolean).join(" "));
const took = (seconds, edge = false) => cell(span(seconds), edge ? "number edge" : "number");
const holds = (missing) =>
  cell(missing === null ? "–" : missing === 0 ? make("span", { class: "ok" }, "yes") : status("bad", `no: ${number(missing)}`));

const named = (row) => `${row.topic}/${row.partition}`;
const runUrl = (dag, run) => new URL(`dags/${dag}/runs/${encodeURIComponent(run)}`, AIRFLOW).href;
const taskUrl = (dag, run, task) => `${runUrl(dag, run)}/tasks/${task}`;
const link = (href, ...text) => make("a", { href }, ...text);
const batchLink = (id) => (id ? link(`?batch=${id}#detail`, String(id)) : "–");
const drainLink = (run) => (run ? link(`?drain_run=${encodeURIComponent(run)}#detail`, run) : "declared lost");

function rows(section, list, width, empty) {
  patch($(`#${section} tbody`),
    list.length ? list : [make("tr", {}, make("td", { colspan: width, class: "empty" }, empty))]);
}

function table(caption, heads, list) {
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, heads.map(([text, kind]) => make("th", { scope: "col", class: kind }, text)))),
      make("tbody", {}, list)));
}

// Sections

const WORDS = { ok: "yes", attention: "attention", bad: "no", unknown: "unknown" };
const RANK = ["ok", "unknown", "attention", "bad"];

function showVerdict({ verdicts }) {
  patch($("#verdict"), verdicts.map((one) => make("div", {},
    make("dt", {}, one.question),
    make("dd", {}, status(one.status, WORDS[one.status])),
    make("dd", {}, one.finding, one.remedy ? make("strong", { class: "remedy" }, one.remedy) : null))));
  const worst = verdicts.reduce((a, b) => (RANK.indexOf(b.status) > RANK.indexOf(a.status) ? b : a));
  say($("#announcement"), worst.status === "ok" ? "All is well." : `${worst.question}: ${WORDS[worst.status]}.`);
  document.title = worst.status === "ok" ? "Pipeline health" : `${worst.question}: ${WORDS[worst.status]} – Pipeline health`;
}

/** Changes a live region only where it says something else. */
function say(region, text) {
  if (region.textContent !== text) region.textContent = text;
}

function headroom(row) {
  if (row.kept_for_ever) return cell("kept for ever", "number");
  const seconds = row.headroom_seconds;
  const kind = seconds === null ? "" : seconds < 7200 ? " bad" : seconds < 21600 ? " attention" : "";
  return cell(span(seconds), `number${kind}`);
}

function showPartitions({ partitions, watermark, waiting }) {
  const of = partitions[0]?.of ?? 0;
  patch($("#partitions-note"), [
    "Watermark of all: ", time(watermark), `. ${plural(waiting.offsets, "offset")} landed and not yet published.`,
    of > partitions.length ? ` ${plural(of - partitions.length, "partition")} more, not shown.` : "",
  ]);
  rows("partitions", partitions.flatMap((row) => [
    make("tr", { class: row.stopped && "broken" },
      make("th", { scope: "row" }, named(row)),
      cell(row.stopped ? status("bad", row.stopped) : status("ok", row.lag_records ? "draining" : "drained")),
      count(row.lag_records), took(row.lag_seconds), headroom(row), cell(time(row.watermark)),
      count(row.next_offset), count(row.log_start_offset), count(row.log_end_offset), cell(time(row.observed_at))),
    row.stopped
      ? make("tr", { class: "note" }, make("td", { colspan: 10 }, "Since ", time(row.stopped_at), `: ${row.stopped_reason}`))
      : null,
  ].filter(Boolean)), 10, "No partition is known yet. drain_clickstream adds them when it first sees the topic.");
}

const STATES = { published: "ok", open: "unknown", released: "attention" };

function showBatches({ batches, batch }) {
  rows("batches", batches.map((row) =>
    make("tr", { class: [row.offsets_missing || row.records_missing ? "broken" : "", row.batch_id === batch?.batch_id ? "chosen" : ""].join(" ").trim() || null },
      make("th", { scope: "row", class: "number" }, batchLink(row.batch_id)),
      cell(status(STATES[row.state], row.state)),
      cell(time(row.created_at)),
      count(row.planned, { edge: true }), count(row.landed), count(row.absent), count(row.lost, { alarm: true }),
      holds(row.offsets_missing),
      count(row.accepted, { edge: true }), count(row.duplicate), count(row.late), count(row.rejected),
      holds(row.records_missing),
      took(row.queue_seconds, true), took(row.spark_seconds), took(row.publish_seconds), took(row.total_seconds),
      cell(number(row.attempts), row.attempts > 1 ? "number edge attention" : "number edge"),
      cell(link(runUrl("aggregate_clickstream", row.dag_run_id), "open")))),
  19, "No batch was claimed yet. aggregate_clickstream claims what drain_clickstream has landed.");
}

function showWindows({ windows, as_of }) {
  const HOUR = 3_600_000;
  const FIVE = 300_000;
  patch($("#windows thead tr"), [
    make("th", { scope: "col" }, "Hour"), make("th", { scope: "col", class: "number" }, "60 min"),
    ...Array.from({ length: 12 }, (_, i) =>
      make("th", { scope: "col", class: i ? "number" : "number edge" }, `:${String(i * 5).padStart(2, "0")}`)),
  ]);
  const found = new Map(windows.map((row) => [`${Date.parse(row.window_start)} ${row.window_minutes}`, row]));
  const newest = Math.floor(Date.parse(as_of) / HOUR) * HOUR;
  const window = (start, minutes, edge) => {
    const row = found.get(`${start} ${minutes}`);
    const kind = edge ? "number edge" : "number";
    if (start > Date.parse(as_of) && !row) return cell("", kind);
    if (!row) return cell(make("span", { class: "soft" }, "·"), kind);
    const text = `${row.status}, revision ${row.revision}, last published by batch ${row.batch_id}`;
    return cell(make("span", { class: row.status, title: text }, number(row.events),
      row.revision > 1 ? make("sup", { "aria-hidden": "true" }, String(row.revision)) : null,
      make("span", { class: "unseen" }, ` ${text}`)), row.revision > 1 ? `${kind} revised` : kind);
  };
  rows("windows", Array.from({ length: 7 }, (_, back) => {
    const hour = newest - back * HOUR;
    return make("tr", {},
      make("th", { scope: "row" }, time(new Date(hour).toISOString(), { aged: false }).textContent.slice(0, -3)),
      window(hour, 60), Array.from({ length: 12 }, (_, i) => window(hour + i * FIVE, 5, i === 0)));
  }), 14, "");
}

const CHECKS = { ok: "ok", degraded: "attention", down: "bad" };

function showChecks({ checks, as_of }) {
  rows("checks", checks.map((row) => {
    const stale = Date.parse(as_of) - Date.parse(row.checked_at) > 900_000;
    return make("tr", {},
      make("th", { scope: "row" }, row.component.replaceAll("_", " ")),
      cell(stale ? status("unknown", `${row.status}, old`) : status(CHECKS[row.status], row.status)),
      took(row.latency_seconds),
      cell(time(row.checked_at)),
      cell([row.reason, " ", link(runUrl("check_health", row.dag_run_id), "run")]));
  }), 5, "No component was checked yet. Unpause check_health.");
}

function showConservation({ audit }) {
  patch($("#conservation-note"), audit.length ? ["Audited ", time(audit[0].audited_at), "."] : []);
  rows("conservation", audit.map((row) =>
    make("tr", { class: row.unaccounted ? "broken" : null },
      make("th", { scope: "row" }, row.check_name), count(row.value), count(row.unaccounted, { alarm: true }))),
  3, "Not audited yet. Unpause check_health, or run SELECT * FROM ledger.conservation.");
}

function showRejects({ rejects }) {
  const day = rejects.reduce((sum, row) => sum + row.day, 0);
  const landed = rejects[0]?.landed_day ?? 0;
  patch($("#rejects-note"), [`${number(day)} of ${plural(landed, "record")} published in the last 24 hours` +
    (landed ? ` (${((100 * day) / landed).toFixed(2)} %).` : ".")]);
  rows("rejects", rejects.filter((row) => row.ever > 0).map((row) => make("tr", {},
    make("th", { scope: "row" }, row.reason), count(row.day), count(row.ever),
    cell(make("ul", {}, row.examples.map((one) => make("li", {},
      make("span", { class: "soft" }, `${named(one)} offset ${one.offset}, batch `), batchLink(one.batch_id), " ",
      time(one.record_at, { aged: false }), one.detail ? ` ${one.detail}` : "",
      make("div", { class: "excerpt" }, one.excerpt ?? "(no value)"))))))),
  4, "No record was ever rejected.");
}

const fact = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
const more = (list) =>
  list[0]?.of > list.length ? make("p", {}, `${plural(list[0].of - list.length, "range")} more, not shown.`) : null;
const title = (text) => make("div", { class: "title" }, make("h2", { id: "detail-title" }, text), link("?", "Close"));

function batchDetail(batch) {
  return [
    title(`Batch ${batch.batch_id}`),
    make("dl", { class: "facts" },
      fact("State", status(STATES[batch.state], batch.state)),
      fact("Claimed", time(batch.created_at)),
      fact("Published", time(batch.published_at)),
      fact("planned = landed + absent + lost",
        `${number(batch.planned)} = ${number(batch.landed)} + ${number(batch.absent)} + ${number(batch.lost)}`),
      fact("landed = accepted + duplicate + late + rejected", `${number(batch.landed)} = ` +
        [batch.accepted, batch.duplicate, batch.late, batch.rejected].map(number).join(" + ")),
      fact("queue, Spark, publish, total",
        [batch.queue_seconds, batch.spark_seconds, batch.publish_seconds, batch.total_seconds].map(span).join(", ")),
      batch.rejects.length
        ? fact("Rejected", batch.rejects.map((row) => `${row.reason} ${number(row.records)}`).join(", ")) : null),
    make("h3", {}, "Attempts"),
    table("Every try of Spark at this batch, newest first",
      [["Attempt", "number"], ["State"], ["Began"], ["Airflow run"], ["Spark"]],
      batch.tries.map((row) => make("tr", {},
        make("th", { scope: "row", class: "number" }, String(row.attempt)),
        cell(row.state), cell(time(row.created_at)),
        cell(link(runUrl("aggregate_clickstream", row.dag_run_id), row.dag_run_id)),
        cell(link(taskUrl("aggregate_clickstream", row.dag_run_id, "aggregate"), "Spark log"))))),
    make("h3", {}, "Offset ranges"),
    table("What the batch holds: offsets [first, end) by partition, their raw files and the runs that landed them",
      [["Partition"], ["First", "number"], ["End", "number"], ["Records", "number"], ["Absent", "number"],
        ["Lost", "number"], ["Last record"], ["Bytes", "number"], ["Raw file"], ["Drain run"]],
      batch.segments.map((row) => make("tr", {},
        make("th", { scope: "row" }, named(row)), count(row.first_offset), count(row.end_offset), count(row.records),
        count(row.absent), count(row.lost, { alarm: true }), cell(time(row.last_record_at)), count(row.bytes),
        cell(row.path ?? "–", "path"), cell(drainLink(row.dag_run_id))))),
    more(batch.segments),
  ];
}

function drainDetail(run, drains) {
  return [
    title("Offsets of a drain run"),
    make("p", {}, link(runUrl("drain_clickstream", run), run)),
    table("Ranges [first, end) that the run was given to land, and what became of them",
      [["Drain", "number"], ["Partition"], ["Planned"], ["First", "number"], ["End", "number"], ["State"],
        ["Landed to", "number"], ["Records", "number"], ["Absent", "number"], ["Attempts", "number"], ["Raw file"],
        ["Batch", "number"]],
      drains.map((row) => make("tr", {},
        make("th", { scope: "row", class: "number" }, String(row.drain_id)), cell(named(row)), cell(time(row.planned_at)),
        count(row.first_offset), count(row.end_offset),
        cell(row.landed_end === null ? status("unknown", "not landed") : status("ok", "landed")),
        count(row.landed_end), count(row.records), count(row.absent), count(row.attempts),
        cell(row.path ?? "–", "path"), cell(batchLink(row.batch_id), "number")))),
    more(drains),
  ];
}

function showDetail({ batch, drains }) {
  const asked = new URLSearchParams(location.search);
  const missing = (text) => [title(text), make("p", {}, "It may be mistyped, or the link be older than this ledger.")];
  let content = null;
  if (asked.has("batch")) content = batch ? batchDetail(batch) : missing(`There is no batch ${asked.get("batch")}`);
  else if (asked.has("drain_run")) {
    const run = asked.get("drain_run");
    content = drains.length ? drainDetail(run, drains) : missing(`Run ${run} was given nothing to land`);
  }
  const detail = $("#detail");
  const first = detail.hidden && content !== null;
  detail.hidden = content === null;
  patch(detail, content ?? []);
  if (first && location.hash === "#detail") detail.scrollIntoView();
}

function show(state) {
  showVerdict(state);
  showDetail(state);
  showPartitions(state);
  showBatches(state);
  showWindows(state);
  showChecks(state);
  showConservation(state);
  showRejects(state);
  const grafana = $("#grafana");
  grafana.hidden = !state.grafana_url;
  if (state.grafana_url) grafana.href = `${state.grafana_url.replace(/\/+$/, "")}/d/clickstream-pipeline-health`;
  $("#main").hidden = false;
}

// Asking

class Refusal extends Error {}

async function ask() {
  const asked = new URLSearchParams(location.search);
  const query = new URLSearchParams([...asked].filter(([name]) => name === "batch" || name === "drain_run"));
  const answer = await fetch(`health/state?${query}`, {
    signal: AbortSignal.timeout(GIVE_UP_MS), headers: { Accept: "application/json" }, cache: "no-store",
  });
  if (answer.status === 401) throw new Refusal("You are logged out of Airflow.", { cause: "login" });
  if (answer.status === 403) throw new Refusal("Your Airflow user may not see plugins: ask for that permission.");
  if (answer.status === 422) throw new Refusal("The page's address asks for a batch or run that can't exist.");
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Refusal(typeof body.detail === "string" ? body.detail : `Airflow's API server answers ${answer.status}.`);
  }
  return answer.json();
}

async function refresh() {
  if (asking || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  try {
    const state = await ask();
    shown = { state, at: performance.now() };
    show(state);
    document.documentElement.classList.remove("stale");
    connection("");
  } catch (error) {
    lost(error);
  } finally {
    asking = false;
    tick();
    if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
  }
}

function lost(error) {
  const network = error instanceof TypeError || error.name === "TimeoutError" || error.name === "AbortError";
  if (!network && !(error instanceof Refusal)) console.error(error);
  const what = network ? "Connection lost: Airflow's API server does not answer."
    : error instanceof Refusal ? error.message : `The page has an error of its own: ${error.message}.`;
  const from = shown ? ` What you see is from ${new Date(shown.state.as_of).toISOString().slice(11, 19)} UTC.` : "";
  document.documentElement.classList.add("stale");
  connection(`${what}${from} Trying again every ${EVERY_MS / 1000} s.`, error.cause === "login");
}

function connection(text, login = false) {
  const region = $("#connection p");
  if (region.firstChild?.data === text && login === (region.children.length > 0)) return;
  const again = parentDocument()?.location.href ?? location.href; // Airflow asks for the login there
  region.replaceChildren(text, ...(login ? [" ", link(again, "Log in again")] : []));
}

/** Lets the ages on the page go on; none of them is in a live region. */
function tick() {
  if (!shown) {
    say($("#as-of"), document.documentElement.classList.contains("stale") ? "Nothing could be loaded yet." : "Loading…");
    return;
  }
  const { as_of } = shown.state;
  say($("#as-of"), `As of ${new Date(as_of).toISOString().slice(0, 19).replace("T", " ")} UTC, ${age(as_of)}`);
  say($("#age"), `${age(as_of).replace(" ago", "")} old`);
  for (const element of document.querySelectorAll("[data-age]")) say(element, ` ${age(element.dataset.age)}`);
}

// Inside of Airflow's UI: its frame lets no link out, and its theme is a class of its page.

function parentDocument() {
  if (parent === window) return null;
  try {
    return parent.document;
  } catch {
    return null;
  }
}

function followLink(event) {
  const from = event.target.closest("a[href]");
  const outside = parentDocument();
  if (!from || !outside || event.button > 1) return;
  const to = new URL(from.href);
  if (to.origin === location.origin && to.pathname === location.pathname && from.href !== outside.location.href) return;
  event.preventDefault();
  const apart = event.button === 1 || event.ctrlKey || event.metaKey || to.origin !== location.origin;
  const through = outside.createElement("a");
  Object.assign(through, { href: to.href, target: apart ? "_blank" : "_self", rel: "noopener" });
  outside.body.append(through);
  through.click();
  through.remove();
}

function followTheme() {
  const airflow = parentDocument()?.documentElement;
  const chosen = airflow
    ? ["dark", "light"].find((name) => airflow.classList.contains(name))
    : ["dark", "light"].find((name) => name === localStorage.getItem("theme"));
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme; // then that of the system
}

followTheme();
const airflow = parentDocument()?.documentElement;
if (airflow) new MutationObserver(followTheme).observe(airflow, { attributes: true, attributeFilter: ["class"] });
addEventListener("storage", followTheme);
addEventListener("click", followLink);
addEventListener("auxclick", followLink);
document.addEventListener("visibilitychange", refresh);
setInterval(tick, 1000);
refresh();
