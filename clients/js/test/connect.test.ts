import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { ServerCredentials, status } from "@grpc/grpc-js";

import {
  Closed,
  connect,
  DeadlineExceeded,
  InvalidArgument,
  SidecarUnavailable,
  Unauthenticated,
} from "../src/index.js";
import { TIMES } from "../src/link.js";
import { cancelled, failure, FakeSidecar, Hub, Signal, type UnaryCall } from "./fake.js";
import { caught, joined, turns } from "./help.js";

const CERTIFICATES = join(import.meta.dirname, "../../test/certificates");
const pem = (name: string) => join(CERTIFICATES, `${name}.pem`);

test("no sidecar: one error that says what was tried", async () => {
  const once = await caught(connect("/nowhere/api.sock", { wait: 0 }));
  assert.ok(once instanceof SidecarUnavailable);
  assert.match(
    once.message,
    /^no sidecar answers at unix:\/nowhere\/api\.sock \(from the argument of connect\): tried 1 times in .* ENOENT/,
  );
  const often = await caught(connect("127.0.0.1:1", { wait: 200 }));
  assert.match(often.message, /at 127\.0\.0\.1:1 .*: tried \d+ times in .* ECONNREFUSED/);
});

test("a sidecar that comes later is waited for", async (t) => {
  const sidecar = new FakeSidecar();
  const connecting = connect(sidecar.target);
  await turns();
  await sidecar.start();
  const node = await connecting;
  t.after(async () => {
    await node.close();
    sidecar.close();
  });
  assert.equal(node.target, sidecar.target);
  assert.equal((await node.info()).network, "test");
});

test("a name that has to be resolved", async (t) => {
  const sidecar = new FakeSidecar();
  const port = await sidecar.start(ServerCredentials.createInsecure());
  const node = await connect(`localhost:${port}`);
  t.after(async () => {
    await node.close();
    sidecar.close();
  });
  assert.equal((await node.info()).peerId, "me");
});

test("connecting is given up by a signal", async () => {
  const giveUp = new AbortController();
  const connecting = connect("/nowhere/api.sock", { signal: giveUp.signal });
  giveUp.abort(new Error("enough"));
  assert.equal((await caught(connecting)).message, "enough");
});

test("what answers but is no sidecar is not waited for longer than asked", async (t) => {
  const deaf = createServer((socket) => {
    socket.on("error", () => undefined);
  });
  deaf.listen(0, "127.0.0.1");
  await once(deaf, "listening");
  t.after(() => {
    deaf.close(); // does not end while anybody is connected
  });
  const { port } = deaf.address() as { port: number };
  const { oneTry } = TIMES;
  t.after(() => {
    TIMES.oneTry = oneTry;
  });
  TIMES.oneTry = 50;
  assert.ok((await caught(connect(`127.0.0.1:${port}`, { wait: 0 }))) instanceof SidecarUnavailable);
});

test("closing ends what is under way, and nothing can be begun any more", async (t) => {
  const begun = new Signal<UnaryCall>();
  const { node } = await joined(t, {
    request: (_, call) => {
      begun.set(call);
      return new Promise(() => undefined);
    },
  });
  const asking = caught(node.request("p", "/x/1", "?"));
  const call = await begun.promise;
  await node.close();
  assert.ok((await asking) instanceof Closed);
  await cancelled(call);
  for (const begin of [() => node.info(), () => node.publish("x", "y"), () => node.subscribe("x").open()]) {
    assert.ok((await caught(begin())) instanceof Closed);
  }
  await node.close(); // twice does nothing
});

test("calls are cancelled by a signal, here and there", async (t) => {
  const begun = new Signal<UnaryCall>();
  const { node } = await joined(t, {
    request: (_, call) => {
      begun.set(call);
      return new Promise(() => undefined);
    },
  });
  const controller = new AbortController();
  const asking = caught(node.request("p", "/x/1", "?", { signal: controller.signal }));
  const call = await begun.promise;
  controller.abort();
  assert.equal((await asking).name, "AbortError");
  await cancelled(call);
  assert.equal((await caught(node.info({ signal: controller.signal }))).name, "AbortError");
});

test("the timeout travels as the call's deadline", async (t) => {
  let left = 0;
  const { node } = await joined(t, {
    request: (_, call) => {
      left = Number(call.getDeadline()) - Date.now();
      return new Promise(() => undefined);
    },
  });
  const error = await caught(node.request("p", "/x/1", "?", { timeout: 300 }));
  assert.ok(error instanceof DeadlineExceeded);
  assert.equal(error.code, "DEADLINE_EXCEEDED");
  assert.ok(left > 0 && left <= 310, String(left)); // gRPC rounds up
  assert.ok((await caught(node.info({ timeout: -1 }))) instanceof InvalidArgument);
});

test("what only reads is tried again when the sidecar goes, other calls are not", async (t) => {
  const { sidecar, node } = await joined(t, {
    listTopics: () => {
      if (sidecar.calls["listTopics"] === 1) {
        throw failure(status.UNAVAILABLE, "the sidecar stops", { reason: "CLOSED" });
      }
      return { topics: [{ name: "news" }] };
    },
    disconnectPeer: () => {
      throw failure(status.UNAVAILABLE, "gone");
    },
  });
  assert.equal((await node.topics())[0]?.name, "news");
  assert.equal(sidecar.calls["listTopics"], 2);
  assert.ok((await caught(node.disconnectPeer("x"))) instanceof SidecarUnavailable);
  assert.equal(sidecar.calls["disconnectPeer"], 1);
});

test("calls wait for a sidecar that is away, as long as they may", async (t) => {
  const { sidecar, node } = await joined(t, { disconnectPeer: () => ({}) });
  sidecar.kill();
  const late = await caught(node.disconnectPeer("x", { timeout: 100 }));
  assert.ok(late instanceof DeadlineExceeded, String(late));
  const waiting = node.disconnectPeer("x"); // cannot have reached anybody
  await turns();
  await sidecar.start();
  await waiting;
  assert.equal(sidecar.calls["disconnectPeer"], 1);
});

test("without reconnecting a call fails at once when the sidecar is away", async (t) => {
  const { sidecar, node } = await joined(t, {}, { reconnect: false });
  sidecar.kill();
  assert.ok((await caught(node.info())) instanceof SidecarUnavailable);
});

test("a token goes with every call, and is read again when its file changes", async (t) => {
  const sidecar = new FakeSidecar();
  await sidecar.start();
  const file = join(sidecar.folder, "token");
  writeFileSync(file, "first\n");
  const node = await connect(sidecar.target, { tokenFile: file });
  t.after(async () => {
    await node.close();
    sidecar.close();
  });
  assert.deepEqual(sidecar.metadata.get("authorization"), ["Bearer first"]);
  writeFileSync(file, "second-one");
  await node.info();
  assert.deepEqual(sidecar.metadata.get("authorization"), ["Bearer second-one"]);
  rmSync(file);
  await node.info(); // what was read last counts
  assert.deepEqual(sidecar.metadata.get("authorization"), ["Bearer second-one"]);
  assert.ok((await caught(connect(sidecar.target, { tokenFile: file }))) instanceof InvalidArgument);
});

test("streams outlive a restart of the sidecar during which the token's file is away", async (t) => {
  const hub = new Hub();
  const sidecar = new FakeSidecar(hub.handlers());
  await sidecar.start();
  const file = join(sidecar.folder, "token");
  writeFileSync(file, "secret");
  const node = await connect(sidecar.target, { tokenFile: file });
  t.after(async () => {
    await node.close();
    sidecar.close();
  });
  const news = await node.subscribe("news").open();
  const messages = news[Symbol.asyncIterator]();
  rmSync(file);
  sidecar.kill();
  const next = messages.next();
  await sidecar.start();
  hub.add("news", "after");
  assert.equal((await next).value?.data.toString(), "after");
});

test("the wall clock goes an hour forward while a sidecar is waited for", async (t) => {
  const clock = Date.now;
  t.after(() => {
    Date.now = clock;
  });
  const connecting = caught(connect("/nowhere/api.sock", { wait: 600 }));
  Date.now = () => clock() + 3_600_000;
  assert.match((await connecting).message, /tried ([2-9]|\d\d) times in \d{1,2}\.\d s/);
});

test("a token is not sent in clear to another machine", async () => {
  const error = await caught(connect("192.0.2.1:4000", { token: "secret" }));
  assert.ok(error instanceof InvalidArgument);
  assert.equal(error.field, "token");
});

test("a wrong token is not tried again", async (t) => {
  const sidecar = new FakeSidecar({
    getNode: () => {
      throw failure(status.UNAUTHENTICATED, "who are you?");
    },
  });
  await sidecar.start();
  t.after(() => {
    sidecar.close();
  });
  assert.ok((await caught(connect(sidecar.target, { token: "wrong" }))) instanceof Unauthenticated);
  assert.equal(sidecar.calls["getNode"], 1);
});

test("TLS: the server's name is checked, and the app shows its certificate and its token", async (t) => {
  const sidecar = new FakeSidecar();
  const read = (name: string) => readFileSync(pem(name));
  const pair = { private_key: read("server-key"), cert_chain: read("server") };
  const port = await sidecar.start(ServerCredentials.createSsl(read("ca"), [pair], true));
  t.after(() => {
    sidecar.close();
  });
  const tls = { ca: pem("ca"), cert: pem("app"), key: pem("app-key") };
  const node = await connect(`tls://localhost:${port}`, { tls, token: "secret" });
  assert.deepEqual(sidecar.metadata.get("authorization"), ["Bearer secret"]);
  await node.close();
  const unknown = await caught(connect(`tls://localhost:${port}`, { wait: 0 }));
  assert.ok(unknown instanceof SidecarUnavailable);
  assert.match(unknown.message, /certificate/);
  const anonymous = await caught(connect(`tls://localhost:${port}`, { wait: 0, tls: { ca: pem("ca") } }));
  assert.ok(anonymous instanceof SidecarUnavailable);
});

test("nothing is left when the client is closed: the process ends by itself", async (t) => {
  const sidecar = new FakeSidecar();
  await sidecar.start();
  t.after(() => {
    sidecar.close();
  });
  const child = spawn(process.execPath, [join(import.meta.dirname, "leaks.js"), sidecar.target], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  child.stdout.on("data", (piece: Buffer) => {
    out += piece.toString();
  });
  const [code] = (await once(child, "close")) as [number];
  assert.deepEqual([code, out], [0, "closed\n"]);
});
