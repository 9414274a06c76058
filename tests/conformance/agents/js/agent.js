/** The agent of the JavaScript client: performs what the runner asks for. ../../README.md has the protocol. */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createInterface } from "node:readline";

import { connect } from "../../../../clients/js/dist/index.js";
import { Bytes } from "./bytes.js";
import { CALLS, options } from "./calls.js";
import { FEEDS } from "./feeds.js";
import { described, Fault } from "./values.js";

const PATIENCE = 5000; // milliseconds for what ends a moment later than its client

const clients = new Map();
const streams = new Map();
const owners = new Map(); // of streams
const running = new Map(); // operations by id: their controllers
let before;

function found(map, name) {
  const value = map.get(name);
  if (value === undefined) {
    throw new Fault(`there is no ${name}`);
  }
  return value;
}

function keep(client, name, stream) {
  streams.set(name, stream);
  owners.set(name, client);
}

/** Handles and sockets of this process, how many of each. */
function surroundings() {
  const counts = new Map();
  const add = (name) => counts.set(name, (counts.get(name) ?? 0) + 1);
  process.getActiveResourcesInfo().forEach(add);
  for (const number of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${number}`);
      if (target.startsWith("socket:")) {
        add(target);
      }
    } catch {
      // that of the listing itself
    }
  }
  return counts;
}

function left() {
  const more = [];
  for (const [name, count] of surroundings()) {
    const extra = count - (before?.get(name) ?? 0);
    // Reading the lines and writing the answers come and go.
    if (extra > 0 && !["Immediate", "TickObject", "WriteWrap", "FSReqCallback"].includes(name)) {
      more.push(`${extra} ${name}`);
    }
  }
  return more;
}

const OWN = {
  async connect(request, signal) {
    before ??= surroundings();
    const chosen = options(request, signal, "reconnect", "token", "token_file");
    if ("wait_ms" in request) {
      chosen.wait = request.wait_ms;
    }
    const tls = {};
    for (const name of ["ca", "cert", "key"]) {
      if (`tls_${name}` in request) {
        tls[name] = request[`tls_${name}`];
      }
    }
    const client = await connect(request.target, { ...chosen, tls });
    clients.set(request.client, client);
    return { target: client.target };
  },

  async close({ client }) {
    await closeClient(client);
    return {};
  },

  cancel({ operation, stream }) {
    if (stream !== undefined) {
      found(streams, stream).cancel();
    } else {
      running.get(operation)?.abort();
    }
    return {};
  },

  async leaks() {
    const until = Date.now() + PATIENCE;
    while (left().length > 0 && Date.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 20).unref());
    }
    return { left: left() };
  },

  async open_stream(request, signal) {
    const abort = new AbortController();
    const onAbort = () => abort.abort();
    signal.addEventListener("abort", onAbort);
    const chosen = options(request, abort.signal);
    const stream = await found(clients, request.client).openStream(request.peer_id, request.protocols, chosen);
    signal.removeEventListener("abort", onAbort);
    keep(request.client, request.as, new Bytes(stream, abort));
    return { peer_id: stream.peerId, protocol: stream.protocol };
  },

  async read(request) {
    return await found(streams, request.stream).read(request);
  },

  answer(request) {
    found(streams, request.stream).answer(request);
    return {};
  },

  async settle(request) {
    return { fresh: await found(streams, request.stream).settle(request) };
  },

  async close_stream({ stream }) {
    await found(streams, stream).close();
    return {};
  },
};

async function closeClient(name) {
  const client = found(clients, name);
  clients.delete(name);
  await client.close();
  for (const [stream, owner] of owners) {
    if (owner === name) {
      await streams.get(stream).left();
    }
  }
}

async function open(request, signal) {
  const { client } = request;
  const feed = new FEEDS[request.op](found(clients, client), request, (name, stream) => keep(client, name, stream));
  const onAbort = () => feed.cancel();
  signal.addEventListener("abort", onAbort);
  await feed.open();
  signal.removeEventListener("abort", onAbort);
  keep(client, request.as, feed);
  return {};
}

async function perform(request, signal) {
  const { op } = request;
  if (op in CALLS) {
    return await CALLS[op](found(clients, request.client), request, signal);
  }
  if (op in FEEDS) {
    return await open(request, signal);
  }
  if (op in OWN) {
    return await OWN[op](request, signal);
  }
  if (["write", "read_bytes", "close_write", "reset"].includes(op)) {
    const stream = found(streams, request.stream);
    if (!(stream instanceof Bytes)) {
      throw new Fault(`${request.stream} is no byte stream`);
    }
    return await stream[op](request);
  }
  throw new Fault(`no operation ${op}`);
}

async function answer(request) {
  const controller = new AbortController();
  running.set(request.id, controller);
  try {
    say({ id: request.id, ok: await perform(request, controller.signal) });
  } catch (error) {
    say({ id: request.id, error: described(error) });
  } finally {
    running.delete(request.id);
  }
}

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const manifest = new URL("../../../../clients/js/package.json", import.meta.url);
say({ event: "started", language: "js", version: JSON.parse(readFileSync(manifest)).version });
const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
lines.on("line", (line) => void answer(JSON.parse(line)));
lines.on("close", async () => {
  running.forEach((controller) => controller.abort());
  await Promise.all([...clients.keys()].map(closeClient));
  process.exitCode = 0;
});
