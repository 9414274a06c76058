// The snapshot, kept as the dashboard keeps it, over restarts of the dashboard.

const SILENCE = 15000; // milliseconds without a byte after which a connection counts as lost; the server says something every 5 s
const PAUSES = [300, 600, 1200, 2500]; // milliseconds between tries
const KEYED = new Set(["peers", "topics", "events"]); // parts of which only what changed is sent

/** The token of the link. It leaves the address bar, and stays with this tab for when it is loaded again. */
export function token() {
  const given = location.hash.slice(1);
  if (/^[\w-]{16,}$/.test(given)) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}

/**
 * Follow for ever.
 * @param changed(snapshot, parts) with each change; parts: the names of those that differ.
 * @param state(name, text) with what the connection is: live, lost or denied, and why.
 */
export async function follow(changed, state) {
  for (let tries = 0; ; tries++) {
    const watch = new AbortController();
    try {
      const headers = { authorization: `Bearer ${token()}` };
      const response = await fetch("/events", { headers, cache: "no-store", signal: watch.signal });
      if (response.status === 401) {
        state("denied", "This link is not, or no longer, good: open the one that `sidecar dashboard` prints.");
        await new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
        tries = -1;
        continue;
      }
      if (!response.ok) throw new Error(await response.text());
      state("live", "");
      tries = 0;
      await read(response.body, watch, changed);
      throw new Error("it ended");
    } catch (error) {
      watch.abort();
      state("lost", `The dashboard does not answer (${reason(error)}). Trying again…`);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(tries, PAUSES.length - 1)]));
  }
}

async function read(body, watch, changed) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let shown = {};
  for (;;) {
    const timer = setTimeout(() => watch.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line) continue;
      const found = JSON.parse(line);
      shown = merge(shown, found);
      changed(shown, new Set(Object.keys(found)));
    }
  }
}

/** As `merge` of snapshot.py. */
export function merge(old, found) {
  const merged = { ...old };
  for (const [part, value] of Object.entries(found)) {
    if (KEYED.has(part) && part in old) {
      const entries = { ...old[part] };
      for (const name of value.gone) delete entries[name];
      merged[part] = Object.assign(entries, value.set);
    } else merged[part] = value;
  }
  return merged;
}

const reason = (error) => (error.name === "AbortError" ? "silent for too long" : error.message || error.name);
