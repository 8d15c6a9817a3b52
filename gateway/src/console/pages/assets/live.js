// Keeps the overview up to date. The server sends every section as a whole, and all of them after each (re)connection,
// so nothing here remembers anything: a page that slept or lost its link is right again with the first messages.
"use strict";

const overview = document.getElementById("overview");
const link = document.getElementById("link");
const clock = document.getElementById("now");
const SILENCE_MS = 30_000; // the server says something every 10 s
const RETRY_MS = 3_000;

let source = null;
let heard = Date.now();
let retry = null;

function show(state) {
  const text = link.dataset[state];
  if (link.textContent !== text) link.textContent = text;
  link.className = state;
}

function known(section) {
  return new Set(Array.from(section.querySelectorAll("[data-id]"), (row) => row.dataset.id));
}

function replace({ id, html }) {
  const section = document.getElementById(id);
  if (section === null) return;
  const before = known(section);
  section.innerHTML = html;
  if (before.size === 0) return;
  for (const row of section.querySelectorAll("[data-id]")) {
    if (!before.has(row.dataset.id)) row.classList.add("fresh");
  }
}

function connect() {
  clearTimeout(retry);
  if (source !== null) source.close();
  heard = Date.now();
  source = new EventSource(overview.dataset.stream);
  const listen = (name, handle) =>
    source.addEventListener(name, (message) => {
      heard = Date.now();
      show("live");
      handle(JSON.parse(message.data));
    });
  listen("section", replace);
  listen("tick", ({ now }) => {
    clock.dateTime = now;
    clock.textContent = now.slice(0, 16).replace("T", " ");
  });
  // Another version of the console answers now: its pages and scripts belong together.
  listen("build", ({ build }) => {
    if (build !== overview.dataset.build) location.reload();
  });
  source.onerror = () => {
    show("lost");
    // The browser gives up after an answer that is no stream: the login has ended, or the gateway is still starting.
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(reopen, RETRY_MS);
  };
}

async function reopen() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    if (answer.type === "opaqueredirect") return location.reload();
  } catch {
    // Not there yet; the next attempt tells.
  }
  connect();
}

function listenAgainWhenSilent() {
  if (Date.now() - heard > SILENCE_MS) {
    show("lost");
    connect();
  }
}

setInterval(listenAgainWhenSilent, 5_000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) listenAgainWhenSilent();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) connect();
});
addEventListener("online", connect);
addEventListener("pagehide", () => source.close());
connect();
