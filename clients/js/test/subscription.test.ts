import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { Closed, InvalidArgument, Lagged, SidecarUnavailable, SlowReader } from "../src/index.js";
import { LagReason } from "../src/generated/sidecar/v1/common.js";
import { PeerEventType } from "../src/generated/sidecar/v1/peer.js";
import {
  type ProbeRequest,
  Signing as AskedSigning,
  type SubscribeRequest,
} from "../src/generated/sidecar/v1/pubsub.js";
import { cancelled, failure, Hub, inForce, Signal, type StreamCall } from "./fake.js";
import { caught, joined, take, turns } from "./help.js";

const texts = (items: { data: Buffer }[]) => items.map(({ data }) => data.toString());

test("messages come with all that is known of them", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const news = await node.subscribe("news").open();
  hub.add("news", "hello");
  const [message] = await take(news[Symbol.asyncIterator](), 1);
  assert.deepEqual(message, {
    topic: "news",
    data: Buffer.from("hello"),
    sender: "somebody",
    messageId: Buffer.from("id of hello"),
    cursor: Buffer.from("1/1"),
    receiveTime: 1500,
    local: false,
    history: false,
  });
  assert.deepEqual(news.cursor, Buffer.from("1/1"));
});

test("a subscription continues behind what it has read when the sidecar was killed", async (t) => {
  const hub = new Hub();
  const { sidecar, node } = await joined(t, hub.handlers());
  const news = await node.subscribe("news").open();
  const messages = news[Symbol.asyncIterator]();
  sidecar.kill(); // before any message: the first response's cursor is enough
  hub.add("news", "a", "b");
  await sidecar.start();
  assert.deepEqual(texts(await take(messages, 2)), ["a", "b"]);
  hub.add("news", "c", "d");
  assert.deepEqual(texts(await take(messages, 1)), ["c"]);
  sidecar.kill();
  hub.add("news", "e");
  await sidecar.start();
  assert.deepEqual(texts(await take(messages, 2)), ["d", "e"]);
  assert.equal(news.missed, 0);
});

test("what the sidecar no longer knows is an event", async (t) => {
  const hub = new Hub();
  const { sidecar, node } = await joined(t, hub.handlers());
  hub.add("news", "old");
  const news = await node.subscribe("news").open();
  const events = news.events();
  sidecar.kill();
  hub.epoch = "2";
  hub.history.splice(0);
  hub.add("news", "new");
  await sidecar.start();
  const [lagged, message] = await take(events, 2);
  assert.ok(lagged instanceof Lagged);
  assert.deepEqual([lagged.missed, lagged.reason], [undefined, "RESTARTED"]);
  assert.match(lagged.toString(), /how many is not known.*restarted/);
  assert.ok(message !== undefined && !(message instanceof Lagged));
  assert.equal(message.data.toString(), "new");
});

test("plain iteration counts what was missed, and warns", async (t) => {
  const { node } = await joined(t, {
    subscribe: (call: StreamCall) => {
      inForce(call);
      call.write({ cursor: Buffer.from("1/0") });
      call.write({ lagged: { missed: 7n, reason: LagReason.SLOW_READER }, messages: [{ data: Buffer.from("x") }] });
    },
  });
  const warned = once(process, "warning");
  const news = await node.subscribe(["news", "olds"]).open();
  assert.deepEqual(texts(await take(news[Symbol.asyncIterator](), 1)), ["x"]);
  assert.equal(news.missed, 7);
  const [warning] = (await warned) as [Error & { code: string }];
  assert.equal(warning.code, "SIDECAR_LAGGED");
  assert.match(warning.message, /news, olds: missed 7 messages: this reader was too slow/);
});

test("batches have payloads and messages", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const news = await node.subscribe("news", { cursor: Buffer.from("1/0") }).open();
  hub.add("news", "a", "", "c");
  const [batch] = await take(news.batches(), 1);
  assert.equal(batch?.length, 3);
  assert.deepEqual(batch.payloads().map(String), ["a", "", "c"]);
  assert.deepEqual(texts([...batch.messages]), ["a", "", "c"]);
  assert.equal(batch.messages, batch.messages);
});

test("leaving the loop does not end the call there, closing and a signal do", async (t) => {
  const calls: StreamCall[] = [];
  const hub = new Hub();
  const handlers = hub.handlers();
  const { node } = await joined(t, {
    ...handlers,
    subscribe: (call: StreamCall) => {
      calls.push(call);
      return handlers["subscribe"]?.(call, call as never);
    },
  });
  const controller = new AbortController();
  const [left, closed, aborted] = [node.subscribe("a"), node.subscribe("b"), node.subscribe("c", controller)];
  await Promise.all([left.open(), closed.open(), aborted.open()]);
  const reading = caught(aborted.events().next());
  const waiting = closed.events().next();
  hub.add("a", "x");
  for await (const { data } of left) {
    assert.equal(data.toString(), "x");
    break;
  }
  assert.equal(hub.subscribers, 3);
  left.close();
  closed.close();
  controller.abort(new Error("enough"));
  assert.equal((await reading).message, "enough");
  assert.equal((await waiting).done, true);
  await Promise.all(calls.map(cancelled));
  assert.equal(calls.length, 3);
});

test("what a subscription is refused with ends it", async (t) => {
  const { sidecar, node } = await joined(t, {
    subscribe: () => {
      throw failure(status.INVALID_ARGUMENT, "no such thing", { reason: "INVALID_ARGUMENT", field: "topics" });
    },
  });
  const news = node.subscribe("");
  const error = await caught(news.open());
  assert.ok(error instanceof InvalidArgument);
  assert.equal(error.field, "topics");
  assert.equal(await caught(news.open()), error);
  assert.equal(sidecar.calls["subscribe"], 1);
});

test("a stream that ends with another error is not opened again", async (t) => {
  const { sidecar, node } = await joined(t, {
    subscribe: (call: StreamCall) => {
      inForce(call);
      call.write({ cursor: Buffer.from("1/0") });
      throw failure(status.RESOURCE_EXHAUSTED, "too slow", { reason: "SLOW_READER" });
    },
  });
  assert.ok((await caught(node.subscribe("x", { policy: "END_STREAM" }).events().next())) instanceof SlowReader);
  assert.equal(sidecar.calls["subscribe"], 1);
});

test("a stream that has been in force outlives refusals that pass, for 10 s", async (t) => {
  const hub = new Hub();
  const handlers = hub.handlers();
  const refusals: (status | undefined)[] = [undefined, status.UNAUTHENTICATED, status.RESOURCE_EXHAUSTED];
  const { sidecar, node } = await joined(t, {
    subscribe: (call: StreamCall) => {
      const count = sidecar.calls["subscribe"] ?? 0;
      const refusal = count <= refusals.length ? refusals[count - 1] : status.ALREADY_EXISTS;
      if (refusal !== undefined && count !== 4) {
        throw failure(refusal, "not now");
      }
      return handlers["subscribe"]?.(call, call as never);
    },
  });
  const news = await node.subscribe("news").open();
  const messages = news[Symbol.asyncIterator]();
  sidecar.kill();
  hub.add("news", "a");
  await sidecar.start();
  assert.deepEqual(texts(await take(messages, 1)), ["a"]);
  assert.equal(sidecar.calls["subscribe"], 4);
  const clock = performance.now.bind(performance);
  const ended = caught(messages.next());
  sidecar.kill();
  await sidecar.start();
  while ((sidecar.calls["subscribe"] ?? 0) < 6) {
    await turns(1); // the second try is made once the first refusal has come, from which the time counts
  }
  t.mock.method(performance, "now", () => clock() + 10_001);
  assert.equal((await ended).name, "AlreadyExists");
});

test("without reconnecting a subscription ends with the sidecar", async (t) => {
  const { sidecar, node } = await joined(t, new Hub().handlers(), { reconnect: false });
  const news = await node.subscribe("news").open();
  const reading = caught(news.events().next());
  sidecar.kill();
  const error = await reading;
  assert.ok(error instanceof SidecarUnavailable || error instanceof Closed);
});

test("a reader that does not read is noticed: the sidecar can write no more", async (t) => {
  const full = new Signal<number>();
  const { node } = await joined(t, {
    subscribe: (call: StreamCall) => {
      inForce(call);
      call.write({ cursor: Buffer.from("1/0") });
      const message = { messages: [{ data: Buffer.alloc(16_000) }] };
      let taken = 0;
      const write = () => {
        call.write(message, (error: unknown) => {
          if (error === undefined || error === null) {
            taken += 1;
            write();
          }
        });
      };
      const look = (before: number, quiet: number) => {
        if (quiet === 100) {
          full.set(taken); // nothing was taken for so many turns
        } else {
          setImmediate(look, taken, taken === before ? quiet + 1 : 0);
        }
      };
      write();
      look(0, 0);
    },
  });
  await node.subscribe("news").open();
  const taken = await full.promise;
  assert.ok(taken < 40, `${taken} messages of 16,000 bytes`);
});

test("direct messages: after a lost connection a gap comes before the next message", async (t) => {
  const calls: StreamCall[] = [];
  const { sidecar, node } = await joined(t, {
    receive: (call: StreamCall) => {
      inForce(call);
      calls.push(call);
    },
  });
  const messages = await node.receive("/x/1", { queueMessages: 5 }).open();
  const events = messages.events();
  assert.deepEqual(calls[0]?.request, { protocols: ["/x/1"], queueMessages: 5, durable: undefined });
  calls[0].write({ messages: [{ peerId: "p", protocol: "/x/1", data: Buffer.from("a") }] });
  assert.deepEqual(await take(events, 1), [{ peerId: "p", protocol: "/x/1", data: Buffer.from("a") }]);
  sidecar.kill();
  await sidecar.start();
  const [gap] = await take(events, 1); // at once when it is in force, not with the next message
  assert.ok(gap instanceof Lagged);
  assert.deepEqual([gap.missed, gap.reason], [undefined, "RECONNECTED"]);
  calls[1]?.write({ messages: [{ data: Buffer.from("b") }] });
  assert.deepEqual(texts((await take(events, 1)) as { data: Buffer }[]), ["b"]);
});

test("who watches peers is told that the state comes anew", async (t) => {
  const { sidecar, node } = await joined(t, {
    watchPeers: (call: StreamCall) => {
      inForce(call);
      const peer = { peerId: "p", connected: true, latency: { seconds: 0n, nanos: 1_500_000 } };
      call.write({ events: [{ type: PeerEventType.PRESENT, peer }, { type: PeerEventType.CURRENT }] });
      if (sidecar.calls["watchPeers"] === 2) {
        call.write({ lagged: { reason: LagReason.SLOW_READER }, events: [{ type: PeerEventType.CURRENT }] });
      }
    },
  });
  const events = node.watchPeers()[Symbol.asyncIterator]();
  const first = await take(events, 2);
  assert.deepEqual([first[0]?.peer?.peerId, first[0]?.peer?.latency, first[1]?.peer], ["p", 1.5, undefined]);
  sidecar.kill();
  await sidecar.start();
  assert.deepEqual(
    (await take(events, 5)).map(({ type }) => type),
    ["RECONNECTED", "PRESENT", "CURRENT", "LAGGED", "CURRENT"],
  );
});

test("ready waits for the node", async (t) => {
  const { node } = await joined(t, {
    watchReadiness: (call: StreamCall) => {
      inForce(call);
      call.write({ readiness: { ready: false, conditions: [{ type: "Listening", met: false }] } });
      call.write({ readiness: { ready: true } });
    },
  });
  assert.deepEqual(await node.ready({ timeout: 5000 }), { ready: true, conditions: [] });
});

test("steps asked for at once are answered in order, and the end is told to each", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const events = (await node.subscribe("news").open()).events();
  const steps = [events.next(), events.next(), events.next()];
  hub.add("news", "a", "b");
  const [one, two] = await Promise.all(steps.slice(0, 2));
  assert.deepEqual(texts([one?.value, two?.value] as { data: Buffer }[]), ["a", "b"]);
  await events.return?.();
  assert.equal((await steps[2])?.done, true);
  hub.add("news", "c");
  assert.deepEqual(texts((await take(events, 1)) as { data: Buffer }[]), ["c"]);
});

test("advertising lasts until it is closed, and comes back with the sidecar", async (t) => {
  const calls: StreamCall[] = [];
  const { sidecar, node } = await joined(t, {
    advertise: (call: StreamCall) => {
      inForce(call);
      calls.push(call);
      call.write({ holders: calls.length, asked: 20 });
    },
  });
  const advertisement = await node.advertise("name", { ttl: 60_000 });
  assert.equal(advertisement.announcement.holders, 1);
  const told = advertisement.announcements();
  assert.equal((await take(told, 1))[0]?.holders, 1);
  sidecar.kill();
  await sidecar.start();
  assert.equal((await take(told, 1))[0]?.holders, 2);
  const { seconds } = (calls[1]?.request as { ttl: { seconds: bigint } }).ttl;
  assert.ok(seconds <= 60n && seconds > 0n); // what is left of it
  advertisement.close();
  assert.equal((await told.next()).done, true);
  await cancelled(calls[1]!);
});

test("an advertisement ends in order when its time is over", async (t) => {
  const { sidecar, node } = await joined(t, {
    advertise: (call: StreamCall) => {
      inForce(call);
      call.write({ holders: 1, asked: 1 });
      call.end();
    },
  });
  const told = (await node.advertise("name", { ttl: 1 })).announcements();
  assert.equal((await take(told, 5)).length, 1);
  await turns();
  assert.equal(sidecar.calls["advertise"], 1);
});

test("peers are found until the search ends", async (t) => {
  const { node } = await joined(t, {
    findPeers: (call: StreamCall) => {
      call.write({ peers: [{ peerId: "a", addresses: ["/ip4/1.2.3.4/tcp/1"] }] });
      call.write({ peers: [{ peerId: "b" }, { peerId: "c" }] });
      call.end();
    },
  });
  const found = await take(node.findPeers("name", { limit: 3 }), 9);
  assert.deepEqual(
    found.map(({ peerId }) => peerId),
    ["a", "b", "c"],
  );
});

test("a start holds until there is a cursor", async (t) => {
  const asked: unknown[] = [];
  const hub = new Hub();
  const handlers = hub.handlers();
  const { sidecar, node } = await joined(t, {
    ...handlers,
    subscribe: (call: StreamCall) => {
      const { cursor, startTime, fromBeginning } = call.request as SubscribeRequest;
      asked.push([cursor.toString(), startTime && [startTime.seconds, startTime.nanos], fromBeginning]);
      return handlers["subscribe"]?.(call, call as never);
    },
  });
  for (const options of [{ startTime: 1_800_000_000_000.5 }, { fromBeginning: true }]) {
    const news = await node.subscribe("news", options).open();
    sidecar.kill();
    await sidecar.start();
    hub.add("news", "a");
    await take(news[Symbol.asyncIterator](), 1);
    news.close();
  }
  assert.deepEqual(asked, [
    ["", [1_800_000_000n, 500_000], false],
    ["1/0", undefined, false],
    ["", undefined, true],
    ["1/1", undefined, false],
  ]);
});

test("an expected rate may be any number, and less than one a second", async (t) => {
  const asked: number[] = [];
  const handlers = new Hub().handlers();
  const { node } = await joined(t, {
    ...handlers,
    subscribe: (call: StreamCall) => {
      asked.push((call.request as { expectedRate: number }).expectedRate);
      return handlers["subscribe"]?.(call, call as never);
    },
  });
  for (const expectedRate of [0.5, 200, undefined]) {
    const news = await node.subscribe("news", { ...(expectedRate !== undefined && { expectedRate }) }).open();
    news.close();
  }
  assert.deepEqual(asked, [0.5, 200, 0]);
  assert.throws(() => node.subscribe("news", { expectedRate: NaN }), InvalidArgument);
});

test("a probe gives answers as they come, and its summary last", async (t) => {
  let asked: ProbeRequest | undefined;
  const { node } = await joined(t, {
    probe: (call: StreamCall) => {
      asked = call.request as ProbeRequest;
      const roundTrip = { seconds: 0n, nanos: 62_500_000 };
      call.write({
        answers: [{ peerId: "a", number: 0, delay: { seconds: 0n, nanos: 125_000_000 }, roundTrip, direct: true }],
      });
      call.write({
        answers: [{ peerId: "b", number: 1, delay: { seconds: 3n, nanos: 0 }, roundTrip }],
        summary: {
          published: 20,
          unpublished: 1,
          share: 0.5,
          answers: 2n,
          peers: 2,
          expected: 3n,
          answered: 2n,
          receivers: 4.5,
          ignored: 6n,
        },
      });
      call.end();
    },
  });
  const options = { messages: 7, interval: 250, answers: 9, size: 1000, exposed: true } as const;
  const told = await take(node.probe("news", { ...options, signing: "STRICT_NO_SIGN" }), 9);
  assert.deepEqual(told, [
    { type: "ANSWER", peerId: "a", number: 0, delay: 125, roundTrip: 62.5, direct: true },
    { type: "ANSWER", peerId: "b", number: 1, delay: 3000, roundTrip: 62.5, direct: false },
    {
      type: "SUMMARY",
      published: 20,
      unpublished: 1,
      share: 0.5,
      answers: 2,
      peers: 2,
      expected: 3,
      answered: 2,
      receivers: 4.5,
      ignored: 6,
    },
  ]);
  const interval = { seconds: 0n, nanos: 250_000_000 };
  assert.deepEqual(asked, { topic: "news", ...options, interval, signing: AskedSigning.STRICT_NO_SIGN });
  await take(node.probe("news"), 9);
  assert.equal(asked?.interval, undefined);
});

test("all pages of peers", async (t) => {
  const { node } = await joined(t, {
    listPeers: ({ pageToken, connectedOnly }: { pageToken: string; connectedOnly: boolean }) => {
      assert.ok(connectedOnly);
      return pageToken === "" ? { peers: [{ peerId: "a" }], nextPageToken: "more" } : { peers: [{ peerId: "b" }] };
    },
  });
  const found = await take(node.peers({ connectedOnly: true }), 9);
  assert.deepEqual(
    found.map(({ peerId }) => peerId),
    ["a", "b"],
  );
});

test("the cursor is behind what was given, not behind what has arrived", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const following = async (cursor: Buffer) => {
    const again = node.subscribe("news", { cursor });
    const [batch] = await take(again.batches(), 1);
    again.close();
    return batch?.payloads().map(String).join("");
  };
  const news = node.subscribe("news");
  assert.equal(news.cursor.length, 0);
  await news.open();
  const start = news.cursor;
  assert.deepEqual(start, Buffer.from("1/0"));
  hub.add("news", "a", "b", "c", "d"); // together
  assert.deepEqual(texts(await take(news[Symbol.asyncIterator](), 1)), ["a"]);
  assert.equal(await following(news.cursor), "bcd");
  await take(news.events(), 1);
  assert.equal(await following(news.cursor), "cd");
  const [rest] = await take(news.batches(), 1);
  assert.deepEqual(rest?.payloads().map(String), ["c", "d"]);
  hub.add("news", "e");
  assert.equal(await following(news.cursor), "e");
  const step = news.batches();
  const pending = step.next();
  await step.return?.(); // what arrives now is given to nobody
  assert.equal((await pending).done, true);
  await turns();
  assert.equal(await following(news.cursor), "e");
  await take(news.batches(), 1);
  hub.add("news", "f");
  assert.equal(await following(news.cursor), "f");
  assert.equal(await following(start), "abcdef");
});

test("the cursor stays before a gap until that is told", async (t) => {
  const gap = (at: string, ...messages: string[]) => ({
    cursor: Buffer.from(at),
    lagged: { missed: 3n, reason: LagReason.HISTORY_EXCEEDED },
    messages: messages.map((cursor) => ({ data: Buffer.from("x"), cursor: Buffer.from(cursor) })),
  });
  const { node } = await joined(t, {
    subscribe: (call: StreamCall) => {
      inForce(call);
      call.write(gap("5", "6", "7"));
      call.write(gap("9"));
      call.write({ messages: [{ data: Buffer.from("x"), cursor: Buffer.from("10") }] });
    },
  });
  const ways = {
    events: ["1", "5", "6", "7", "9", "10"],
    batches: ["1", "7", "9", "10"],
  };
  for (const [way, wanted] of Object.entries(ways)) {
    const news = await node.subscribe("news", { cursor: Buffer.from("1") }).open();
    const cursors = [String(news.cursor)];
    const items = news[way as keyof typeof ways]();
    while (cursors.length < wanted.length) {
      await items.next();
      cursors.push(String(news.cursor));
    }
    assert.deepEqual(cursors, wanted);
    news.close();
  }
});
