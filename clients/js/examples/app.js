/**
 * A small app as it runs in a container beside its sidecar: it may start before the sidecar does, and outlives its
 * restarts.
 *
 *     node app.js
 *
 * PORT says where it serves HTTP (by default 8080), SIDECAR_API where the sidecar is.
 *
 *     GET  /healthz      200 as long as the process lives
 *     GET  /readyz       200 when the sidecar is ready and this app has begun to work there, else 503 and why
 *     POST /say          publishes the body, which the apps at all peers hear; what became of it
 *     GET  /heard        the last messages heard
 *     GET  /ask?peer=ID  asks the app at a peer how many messages it has heard
 *
 * On SIGTERM it is no longer ready, finishes what is under way, and ends.
 */

import { once } from "node:events";
import { createServer } from "node:http";

import { connect, Lagged, SidecarError, SidecarUnavailable } from "@p2p-sidecar/client";

const TOPIC = "example-app";
const PROTOCOL = "/example/app/1";
const KEPT = 100; // messages
const TIMEOUT = 5000; // milliseconds for what somebody asks of us
const PROBE_TIMEOUT = 1000; // Kubernetes waits no longer for a probe
const DRAIN = 10_000; // and so long for the whole end, three times
const MAX_BODY = 65_536;

const ending = new AbortController();
const heard = [];
let count = 0;
let node;
let server;
let news;
let waiting = "not connected to the sidecar yet"; // what stands in the way from here; empty when nothing does

/** Connect for as long as it takes, and begin to work. */
async function begin() {
  while (node === undefined) {
    try {
      node = await connect({ signal: ending.signal });
    } catch (error) {
      if (!(error instanceof SidecarUnavailable)) {
        throw error;
      }
      waiting = error.message;
    }
  }
  server = await node.serve(PROTOCOL, () => String(count));
  news = await node.subscribe(TOPIC, { signal: ending.signal }).open();
  waiting = "";
  console.log(`working as ${(await node.info()).peerId}`);
  await Promise.race([listen(), server.ended]); // both go on over restarts of the sidecar
}

async function listen() {
  for await (const event of news.events()) {
    if (event instanceof Lagged) {
      console.log(String(event));
      continue;
    }
    count += 1;
    heard.push({ from: event.sender, text: event.data.toString() });
    heard.splice(0, heard.length - KEPT);
  }
}

/** Why this app is not ready; empty when it is. */
async function unready() {
  if (ending.signal.aborted || waiting !== "") {
    return ending.signal.aborted ? "it ends" : waiting;
  }
  const { conditions } = await node.readiness({ timeout: PROBE_TIMEOUT });
  const unmet = conditions.filter(({ met }) => !met);
  return unmet.map(({ type, message, remedy }) => `${type}: ${message} ${remedy}`.trim()).join("; ");
}

async function body(request) {
  const parts = [];
  let size = 0;
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    size += part.length;
    if (size > MAX_BODY) {
      return undefined;
    }
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The status and text for a request. */
async function answer(request) {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const way = `${request.method} ${pathname}`;
  if (way === "GET /healthz") {
    return [200, "alive"];
  }
  if (way === "GET /readyz") {
    const reason = await unready();
    return reason === "" ? [200, "ready"] : [503, reason];
  }
  if (!["POST /say", "GET /heard", "GET /ask"].includes(way)) {
    return [404, "nothing here"];
  }
  if (waiting !== "") {
    return [503, waiting];
  }
  if (way === "POST /say") {
    const text = await body(request);
    if (text === undefined) {
      return [413, `at most ${MAX_BODY} bytes`];
    }
    const { outcome, peers } = await node.publish(TOPIC, text, { timeout: TIMEOUT });
    return [200, JSON.stringify({ outcome, peers })];
  }
  if (way === "GET /ask") {
    const response = await node.request(searchParams.get("peer") ?? "", PROTOCOL, "", { timeout: TIMEOUT });
    return [200, response.toString()];
  }
  return [200, JSON.stringify(heard)];
}

const http = createServer((request, response) => {
  answer(request)
    .catch((error) => [error instanceof SidecarError ? 503 : 500, `${error.name}: ${error.message}`])
    .then(([status, text]) => {
      response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
      response.end(`${text}\n`);
    });
});

/** Let what is under way end, and then everything. */
async function end() {
  ending.abort();
  const closed = once(http, "close");
  http.close();
  const late = setTimeout(() => http.closeAllConnections(), DRAIN);
  await Promise.all([closed, server?.close({ drain: DRAIN })]);
  clearTimeout(late);
  await node?.close();
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, end);
}
http.listen(Number(process.env.PORT || 8080));
await once(http, "listening");
console.log(`serving HTTP at port ${http.address().port}`);
try {
  await begin();
} catch (error) {
  if (!ending.signal.aborted) {
    console.error(`app: ${error.message}`);
    process.exitCode = 1;
    await end();
  }
}
