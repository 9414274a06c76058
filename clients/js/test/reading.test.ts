import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { status } from "@grpc/grpc-js";

import { type Client, FailedPrecondition, Lagged } from "../src/index.js";
import { LagReason } from "../src/generated/sidecar/v1/common.js";
import { cancelled, type DuplexCall, failure, Hub, inForce, Signal, type StreamCall } from "./fake.js";
import { caught, joined, turns } from "./help.js";

type Texts = AsyncIterable<string>;

interface Opened {
  iterate: () => AsyncIterator<unknown>;
  stream: { close(): void } | undefined;
}

/** A stream whose items are texts, and how the sidecar says some in one response. */
interface Kind {
  name: string;
  method: string;
  open: (node: Client) => Promise<Opened>;
  say(texts: string[]): object;
  text(item: never): string;
}

const KINDS: Kind[] = [
  {
    name: "a subscription",
    method: "subscribe",
    open: async (node) => {
      const stream = await node.subscribe("x").open();
      return { iterate: () => stream[Symbol.asyncIterator](), stream };
    },
    say: (texts) => ({ messages: texts.map((text) => ({ data: Buffer.from(text), cursor: Buffer.from(text) })) }),
    text: ({ data }: { data: Buffer }) => data.toString(),
  },
  {
    name: "a receiver's events",
    method: "receive",
    open: async (node) => {
      const stream = await node.receive("/x/1").open();
      return { iterate: () => stream.events(), stream };
    },
    say: (texts) => ({ messages: texts.map((text) => ({ data: Buffer.from(text) })) }),
    text: ({ data }: { data: Buffer }) => data.toString(),
  },
  {
    name: "an acceptor",
    method: "acceptStreams",
    open: async (node) => {
      const stream = await node.acceptStreams("/x/1").open();
      return { iterate: () => stream[Symbol.asyncIterator](), stream };
    },
    say: (texts) => ({ streams: texts.map((text) => ({ peerId: text, protocol: "/x/1", token: text })) }),
    text: ({ peerId }: { peerId: string }) => peerId,
  },
  {
    name: "a watch",
    method: "watchPeers",
    open: async (node) => {
      const stream = await node.watchPeers().open();
      return { iterate: () => stream[Symbol.asyncIterator](), stream };
    },
    say: (texts) => ({ events: texts.map((reason) => ({ reason })) }),
    text: ({ reason }: { reason: string }) => reason,
  },
  {
    name: "a byte stream",
    method: "openStream",
    open: async (node) => {
      const stream = await node.openStream("p", "/x/1");
      return { iterate: () => stream[Symbol.asyncIterator](), stream: undefined };
    },
    say: (texts) => ({ data: Buffer.from(texts.join("")) }),
    text: (data: Buffer) => data.toString(),
  },
];

/** Items of one letter each, of an iterator that may be left at any time. */
const letters = (kind: Kind, iterate: () => AsyncIterator<unknown>): Texts => ({
  [Symbol.asyncIterator]: () => {
    const items = iterate();
    const read = (step: IteratorResult<unknown>): IteratorResult<string> =>
      step.done ? { value: undefined, done: true } : { value: kind.text(step.value as never), done: false };
    return {
      next: async () => read(await items.next()),
      return: async () => read((await items.return?.()) ?? { value: undefined, done: true }),
    };
  },
});

for (const kind of KINDS) {
  const begin = (calls: (StreamCall | DuplexCall)[]) => ({
    [kind.method]: (call: StreamCall & DuplexCall) => {
      calls.push(call);
      if (kind.method === "openStream") {
        call.on("data", () => undefined);
        call.write({ opened: { peerId: "p", protocol: "/x/1" } });
        return;
      }
      inForce(call);
      if (kind.method === "subscribe") {
        call.write({ cursor: Buffer.from("0") });
      }
    },
  });

  test(`${kind.name}: leaving the loop and reading on loses nothing, repeats nothing and ends nothing`, async (t) => {
    const calls: (StreamCall | DuplexCall)[] = [];
    const { node } = await joined(t, begin(calls));
    const { iterate } = await kind.open(node);
    const seen: string[] = [];
    const one = iterate();
    for (const text of ["abc", "def", "ghi"]) {
      calls[0]?.write(kind.say(Array.from(text)));
    }
    for (let turn = 0; seen.join("").length < 9; turn += 1) {
      // With a new iterator, and with the same one.
      for await (const letter of letters(kind, turn % 2 === 0 ? iterate : () => one)) {
        seen.push(letter);
        break;
      }
    }
    assert.equal(seen.join(""), "abcdefghi");
    assert.equal(calls.length, 1);
    assert.equal(calls[0]?.cancelled, false);
  });

  test(`${kind.name}: a read that was given up takes nothing`, async (t) => {
    const calls: (StreamCall | DuplexCall)[] = [];
    const { node } = await joined(t, begin(calls));
    const { iterate } = await kind.open(node);
    const one = iterate();
    const late = () => turns(3).then(() => "late");
    const given: Promise<unknown>[] = [];
    for (const items of [one, one, iterate(), iterate()]) {
      const step = items.next();
      given.push(step);
      assert.equal(await Promise.race([step, late()]), "late");
    }
    const controller = new AbortController();
    const step = one.next();
    const gone = caught(Promise.race([step, once(new EventTarget(), "never", controller)]));
    controller.abort();
    assert.equal((await gone).name, "AbortError");
    const waiting = one.next();
    await one.return?.(); // nobody waits any more
    assert.deepEqual(await waiting, { value: undefined, done: true });
    calls[0]?.write(kind.say(["a"]));
    assert.equal(kind.text((await one.next()).value as never), "a");
    const next = iterate().next();
    calls[0]?.write(kind.say(["b"]));
    assert.equal(kind.text((await next).value as never), "b");
    for (const replaced of [...given, step]) {
      assert.ok((await caught(replaced)) instanceof FailedPrecondition);
    }
  });

  test(`${kind.name}: what comes while nobody reads is there later, and the error behind it`, async (t) => {
    const calls: (StreamCall | DuplexCall)[] = [];
    const { node } = await joined(t, begin(calls));
    const { iterate } = await kind.open(node);
    const one = iterate();
    assert.equal(await Promise.race([one.next(), turns(3).then(() => "late")]), "late");
    await one.return?.();
    calls[0]?.write(kind.say(["a"]));
    await turns(20);
    calls[0]?.emit("error", failure(status.INVALID_ARGUMENT, "no more", { reason: "INVALID_ARGUMENT" }));
    await turns(20);
    assert.equal(kind.text((await iterate().next()).value as never), "a");
    assert.equal((await caught(iterate().next())).message, "no more");
    assert.equal((await caught(one.next())).message, "no more");
  });

  if (kind.method !== "openStream") {
    test(`${kind.name}: it ends when it is closed, and when the app has lost it`, async (t) => {
      const calls: (StreamCall | DuplexCall)[] = [];
      const { node } = await joined(t, begin(calls));
      const { iterate, stream } = await kind.open(node);
      const waiting = iterate().next();
      stream?.close();
      assert.equal((await waiting).done, true);
      assert.equal((await iterate().next()).done, true);
      await cancelled(calls[0]!);
      await (async () => {
        const lost = (await kind.open(node)).iterate();
        calls[1]?.write(kind.say(["a"]));
        await lost.next();
      })();
      setFlagsFromString("--expose-gc");
      const collect = runInNewContext("gc") as () => void;
      while (calls[1]?.cancelled === false) {
        collect();
        await turns();
      }
    });
  }
}

test("messages, events and batches are views of one stream", async (t) => {
  const { node } = await joined(t, {
    subscribe: (call: StreamCall) => {
      inForce(call);
      call.write({ cursor: Buffer.from("0") });
      const messages = ["a", "b", "c"].map((text) => ({ data: Buffer.from(text) }));
      call.write({ messages, lagged: { missed: 2n, reason: LagReason.SLOW_READER } });
      call.write({ messages: [{ data: Buffer.from("d") }] });
    },
  });
  const stream = await node.subscribe("x").open();
  assert.ok((await stream.events().next()).value instanceof Lagged);
  assert.equal((await stream[Symbol.asyncIterator]().next()).value?.data.toString(), "a");
  const { value: rest } = await stream.batches().next();
  assert.deepEqual([rest?.payloads().map(String), rest?.length, rest?.lagged], [["b", "c"], 2, undefined]);
  assert.deepEqual(
    rest?.messages.map(({ data }) => data.toString()),
    ["b", "c"],
  );
  const { value: whole } = await stream.batches().next();
  assert.deepEqual(whole?.payloads().map(String), ["d"]);
  assert.equal(stream.missed, 2);
});

test("what was at hand outlives the sidecar, and does not come again", async (t) => {
  const hub = new Hub();
  const { sidecar, node } = await joined(t, hub.handlers());
  const news = await node.subscribe("news").open();
  hub.add("news", "a", "b", "c");
  const seen: string[] = [];
  const some = async (count: number) => {
    for await (const { data } of news) {
      seen.push(data.toString());
      count -= 1;
      if (count === 0) {
        break;
      }
    }
  };
  await some(1);
  sidecar.kill();
  hub.add("news", "d");
  await sidecar.start();
  await some(3);
  assert.equal(seen.join(""), "abcd");
});

test("announcements may be left and taken up", async (t) => {
  const call = new Signal<StreamCall>();
  const { node } = await joined(t, {
    advertise: (begun: StreamCall) => {
      inForce(begun);
      begun.write({ holders: 1, asked: 20 });
      call.set(begun);
    },
  });
  const advertisement = await node.advertise("name");
  const told = advertisement.announcements();
  for await (const { holders } of told) {
    assert.equal(holders, 1);
    break;
  }
  assert.equal(await Promise.race([told.next(), turns(3).then(() => "late")]), "late");
  const next = told.next();
  (await call.promise).write({ holders: 2, asked: 20 });
  assert.equal((await next).value?.holders, 2);
  advertisement.close();
  assert.equal((await told.next()).done, true);
});
