import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { AlreadyExists, Closed, type DurableMessage, InvalidArgument, Outdated, StorageError } from "../src/index.js";
import { type Durable, SendOutcome } from "../src/generated/sidecar/v1/direct.js";
import { DurableOutcome, type Settlement, type WatchOutboxRequest } from "../src/generated/sidecar/v1/durable.js";
import { type DuplexCall, failure, type Handlers, inForce, Signal, type StreamCall } from "./fake.js";
import { caught, joined, take, turns } from "./help.js";

const MAIL = "/mail/1";
const at = (seconds: number) => ({ seconds: BigInt(seconds), nanos: 0 });

/** Keeps durable messages: sequences for them, in the order of the requests; the times that they were kept for. */
function keeping(times: (number | undefined)[]): Handlers {
  let sequence = 0n;
  const receipt = (durable: Durable | undefined, count: number) => {
    if (durable === undefined) {
      return { outcome: SendOutcome.DELIVERED };
    }
    times.push(durable.timeToLive && Number(durable.timeToLive.seconds));
    const first = sequence + 1n;
    sequence += BigInt(count);
    return { outcome: SendOutcome.STORED, messageId: { incarnation: 2n ** 63n + 1n, sequence: first } };
  };
  return {
    send: ({ durable }: { durable: Durable | undefined }) => ({ receipt: receipt(durable, 1) }),
    sendMany: (call: DuplexCall) => {
      inForce(call, 64 << 10);
      let first = 0n;
      let durable: Durable | undefined; // of the last request that named a peer, as the sidecar has it
      call.on("data", (request: { peerId: string; durable: Durable | undefined; messages: unknown[] }) => {
        durable = request.peerId ? request.durable : durable;
        const count = request.messages.length;
        call.write({ receipts: [{ first, count: BigInt(count), receipt: receipt(durable, count) }] });
        first += BigInt(count);
      });
      call.on("end", () => {
        call.end();
      });
    },
  };
}

const id = (sequence: number) => ({ incarnation: 2n ** 63n + 1n, sequence });

test("durable messages ride a call, and all are durable", async (t) => {
  const times: (number | undefined)[] = [];
  const { sidecar, node } = await joined(t, keeping(times));
  for (let number = 1; number <= 4; number += 1) {
    const kept = await node.send("p", MAIL, "x", { durable: { timeToLive: 90_000 }, requestId: String(number) });
    assert.deepEqual(kept, { outcome: "STORED", detail: "", messageId: id(number) });
    assert.deepEqual(await node.send("p", MAIL, "x"), { outcome: "DELIVERED", detail: "" });
  }
  assert.deepEqual(times, [90, 90, 90, 90]);
  assert.deepEqual([sidecar.calls["send"], sidecar.calls["sendMany"]], [2, 2]);
  assert.equal((await node.send("p", MAIL, "x", { durable: {} })).outcome, "STORED");
  assert.equal(times.at(-1), undefined);
  const wrong = await caught(node.send("p", MAIL, "x", { durable: { timeToLive: -1 } }));
  assert.ok(wrong instanceof InvalidArgument);
  assert.equal(wrong.field, "durable.time_to_live");
});

test("durable messages that go together have a sequence each", async (t) => {
  const { node } = await joined(t, keeping([]));
  const sent = Array.from({ length: 500 }, () => node.send("p", MAIL, "x", { durable: {} }));
  const receipts = await Promise.all(sent);
  assert.deepEqual(
    receipts.map(({ messageId }) => messageId?.sequence),
    receipts.map((_, index) => index + 1),
  );
});

test("many durable messages have their ids", async (t) => {
  const { node } = await joined(t, keeping([]));
  const payloads = Array.from({ length: 500 }, () => Buffer.alloc(1000));
  payloads[100] = Buffer.alloc(100_000); // no request can hold it
  const receipts = await node.sendMany("p", MAIL, payloads, { durable: {} });
  assert.equal(receipts[1]?.outcome, "TOO_LARGE");
  assert.deepEqual(
    [receipts[0], receipts[2]],
    [
      { first: 0, count: 100, outcome: "STORED", detail: "", messageId: id(1) },
      { first: 101, count: 399, outcome: "STORED", detail: "", messageId: id(101) },
    ],
  );
});

/** Delivers messages with these numbers, as attempt n of the n-th stream. */
function delivering(numbers: number[], lose?: Signal): { asked: unknown[]; handlers: Handlers } {
  const asked: unknown[] = [];
  const receive = async (call: StreamCall<{ protocols: string[]; durable: unknown }>) => {
    asked.push(call.request.durable);
    inForce(call);
    call.write({
      messages: numbers.map((number) => ({
        peerId: "p",
        protocol: call.request.protocols[0],
        data: Buffer.from([number]),
        delivery: {
          id: BigInt(number),
          attempt: asked.length,
          messageId: { incarnation: 7n, sequence: BigInt(number) },
        },
      })),
    });
    if (lose !== undefined && asked.length === 1) {
      await lose.promise;
      throw failure(status.UNAVAILABLE, "going");
    }
  };
  return { asked, handlers: { receive } };
}

test("durable messages come again after a lost connection", async (t) => {
  const lose = new Signal();
  const { asked, handlers } = delivering([1, 2], lose);
  const { node } = await joined(t, handlers);
  const receiver = node.receiveDurable(MAIL, { settleTimeout: 2000, maxDeliveries: 3, maxOpen: 9 });
  const messages = receiver[Symbol.asyncIterator]();
  const first = await take(messages, 2);
  lose.set();
  const all = [...first, ...(await take(messages, 2))];
  assert.deepEqual(
    all.map(({ id, attempt, messageId, data }) => [id, attempt, messageId.sequence, data[0]]),
    [
      [1, 1, 1, 1],
      [2, 1, 2, 2],
      [1, 2, 1, 1],
      [2, 2, 2, 2],
    ],
  );
  assert.deepEqual([all[0]?.peerId, all[0]?.protocol], ["p", MAIL]);
  assert.deepEqual(asked[0], { settleTimeout: at(2), maxDeliveries: 3, maxOpen: 9 });
  receiver.close();
  assert.equal((await messages.next()).done, true);
});

test("a durable receiver that is refused", async (t) => {
  const receive = () => {
    throw failure(status.ALREADY_EXISTS, "another one has it", { reason: "ALREADY_EXISTS" });
  };
  const { node } = await joined(t, { receive });
  assert.ok((await caught(node.receiveDurable(MAIL).open())) instanceof AlreadyExists);
  assert.throws(() => node.receiveDurable(MAIL, { settleTimeout: -1 }), InvalidArgument);
  assert.throws(() => node.receiveDurable(MAIL, { maxOpen: -1 }), InvalidArgument);
  assert.throws(() => node.watchOutbox({ cursor: -1 }), InvalidArgument);
  assert.ok((await caught(node.retryDeadLetters([0.5]))) instanceof InvalidArgument);
});

/** Delivers messages, and has `settle` settle them. */
async function delivered(
  t: Parameters<typeof joined>[0],
  numbers: number[],
  settle: (settlements: Settlement[]) => unknown,
) {
  const { handlers } = delivering(numbers);
  const { sidecar, node } = await joined(t, {
    ...handlers,
    settle: ({ settlements }: { settlements: Settlement[] }) => settle(settlements),
  });
  const messages: DurableMessage[] = await take(node.receiveDurable(MAIL)[Symbol.asyncIterator](), numbers.length);
  return { sidecar, node, messages };
}

test("settling", async (t) => {
  const told: Settlement[] = [];
  const { sidecar, messages } = await delivered(t, [1, 2, 3, 4], (settlements) => {
    told.push(...settlements);
    return { stale: [4n] };
  });
  const [one, two, three, four] = messages as [DurableMessage, DurableMessage, DurableMessage, DurableMessage];
  assert.equal(await one.acknowledge(), true);
  assert.equal(await two.reject("no such street"), true);
  assert.equal(await three.delay(1500), true);
  assert.equal(await four.acknowledge(), false);
  assert.deepEqual(told, [
    { id: 1n, attempt: 1, instead: undefined },
    { id: 2n, attempt: 1, instead: { $case: "reject", value: "no such street" } },
    { id: 3n, attempt: 1, instead: { $case: "delay", value: { seconds: 1n, nanos: 5e8 } } },
    { id: 4n, attempt: 1, instead: undefined },
  ]);
  for (const wrong of [one.reject("x".repeat(1025)), one.reject("\ud800"), one.delay(-1), one.delay(86_400_001)]) {
    assert.ok((await caught(wrong)) instanceof InvalidArgument);
  }
  assert.equal(sidecar.calls["settle"], 4);
});

test("settlements go together while a call is under way, each delivery once", async (t) => {
  const numbers = Array.from({ length: 5000 }, (_, index) => index);
  const sizes: number[] = [];
  const gate = new Signal();
  const done = new Set<bigint>();
  const { messages } = await delivered(t, numbers, async (settlements) => {
    sizes.push(settlements.length);
    if (sizes.length === 1) {
      await gate.promise;
    }
    const stale = settlements.filter(({ id: number }) => done.has(number)).map(({ id: number }) => number);
    for (const { id: number } of settlements) {
      done.add(number);
    }
    return { stale };
  });
  const settled = messages.map((message) => message.acknowledge());
  const again = messages[4999]!.acknowledge();
  await turns();
  gate.set();
  assert.ok((await Promise.all(settled)).every((fresh) => fresh));
  assert.equal(await again, false);
  assert.equal(sizes[0], 1);
  assert.ok(Math.max(...sizes) <= 4096 && sizes.length <= 5, String(sizes));
});

test("who waits for a settlement is told of a failure", async (t) => {
  const asked = new Signal();
  let calls = 0;
  const { node, messages } = await delivered(t, [1, 2], async () => {
    calls += 1;
    if (calls === 1) {
      throw failure(status.INTERNAL, "the disk is full", { reason: "STORAGE_ERROR" });
    }
    asked.set();
    await new Promise(() => undefined);
  });
  const [one, two] = messages as [DurableMessage, DurableMessage];
  assert.ok((await caught(one.acknowledge())) instanceof StorageError);
  const errors = [caught(one.acknowledge()), caught(two.acknowledge())];
  await asked.promise;
  await node.close();
  for (const error of [...(await Promise.all(errors)), await caught(one.acknowledge())]) {
    assert.ok(error instanceof Closed);
  }
});

test("the watch goes on behind its last event", async (t) => {
  const asked: WatchOutboxRequest[] = [];
  const watchOutbox = (call: StreamCall<WatchOutboxRequest>) => {
    asked.push(call.request);
    const from = call.request.cursor ?? 0n;
    if (from > 9n) {
      throw failure(status.FAILED_PRECONDITION, "it is gone", { reason: "OUTDATED" });
    }
    inForce(call);
    const event = (cursor: bigint) => ({
      cursor,
      peerId: "p",
      protocol: MAIL,
      messageId: { incarnation: 7n, sequence: cursor },
      requestId: "r",
      outcome: DurableOutcome.REJECTED,
      reason: "no such street",
      time: at(9),
    });
    call.write({ events: [], cursor: from });
    call.write({ events: [event(from + 1n), event(from + 2n)] });
    if (asked.length < 3) {
      throw failure(status.UNAVAILABLE, "going");
    }
  };
  const { node } = await joined(t, { watchOutbox });
  const watch = node.watchOutbox({ peerId: "p", protocol: MAIL });
  const events = await take(watch[Symbol.asyncIterator](), 5);
  assert.deepEqual(events[0], {
    cursor: 1,
    peerId: "p",
    protocol: MAIL,
    messageId: { incarnation: 7n, sequence: 1 },
    requestId: "r",
    outcome: "REJECTED",
    reason: "no such street",
    time: 9000,
  });
  assert.deepEqual(
    asked.map(({ cursor, peerId, protocol }) => [cursor, peerId, protocol]),
    [
      [undefined, "p", MAIL],
      [2n, "p", MAIL],
      [4n, "p", MAIL],
    ],
  );
  watch.close();
  assert.ok((await caught(node.watchOutbox({ cursor: 10 }).open())) instanceof Outdated);
});

test("a watch that had no event yet goes on where it began", async (t) => {
  const asked: (bigint | undefined)[] = [];
  const going = new Signal();
  const watchOutbox = async (call: StreamCall<WatchOutboxRequest>) => {
    asked.push(call.request.cursor);
    inForce(call);
    call.write({ events: [], cursor: 5n });
    if (asked.length < 2) {
      await going.promise;
      throw failure(status.UNAVAILABLE, "going");
    }
    call.write({ events: [{ cursor: 6n, outcome: DurableOutcome.DONE }] });
  };
  const { node } = await joined(t, { watchOutbox });
  const watch = await node.watchOutbox().open();
  going.set();
  const [event] = await take(watch[Symbol.asyncIterator](), 1);
  assert.equal(event?.cursor, 6);
  assert.deepEqual(asked, [undefined, 5n]);
  watch.close();
});

test("outbox and inbox are listed page by page, and changed", async (t) => {
  const common = { peerId: "p", protocol: MAIL, messageId: { incarnation: 7n, sequence: 1n }, size: 3n };
  const { node } = await joined(t, {
    listOutbox: ({ pageToken, peerId, protocol }: { pageToken: string; peerId: string; protocol: string }) => ({
      messages: [{ ...common, requestId: pageToken, created: at(9), expires: at(99), held: pageToken !== "" }],
      nextPageToken: pageToken ? "" : peerId + protocol,
    }),
    withdrawOutbox: ({ peerId, protocol }: { peerId: string; protocol: string }) => ({
      withdrawn: BigInt(peerId.length + protocol.length),
    }),
    listInbox: (request: { pageToken: string; deadLetters: boolean; withData: boolean }) => ({
      messages: [
        {
          ...common,
          id: request.pageToken ? 5n : 4n,
          attempts: 2,
          received: at(9),
          expires: at(99),
          data: Buffer.from(request.withData ? "abc" : ""),
          reason: request.deadLetters ? "delivered 2 times" : "",
        },
      ],
      nextPageToken: request.pageToken ? "" : "more",
    }),
    retryDeadLetters: ({ ids, protocol }: { ids: bigint[]; protocol: string }) => ({
      retried: BigInt(ids.length + protocol.length),
    }),
    purgeDeadLetters: ({ ids }: { ids: bigint[] }) => ({ purged: BigInt(ids.length) }),
  });
  const shared = { peerId: "p", protocol: MAIL, messageId: { incarnation: 7n, sequence: 1 }, size: 3, expires: 99_000 };
  const waiting = { ...shared, requestId: "", created: 9000, held: false };
  const outbox = await take(node.outbox({ peerId: "p", protocol: MAIL }), 9);
  assert.deepEqual(outbox, [waiting, { ...waiting, requestId: `p${MAIL}`, held: true }]);
  assert.equal(await node.withdraw("p", { protocol: MAIL }), 8);
  const letters = await take(node.inbox({ deadLetters: true, withData: true }), 9);
  const data = Buffer.from("abc");
  const letter = { ...shared, id: 4, attempts: 2, received: 9000, data, reason: "delivered 2 times" };
  assert.deepEqual(letters, [letter, { ...letter, id: 5 }]);
  assert.equal(await node.retryDeadLetters([4, 5], { protocol: MAIL }), 9);
  assert.equal(await node.purgeDeadLetters(), 0);
});
