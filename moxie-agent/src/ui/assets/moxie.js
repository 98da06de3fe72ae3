// Keeps the start page fresh: asks for it again when the agent says that something happened, at most twice a second.
"use strict";

let waiting = false;
let again = false;

async function refresh() {
  if (waiting) {
    again = true;
    return;
  }
  waiting = true;
  try {
    const answer = await fetch("/", { headers: { accept: "text/html" } });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (fresh) document.getElementById("live").replaceWith(fresh);
    }
  } catch {
    // The agent is away; the event source connects again and asks then.
  }
  setTimeout(() => {
    waiting = false;
    if (again) {
      again = false;
      refresh();
    }
  }, 500);
}

const events = new EventSource("/api/v1/events");
for (const kind of ["exchange", "connection", "rule", "scope", "divert", "missed", "open"]) {
  events.addEventListener(kind, refresh);
}
