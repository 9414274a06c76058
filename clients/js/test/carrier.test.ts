/** Byte streams that share a call. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import { finished } from "node:stream/promises";
import { test } from "node:test";

import { Metadata, status } from "@grpc/grpc-js";

import { type ByteStream, type Client, DeadlineExceeded, NotFound, NotSupported, StreamReset } from "../src/index.js";
import { Closed, SidecarUnavailable } from "../src/index.js";
import { cancelled, type DuplexCall, failure, type Handlers, inForce, Signal, type StreamCall } from "./fake.js";
import { caught, joined, take, turns } from "./help.js";

const WINDOW = 262_144;
const WIDE = 1_048_576;
const FIRST = 2 ** 32;

interface Said {
  stream: bigint;
  open?: { peerId: string; protocols: string[] };
  token: string;
  data: Buffer;
  closeWrite: boolean;
  window: number;
  reset: boolean;
}

interface One {
  waiting: Buffer[];
  size: number;
  room: number;
  /** Bytes of the client that may be under way. */
  window: number;
  end: boolean;
}

/** A sidecar whose streams echo. It holds its clients to their windows, and keeps to its own. */
class Carrying {
  readonly calls: DuplexCall[] = [];
  readonly said: Said[] = [];
  readonly open = new Map<number, One>();
  /** Streams that were reset. */
  readonly reset: number[] = [];
  readonly accepting: { carrier: string; acceptor: bigint; call: StreamCall }[] = [];
  /** What is not echoed. */
  silent = false;
  /** Bytes of a client that may be under way, from the first that are given back on. */
  window = WINDOW;

  readonly handlers: Handlers = {
    carryStreams: (call: DuplexCall) => {
      this.open.clear();
      this.calls.push(call);
      const metadata = new Metadata();
      metadata.set("sidecar-stream", "open");
      metadata.set("sidecar-carrier", `key ${this.calls.length}`);
      call.sendMetadata(metadata);
      call.on("data", ({ frames }: { frames: Said[] }) => {
        for (const frame of frames) {
          this.#heed(frame);
        }
        this.#echo();
      });
    },
    acceptStreams: (call: StreamCall<{ carrier: string; acceptor: bigint }>) => {
      inForce(call);
      this.accepting.push({ ...call.request, call });
    },
  };

  get call(): DuplexCall {
    return this.calls.at(-1)!;
  }

  say(...frames: object[]): void {
    this.call.write({ frames });
  }

  announce(stream: number, acceptor: bigint, data = ""): void {
    this.open.set(stream, { waiting: [], size: 0, room: WINDOW - data.length, window: WINDOW, end: false });
    const opened = { peerId: "them", protocol: "/x/1" };
    this.say({ stream: BigInt(stream), opened, acceptor, data: Buffer.from(data) });
  }

  lose(stream: number, code: status, reason: string): void {
    this.open.delete(stream);
    const { metadata } = failure(code, "lost", { reason });
    this.say({ stream: BigInt(stream), status: metadata?.get("grpc-status-details-bin")[0] });
  }

  #heed(frame: Said): void {
    this.said.push(frame);
    const stream = Number(frame.stream);
    const peer = frame.open?.peerId;
    if (peer === "refuses") {
      this.lose(stream, status.UNIMPLEMENTED, "NOT_SUPPORTED");
    } else if (peer !== undefined && peer !== "silent") {
      this.open.set(stream, { waiting: [], size: 0, room: WINDOW, window: WINDOW, end: false });
      this.say({ stream: frame.stream, opened: { peerId: peer, protocol: frame.open?.protocols.at(-1) } });
    }
    const one = this.open.get(stream);
    if (frame.reset) {
      this.reset.push(stream);
      this.open.delete(stream);
    }
    if (one !== undefined) {
      one.waiting.push(frame.data);
      one.size += frame.data.length;
      assert.ok(one.size <= one.window, "the client keeps to the window");
      one.room += frame.window;
      assert.ok(one.room <= WIDE, "the client gives what is documented");
      one.end ||= frame.closeWrite;
    }
  }

  #echo(): void {
    for (const [stream, one] of this.silent ? [] : this.open) {
      const size = Math.min(one.size, one.room);
      const all = Buffer.concat(one.waiting);
      one.waiting = [all.subarray(size)];
      one.size -= size;
      one.room -= size;
      const done = one.end && one.size === 0;
      if (size > 0 || done) {
        const more = size > 0 ? this.window - one.window : 0;
        one.window += more;
        this.say({ stream: BigInt(stream), data: all.subarray(0, size), window: size + more, end: done, done });
      }
      if (done) {
        this.open.delete(stream);
      }
    }
  }
}

async function echo(node: Client, data: Buffer | string): Promise<void> {
  const stream = await node.openStream("them", "/x/1");
  stream.end(data);
  assert.deepEqual(await buffer(stream), Buffer.from(data));
  await finished(stream);
}

/** The stream's number, of the last that was opened. */
function last(sidecar: Carrying): number {
  return Number(sidecar.said.findLast(({ open }) => open !== undefined)?.stream);
}

test("all streams of a client ride one call", async (t) => {
  const carrying = new Carrying();
  const { sidecar, node } = await joined(t, carrying.handlers);
  await echo(node, "hello");
  await echo(node, Buffer.alloc(3 << 20, 7)); // several windows
  await Promise.all(Array.from({ length: 50 }, (_, index) => echo(node, Buffer.alloc(10_000, index))));
  assert.deepEqual([sidecar.calls["carryStreams"], sidecar.calls["openStream"]], [1, undefined]);
  assert.equal(carrying.open.size, 0);
});

for (const window of [WINDOW, WIDE]) {
  test(`streams become wide, and keep to the ${window} bytes that the sidecar gives`, async (t) => {
    const carrying = new Carrying();
    carrying.window = window;
    const { node } = await joined(t, carrying.handlers);
    const given = (): number[] => carrying.said.map((frame) => frame.window).filter((size) => size > 0);
    await echo(node, Buffer.alloc(WINDOW / 2 - 1));
    assert.deepEqual(given(), []);
    await echo(node, Buffer.alloc(6 << 20, 7));
    assert.ok(given()[0]! >= WIDE - WINDOW / 2);
    assert.ok(
      given()
        .slice(1)
        .every((size) => size >= WIDE / 2),
      "what is wide is told of less often",
    );
    assert.ok(given().length > 4);
  });
}

test("64 streams are wide at once, and others take their places", async (t) => {
  const carrying = new Carrying();
  const { node } = await joined(t, carrying.handlers);
  const given = (): number[] => carrying.said.map((frame) => frame.window).filter((size) => size > 0);
  const move = async (stream: ByteStream): Promise<void> => {
    stream.write(Buffer.alloc(WINDOW / 2));
    for (let left = WINDOW / 2; left > 0;) {
      const piece = stream.read() as Buffer | null;
      if (piece === null) {
        await once(stream, "readable");
      } else {
        left -= piece.length;
      }
    }
  };
  const streams: ByteStream[] = [];
  for (let index = 0; index <= 64; index += 1) {
    const stream = await node.openStream("them", "/x/1");
    await move(stream);
    while (given().length <= index) {
      await turns(1);
    }
    assert.equal(given().at(-1), index < 64 ? WIDE - WINDOW / 2 : WINDOW / 2);
    streams.push(stream);
  }
  streams[0]!.destroy();
  await move(streams[64]!);
  while (given().length < 66) {
    await turns(1);
  }
  assert.equal(given().at(-1), WIDE - WINDOW / 2);
  for (const stream of streams) {
    stream.destroy();
  }
});

test("a stream that nobody reads holds up its own writer, and no other stream", async (t) => {
  const { node } = await joined(t, new Carrying().handlers);
  const slow = await node.openStream("them", "/x/1");
  let written = false;
  slow.end(Buffer.alloc(2 << 20), () => {
    written = true;
  });
  for (let round = 0; round < 20; round += 1) {
    await echo(node, "fast");
  }
  assert.equal(written, false);
  assert.equal((await buffer(slow)).length, 2 << 20);
  await finished(slow);
});

test("each direction ends by itself", async (t) => {
  const carrying = new Carrying();
  const { node } = await joined(t, carrying.handlers);
  carrying.silent = true;
  const stream = await node.openStream("them", "/x/1");
  const number = BigInt(last(carrying));
  carrying.say({ stream: number, data: Buffer.from("bye"), end: true });
  assert.equal((await buffer(stream)).toString(), "bye");
  assert.equal(stream.writable, true);
  stream.end("still here");
  await once(stream, "finish");
  while (carrying.said.at(-1)?.closeWrite !== true) {
    await turns(1);
  }
  carrying.say({ stream: number, done: true });
  await finished(stream);
  assert.equal(stream.failure, undefined);
  assert.ok(carrying.said.some(({ data }) => data.toString() === "still here"));
  assert.equal(carrying.said.at(-1)?.closeWrite, true);
});

test("a reset is told behind what had arrived, also while the app writes, and harms no other stream", async (t) => {
  const carrying = new Carrying();
  const { node } = await joined(t, carrying.handlers);
  const kept = await node.openStream("them", "/x/1");
  const stream = await node.openStream("them", "/x/1");
  const number = last(carrying);
  stream.once("readable", () => undefined); // the app reads, and then is busy
  for (let piece = 0; piece < 100; piece += 1) {
    carrying.say({ stream: BigInt(number), data: Buffer.alloc(2000, piece) });
  }
  carrying.lose(number, status.ABORTED, "STREAM_RESET");
  await echo(node, "behind it"); // all of that is here
  await new Promise((resolve) => stream.write("into the void", resolve));
  let size = 0;
  const error = await caught(
    (async () => {
      for await (const piece of stream) {
        size += piece.length;
        await turns(1);
      }
    })(),
  );
  assert.ok(error instanceof StreamReset, String(error));
  assert.equal(size, 200_000);
  assert.equal(stream.failure, error);
  kept.end("well");
  assert.equal((await buffer(kept)).toString(), "well");
});

test("destroying resets the stream there, and so do a signal and closing the client", async (t) => {
  const carrying = new Carrying();
  const { node } = await joined(t, carrying.handlers);
  const controller = new AbortController();
  const made: ByteStream[] = [];
  const numbers: number[] = [];
  for (const options of [{}, { signal: controller.signal }, {}]) {
    const stream = await node.openStream("them", "/x/1", options);
    stream.on("error", () => undefined).resume();
    made.push(stream);
    numbers.push(last(carrying));
  }
  made[0]!.destroy();
  controller.abort();
  while (carrying.reset.length < 2) {
    await turns(1);
  }
  assert.deepEqual(carrying.reset, numbers.slice(0, 2));
  assert.ok(made[0]!.failure instanceof Closed);
  assert.equal(made[1]!.failure?.name, "AbortError");
  await node.close();
  await cancelled(carrying.call);
  assert.ok(made[2]!.failure instanceof Closed);
});

test("closing the client lets a stream that has ended leave the sidecar", async (t) => {
  const carrying = new Carrying();
  const { node } = await joined(t, carrying.handlers);
  carrying.silent = true;
  const stream = await node.openStream("them", "/x/1");
  const number = BigInt(last(carrying));
  stream.resume().end("x");
  carrying.say({ stream: number, end: true });
  await once(stream, "end");
  const closing = node.close();
  await turns(20);
  assert.equal(carrying.call.cancelled, false);
  carrying.say({ stream: number, done: true });
  await closing;
  await cancelled(carrying.call);
  assert.equal(stream.failure, undefined);
});

test("opening fails with what the sidecar says of the stream, and within its time", async (t) => {
  const carrying = new Carrying();
  const { sidecar, node } = await joined(t, carrying.handlers);
  assert.ok((await caught(node.openStream("refuses", "/x/1"))) instanceof NotSupported);
  assert.ok((await caught(node.openStream("silent", "/x/1", { timeout: 30 }))) instanceof DeadlineExceeded);
  const given = new AbortController();
  const opening = caught(node.openStream("silent", "/x/1", { signal: given.signal }));
  await turns();
  given.abort();
  assert.equal((await opening).name, "AbortError");
  await echo(node, "well");
  assert.deepEqual([sidecar.calls["carryStreams"], sidecar.calls["openStream"]], [1, undefined]);
});

test("the call is not waited for longer than the stream", async (t) => {
  const begun = new Signal();
  const { node } = await joined(t, {
    carryStreams: () => {
      begun.set(); // and it says nothing
    },
  });
  assert.ok((await caught(node.openStream("them", "/x/1", { timeout: 30 }))) instanceof DeadlineExceeded);
  await begun.promise;
});

test("the sidecar dies: its streams fail behind what had arrived, and the next opens the call anew", async (t) => {
  const carrying = new Carrying();
  const { sidecar, node } = await joined(t, carrying.handlers);
  const made = [await node.openStream("them", "/x/1"), await node.openStream("them", "/x/1")];
  made[0]!.write("kept");
  await once(made[0]!, "readable");
  sidecar.kill();
  const read: string[] = [];
  for (const stream of made) {
    const error = await caught(
      (async () => {
        for await (const piece of stream) {
          read.push(piece.toString());
        }
      })(),
    );
    assert.ok(error instanceof SidecarUnavailable || error instanceof Closed, String(error));
  }
  assert.deepEqual(read, ["kept"]);
  await sidecar.start();
  await echo(node, "again");
  assert.equal(sidecar.calls["carryStreams"], 2);
});

test("a call that nobody uses ends, and the next stream opens another", async (t) => {
  const carrying = new Carrying();
  const { sidecar, node } = await joined(t, carrying.handlers);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const stream = await node.openStream("them", "/x/1");
  t.mock.timers.tick(5000);
  stream.end("x");
  await buffer(stream);
  await finished(stream);
  await turns();
  t.mock.timers.tick(1000);
  await cancelled(carrying.call);
  await echo(node, "again");
  assert.equal(sidecar.calls["carryStreams"], 2);
});

test("streams of peers come on the same call, with what was sent, and are taken up at once", async (t) => {
  const carrying = new Carrying();
  const { sidecar, node } = await joined(t, carrying.handlers);
  const [first, second] = [node.acceptStreams("/first/1"), node.acceptStreams("/x/1")];
  await first.open();
  await second.open();
  await echo(node, "our own");
  assert.deepEqual(
    carrying.accepting.map(({ carrier }) => carrier),
    ["key 1", "key 1"],
  );
  const waiting = second[Symbol.asyncIterator]();
  const early = waiting.next(); // it waits already
  await turns();
  for (const number of [0, 1, 2]) {
    carrying.announce(FIRST + number, carrying.accepting[1]!.acceptor, "early ");
  }
  const incoming = [await early, await waiting.next(), await waiting.next()].map(({ value }) => value!);
  for (const one of incoming) {
    assert.deepEqual([one.peerId, one.protocol], ["them", "/x/1"]);
    const stream = await one.accept();
    stream.end("and late");
    assert.equal((await buffer(stream)).toString(), "early and late");
    assert.ok((await caught(one.accept())) instanceof NotFound);
  }
  assert.deepEqual([sidecar.calls["carryStreams"], sidecar.calls["attachStream"]], [1, undefined]);
  first.close();
  second.close();
});

test("a stream that was not taken up in time, or went with the sidecar, is not there; accepting goes on", async (t) => {
  const carrying = new Carrying();
  const { sidecar, node } = await joined(t, carrying.handlers);
  const streams = node.acceptStreams("/x/1");
  await streams.open();
  carrying.announce(FIRST, carrying.accepting[0]!.acceptor);
  carrying.announce(FIRST + 1, carrying.accepting[0]!.acceptor);
  const iterator = streams[Symbol.asyncIterator]();
  const [late, gone] = await take(iterator, 2);
  carrying.lose(FIRST, status.NOT_FOUND, "NOT_FOUND");
  await echo(node, "behind it");
  assert.ok((await caught(late!.accept())) instanceof NotFound);
  const next = iterator.next();
  sidecar.kill();
  await sidecar.start();
  while (carrying.accepting.length < 2) {
    await turns(1);
  }
  assert.ok((await caught(gone!.accept())) instanceof NotFound);
  assert.equal(carrying.accepting[1]!.carrier, "key 2");
  carrying.announce(FIRST, carrying.accepting[1]!.acceptor, "x");
  const stream = await (await next).value!.accept();
  stream.end();
  assert.equal((await buffer(stream)).toString(), "x");
  streams.close();
});

test("with a token each stream has a call of its own", async (t) => {
  const { sidecar, node } = await joined(
    t,
    {
      ...new Carrying().handlers,
      openStream: (call: DuplexCall) => {
        call.once("data", () => {
          call.write({ opened: { peerId: "them", protocol: "/x/1" } });
        });
      },
    },
    { token: "of.another" },
  );
  (await node.openStream("them", "/x/1")).on("error", () => undefined).destroy();
  assert.deepEqual([sidecar.calls["openStream"], sidecar.calls["carryStreams"]], [1, undefined]);
});
