// The page of the search service: no framework, nothing from elsewhere. What came over the network is only ever set as text.

const $ = (id) => document.getElementById(id);
const EXAMPLES = ["asyncio.Queue", "context manager", "regular expression", "dataclass field", "with"];
const ASK_EVERY = 600; // ms: 100 a minute, within the default limit
const STRIP = 48;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name === "class" ? (made.className = value) : made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const number = new Intl.NumberFormat("en");
const percent = (share) => `${(100 * share).toFixed(share === 1 || share === 0 ? 0 : 1)} %`;

function duration(seconds) {
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(2)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 100) return `${Math.floor(seconds)} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} days`;
}

// --- searching -------------------------------------------------------------------------------------------------------

const last = [];

async function search(query) {
  const begin = performance.now();
  let outcome;
  try {
    const answer = await fetch(`/search?${new URLSearchParams({ q: query })}`, { headers: { accept: "application/json" } });
    outcome = { status: answer.status, wait: answer.headers.get("retry-after"), body: await answer.json() };
  } catch {
    outcome = { status: 0, wait: null, body: { detail: "The service does not answer." } };
  }
  tell(query, outcome, (performance.now() - begin) / 1000);
}

function tell(query, { status, wait, body }, round) {
  const ok = status === 200;
  const kind = ok ? (body.cached ? "hit" : "miss") : "bad";
  const seconds = ok ? body.seconds : round;
  last.push({ kind, seconds });
  if (last.length > STRIP) last.shift();
  $("answer").hidden = false;
  $("outcome").dataset.kind = kind;
  $("outcome").textContent = ok ? (body.cached ? "CACHE HIT" : "CACHE MISS") : status || "DOWN";
  $("time").textContent = duration(seconds);
  const found = ok ? body.results.length : 0;
  $("said").textContent = ok ? `${found === body.limit ? "best " : ""}${found} for “${query}”` : [body.detail, wait && `Again in ${wait} s.`].filter(Boolean).join(" ");
  drawStrip();
  if (ok) $("results").replaceChildren(...(found ? body.results.map(result) : [element("li", { class: "none" }, "Nothing was found.")]));
}

function result({ title, where, snippet, marks }) {
  const heading = element("h3", {}, /^https?:\/\//.test(where) ? element("a", { href: where, rel: "noreferrer" }, title) : title || "(no title)");
  return element("li", {}, heading, element("p", { class: "where" }, where), element("p", { class: "snippet" }, ...marked(snippet, marks)));
}

function marked(text, marks) {
  const characters = Array.from(text); // the marks count characters, not UTF-16 units
  const parts = [];
  let at = 0;
  for (const [start, end] of marks) {
    parts.push(characters.slice(at, start).join(""), element("mark", {}, characters.slice(start, end).join("")));
    at = end;
  }
  return [...parts, characters.slice(at).join("")];
}

function drawStrip() {
  const svg = $("strip");
  svg.setAttribute("viewBox", `0 0 ${STRIP * 6} 40`);
  svg.setAttribute("preserveAspectRatio", "xMaxYMid meet");
  svg.replaceChildren(...last.map(({ kind, seconds }, position) => {
    // From 10 µs to 1 s, logarithmic.
    const height = kind === "bad" ? 38 : Math.min(38, Math.max(3, 3 + 7 * Math.log10(Math.max(seconds, 1e-5) / 1e-5)));
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const facts = { class: kind, x: (STRIP - last.length + position) * 6, y: 40 - height, width: 4, height, rx: 1.5 };
    for (const [name, value] of Object.entries(facts)) bar.setAttribute(name, value);
    return bar;
  }));
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = $("q").value.trim();
  if (!query) return;
  history.replaceState(null, "", `?${new URLSearchParams({ q: query })}`);
  search(query);
});

function ask(query) {
  $("q").value = query;
  $("form").requestSubmit();
}

$("examples").append(...EXAMPLES.map((query) => {
  const button = element("button", { type: "button" }, query);
  button.addEventListener("click", () => ask(query));
  return button;
}));

let asking;
$("auto").addEventListener("change", (event) => {
  clearInterval(asking);
  if (!event.target.checked) return;
  const queries = () => [$("q").value.trim(), ...EXAMPLES].filter(Boolean);
  asking = setInterval(() => search(queries()[Math.floor(Math.random() * queries().length)]), ASK_EVERY);
});

// --- what runs -------------------------------------------------------------------------------------------------------

function live(state, text) {
  $("live").dataset.state = state;
  $("live-text").textContent = text;
}

function figures(id, pairs) {
  $(id).replaceChildren(...pairs.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, typeof value === "number" ? number.format(value) : value))));
}

const share = (id, value) => $(id).firstElementChild.style.setProperty("--share", `${Math.round(1000 * Math.min(1, Math.max(0, value))) / 10}%`);

function show(stats) {
  const { cache, limiter, searches, index, source, requests } = stats;
  live("live", `up ${duration(stats.uptime)}`);
  const documents = index?.report ? `${number.format(index.report.documents)} documents` : "";
  const what = source.upstream ? `in front of ${source.upstream}` : source.documents || "Python’s own documentation";
  $("source").textContent = [what, documents].filter(Boolean).join(" · ");

  $("cache-note").textContent = cache ? `${percent(cache.hit_rate)} hits` : "restarting";
  if (cache) {
    share("cache-meter", cache.hit_rate);
    figures("cache", [["hits", cache.hits], ["misses", cache.misses], ["entries", cache.size], ["evicted", cache.evictions]]);
  }

  const left = limiter.you?.remaining;
  $("limit-note").textContent = `${number.format(limiter.limit)} in ${limiter.per} s, for each address`;
  if (left !== undefined) share("limit-meter", left / limiter.limit);
  figures("limiter", [["you have left", left ?? "…"], ["allowed", limiter.allowed], ["denied", limiter.denied], ["failed", requests.failed]]);

  const building = index?.building;
  $("index-note").textContent = !index ? "" : building ? `indexing ${number.format(building[0])} of ${number.format(building[1])} files`
    : index.ready ? (index.report ? `index built in ${duration(index.report.seconds)}` : "index ready") : index.error ? "no index: see the log" : "no index yet";
  $("index-meter").hidden = !building;
  if (building) share("index-meter", building[0] / Math.max(1, building[1]));
  if (searches) figures("searches", [["running", searches.running], ["waiting", searches.waiting], ["done", searches.done], ["joined", searches.joined]]);

  if (stats.log) showPopular(stats.log);

  const top = node(stats.tree, stats.chaos);
  if ($("tree").firstElementChild !== top) $("tree").replaceChildren(top);
  $("tree-note").textContent = stats.restarts.length ? "" : "no restarts";
  $("restarts").replaceChildren(...stats.restarts.slice(-4).reverse().map(({ name, reason, at }) =>
    element("li", {}, `${new Date(at * 1000).toLocaleTimeString("en-GB")} restarted `, element("b", {}, name), ` after ${reason}`)));
}

function showPopular({ written, popular }) {
  $("log-note").textContent = `${number.format(written)} searches in the log`;
  const list = $("popular");
  while (list.children.length < popular.length) {
    const button = element("button", { type: "button" });
    button.addEventListener("click", () => ask(button.textContent));
    list.append(element("li", {}, button, element("span")));
  }
  popular.forEach(([query, count], at) => {
    const [button, times] = list.children[at].children;
    if (button.textContent !== query) button.textContent = query;
    times.textContent = number.format(count);
  });
}

// The rows stay and only their texts change: a button that is replaced while it is pressed is never clicked.
const rows = new Map();

function node({ name, kind, pid, status, restarts, up, children }, chaos) {
  const row = rows.get(name) ?? newRow(name, kind, chaos);
  row.line.dataset.state = status;
  row.dot.title = status;
  row.pid.textContent = pid ?? status;
  row.count.textContent = `↻ ${restarts}`;
  row.count.hidden = !restarts;
  row.up.textContent = up === null ? "" : duration(Math.max(1, up));
  if (row.was !== undefined && row.was !== pid) row.line.classList.add("fresh");
  row.was = pid;
  const below = children.map((child) => node(child, chaos));
  if (below.some((item, at) => row.list.children[at] !== item) || below.length !== row.list.children.length) row.list.replaceChildren(...below);
  row.list.hidden = !below.length;
  return row.item;
}

function newRow(name, kind, chaos) {
  const part = (className, text = "") => element("span", { class: className }, text);
  const row = { dot: part("dot"), pid: part("pid"), count: part("count"), up: part("up"), list: element("ul") };
  row.count.title = "restarts";
  row.line = element("div", { class: "row" }, row.dot, part("name", name), row.pid, row.count, row.up);
  row.line.addEventListener("animationend", () => row.line.classList.remove("fresh"));
  if (chaos && kind === "worker") row.line.append(crashButton(name));
  row.item = element("li", { class: kind, "data-name": name }, row.line, row.list);
  rows.set(name, row);
  return row;
}

function crashButton(name) {
  const button = element("button", { type: "button", class: "crash", "data-crash": name, title: `Crash ${name}: its supervisor restarts it` }, "crash");
  button.addEventListener("click", async () => {
    await fetch(`/crash/${encodeURIComponent(name)}`, { method: "POST" }).catch(() => {});
    fetch("/stats").then((answer) => answer.json()).then(show).catch(() => {});
  });
  return button;
}

let events;

// A page that nobody sees does not watch.
function watch() {
  events?.close();
  if (document.hidden) return;
  events = new EventSource("/events");
  events.onmessage = (event) => show(JSON.parse(event.data));
  events.onerror = () => {
    live("connecting", "reconnecting");
    if (events.readyState === EventSource.CLOSED) setTimeout(watch, 2000); // else the browser tries again by itself
  };
}

document.addEventListener("visibilitychange", watch);
addEventListener("pagehide", () => events.close());
addEventListener("pageshow", (event) => event.persisted && watch());
watch();
const first = new URLSearchParams(location.search).get("q");
if (first) ask(first);
