import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { Closed, DeadlineExceeded, InvalidArgument, SidecarUnavailable, TooLarge } from "../src/index.js";
import { PublishOutcome } from "../src/generated/sidecar/v1/pubsub.js";
import { cancelled, type DuplexCall, failure, Hub, idOf, inForce, Signal, type UnaryCall } from "./fake.js";
import { caught, joined, turns } from "./help.js";

const texts = (messages: { data: Buffer }[]) => messages.map(({ data }) => data.toString());

/** A hub whose first unary publication waits until it is let go. */
function held(hub: Hub) {
  const handlers = hub.handlers();
  const [begun, release] = [new Signal<UnaryCall>(), new Signal()];
  const publish = handlers["publish"] as (request: unknown, call: UnaryCall) => unknown;
  return {
    begun,
    release,
    handlers: {
      ...handlers,
      publish: async (request: unknown, call: UnaryCall) => {
        begun.set(call);
        await release.promise;
        return publish(request, call);
      },
    },
  };
}

test("ten thousand at the same time are a few frames, in order, each with its own receipt", async (t) => {
  const hub = new Hub();
  const { sidecar, node } = await joined(t, hub.handlers());
  const payloads = Array.from({ length: 10_000 }, (_, number) => Buffer.from(`message ${number}`));
  const receipts = await Promise.all(payloads.map((data) => node.publish("news", data)));
  assert.deepEqual(
    receipts.map(({ messageId }) => messageId.toString()),
    payloads.map((data) => idOf(data).toString()),
  );
  assert.deepEqual(
    hub.history.map(({ data }) => data.toString()),
    payloads.map(String),
  );
  assert.deepEqual([sidecar.calls["publish"], sidecar.calls["publishMany"]], [1, 1]);
  assert.deepEqual(
    hub.frames.map(({ length }) => length),
    [4096, 4096, 1807],
  );
});

test("one at a time goes by the unary method, with everything that was said", async (t) => {
  const requests: unknown[] = [];
  const { sidecar, node } = await joined(t, {
    publish: (request: unknown) => {
      requests.push(request);
      return { receipt: { outcome: PublishOutcome.SENT, messageId: Buffer.from("id"), peers: 3, dropped: 1 } };
    },
  });
  const options = { signing: "STRICT_NO_SIGN", minimumPeers: 2, requestId: "again" } as const;
  assert.deepEqual(await node.publish("news", "hello", options), {
    outcome: "SENT",
    messageId: Buffer.from("id"),
    peers: 3,
    dropped: 1,
  });
  const data = Buffer.from("hello");
  assert.deepEqual(requests, [{ topic: "news", data, signing: 2, minimumPeers: 2, requestId: "again" }]);
  await node.publish("news", "hello");
  assert.equal(sidecar.calls["publish"], 2);
});

test("other topics and options do not wait for each other", async (t) => {
  const hub = new Hub();
  const { begun, release, handlers } = held(hub);
  const { sidecar, node } = await joined(t, handlers);
  const first = node.publish("a", "1");
  await begun.promise;
  const others = [node.publish("b", "2"), node.publish("a", "3", { minimumPeers: 1 })];
  await turns(20);
  release.set();
  await Promise.all([first, ...others]);
  assert.equal(sidecar.calls["publish"], 3);
});

test("when the queues are full the message goes again by the call that waits", async (t) => {
  const hub = new Hub();
  const handlers = hub.handlers();
  const { sidecar, node } = await joined(t, {
    ...handlers,
    publish: () => ({ receipt: { outcome: PublishOutcome.QUEUE_FULL } }),
  });
  const receipts = await Promise.all(["a", "b"].map((data) => node.publish("news", data)));
  assert.deepEqual(
    receipts.map(({ outcome }) => outcome),
    ["SENT", "SENT"],
  );
  assert.deepEqual(hub.frames.map(texts), [["a", "b"]]);
  assert.equal(sidecar.calls["publish"], 1);
});

test("what is too large is an error, of that message only", async (t) => {
  const hub = new Hub();
  hub.outcome = (data) => (data.equals(Buffer.from("b")) ? PublishOutcome.TOO_LARGE : PublishOutcome.SENT);
  const { node } = await joined(t, hub.handlers());
  const [a, b, c] = await Promise.allSettled(["a", "b", "c"].map((data) => node.publish("news", data)));
  assert.deepEqual([a?.status, b?.status, c?.status], ["fulfilled", "rejected", "fulfilled"]);
  assert.ok(b?.status === "rejected" && b.reason instanceof TooLarge);
  assert.equal(b.reason.reason, "TOO_LARGE");
});

test("a message over the sidecar's bound on requests goes alone and harms no others", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const payloads = ["a", "b", Buffer.alloc(5 << 20), "c"];
  const results = await Promise.allSettled(payloads.map((data) => node.publish("news", data)));
  assert.deepEqual(
    results.map((result) => (result.status === "fulfilled" ? "sent" : (result.reason as Error).name)),
    ["sent", "sent", "TooLarge", "sent"],
  );
  assert.deepEqual(texts(hub.history), ["a", "b", "c"]);
});

test("who gives up before the message was written is left out, and the others are not disturbed", async (t) => {
  const hub = new Hub();
  const { begun, release, handlers } = held(hub);
  const { node } = await joined(t, handlers);
  const controller = new AbortController();
  const first = node.publish("news", "1");
  await begun.promise;
  const leaving = caught(node.publish("news", "2", { signal: controller.signal }));
  const late = caught(node.publish("news", "3", { timeout: 1 }));
  const staying = [node.publish("news", "4"), node.publish("news", "5")];
  controller.abort();
  assert.equal((await leaving).name, "AbortError");
  assert.ok((await late) instanceof DeadlineExceeded);
  release.set();
  await Promise.all([first, ...staying]);
  assert.deepEqual(hub.frames.map(texts), [["4", "5"]]);
});

test("a call is cancelled when all its callers have gone, and not before", async (t) => {
  const begun = new Signal<DuplexCall>();
  const { node } = await joined(t, {
    publish: () => ({ receipt: { outcome: PublishOutcome.QUEUE_FULL } }),
    publishMany: (call: DuplexCall) => {
      inForce(call);
      call.once("data", () => {
        begun.set(call);
      });
    },
  });
  const controllers = [new AbortController(), new AbortController()] as const;
  const leaving = controllers.map(({ signal }, index) => caught(node.publish("news", `${index}`, { signal })));
  const call = await begun.promise;
  controllers[0].abort();
  assert.equal((await leaving[0])?.name, "AbortError");
  assert.equal(call.cancelled, false);
  controllers[1].abort();
  assert.equal((await leaving[1])?.name, "AbortError");
  await cancelled(call);
});

test("a signal of many calls has one listener, and none behind them; aborted, it ends them all", async (t) => {
  const hub = new Hub();
  const { begun, release, handlers } = held(hub);
  const { node } = await joined(t, handlers);
  const { signal } = new AbortController();
  const listeners = () => getEventListeners(signal, "abort").length;
  const publishing = Array.from({ length: 1000 }, (_, number) => node.publish("news", `${number}`, { signal }));
  await begun.promise;
  assert.equal(listeners(), 1);
  release.set();
  await Promise.all(publishing);
  assert.equal(listeners(), 0);
  const controller = new AbortController();
  const leaving = ["a", "b", "c"].map((data) => caught(node.publish("news", data, { signal: controller.signal })));
  controller.abort();
  assert.deepEqual(
    (await Promise.all(leaving)).map(({ name }) => name),
    ["AbortError", "AbortError", "AbortError"],
  );
  assert.equal(getEventListeners(controller.signal, "abort").length, 0);
});

test("a unary call is cancelled with its caller", async (t) => {
  const { begun, handlers } = held(new Hub());
  const { node } = await joined(t, handlers);
  const controller = new AbortController();
  const leaving = caught(node.publish("news", "1", { signal: controller.signal }));
  const call = await begun.promise;
  controller.abort();
  assert.equal((await leaving).name, "AbortError");
  await cancelled(call);
});

test("after a lost connection only what is safe is sent again", async (t) => {
  const hub = new Hub();
  const handlers = hub.handlers();
  const got: string[][] = [];
  const { sidecar, node } = await joined(t, {
    ...handlers,
    publish: () => ({ receipt: { outcome: PublishOutcome.QUEUE_FULL } }),
    publishMany: (call: DuplexCall) => {
      if (sidecar.calls["publishMany"] !== 1) {
        handlers["publishMany"]?.(call, call as never);
        return;
      }
      inForce(call);
      call.on("data", ({ messages }: { messages: { data: Buffer }[] }) => {
        got.push(texts(messages));
        sidecar.kill();
        void sidecar.start();
      });
    },
  });
  const big = "x".repeat(262_144); // so that the next one is in a frame that is not written any more
  const [doubtful, safe] = [caught(node.publish("news", "doubtful")), node.publish("news", big, { requestId: "id" })];
  const error = await doubtful;
  assert.ok(error instanceof Closed, String(error));
  assert.match(error.message, /may have been published/);
  assert.equal((await safe).outcome, "SENT");
  assert.deepEqual(got, [["doubtful"]]);
  assert.deepEqual(hub.singles.length + hub.frames.flat().filter(({ requestId }) => requestId === "id").length, 1);
});

test("without a sidecar a message waits as long as it may", async (t) => {
  const hub = new Hub();
  const { sidecar, node } = await joined(t, hub.handlers());
  sidecar.kill();
  let late: Error;
  do {
    late = await caught(node.publish("news", "late", { timeout: 50 }));
  } while (!late.message.startsWith("not done in time: no sidecar answers at unix:")); // the first may meet it as it breaks
  assert.ok(late instanceof DeadlineExceeded);
  const waiting = [node.publish("news", "a"), node.publish("news", "b")];
  await turns();
  await sidecar.start();
  await Promise.all(waiting);
  assert.deepEqual(texts(hub.history), ["a", "b"]);
});

test("without reconnecting all callers are told of the loss", async (t) => {
  const { sidecar, node } = await joined(t, {}, { reconnect: false });
  sidecar.kill();
  for (const error of await Promise.all(["a", "b"].map((data) => caught(node.publish("news", data))))) {
    assert.ok(error instanceof SidecarUnavailable, String(error));
  }
});

test("another error is that of all callers of the call", async (t) => {
  const refuse = () => {
    throw failure(status.FAILED_PRECONDITION, "differs", { reason: "TOPIC_OPTIONS_DIFFER" });
  };
  const { node } = await joined(t, { publish: refuse, publishMany: refuse });
  for (const error of await Promise.all(["a", "b", "c"].map((data) => caught(node.publish("news", data))))) {
    assert.equal(error.name, "TopicOptionsDiffer");
  }
  assert.ok((await caught(node.publish("news", "x", { requestId: "x".repeat(65) }))) instanceof InvalidArgument);
});

test("sending works alike", async (t) => {
  const frames: string[][] = [];
  const { sidecar, node } = await joined(t, {
    send: () => ({ receipt: { outcome: 2, detail: "nobody there" } }),
    sendMany: (call: DuplexCall) => {
      inForce(call);
      call.on("data", ({ peerId, protocol, messages }: { peerId: string; protocol: string; messages: [] }) => {
        frames.push([peerId, protocol, ...texts(messages)]);
        call.write({
          receipts: [
            { first: 1n, count: 1n, receipt: { outcome: 7, detail: "too large" } },
            { first: 0n, count: 1n, receipt: { outcome: 1 } },
          ],
        });
      });
      call.on("end", () => {
        call.end();
      });
    },
  });
  const [a, b, c] = await Promise.allSettled(["a", "b", "c"].map((data) => node.send("p", "/x/1", data)));
  assert.deepEqual(a?.status === "fulfilled" && a.value, { outcome: "NO_SUBSCRIBER", detail: "nobody there" });
  assert.deepEqual(b?.status === "fulfilled" && b.value, { outcome: "DELIVERED", detail: "" });
  assert.ok(c?.status === "rejected" && c.reason instanceof TooLarge);
  assert.deepEqual(frames, [["p", "/x/1", "b", "c"]]);
  assert.equal(sidecar.calls["send"], 1);
});
