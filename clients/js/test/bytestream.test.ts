import assert from "node:assert/strict";
import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import { finished } from "node:stream/promises";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { Closed, DeadlineExceeded, NotFound, NotSupported, StreamReset } from "../src/index.js";
import { cancelled, type DuplexCall, failure, inForce, Signal, type StreamCall } from "./fake.js";
import { caught, joined, take, turns } from "./help.js";

interface Said {
  peerId?: string;
  token?: string;
  protocols?: string[];
  data: Buffer;
  closeWrite: boolean;
  statusInResponse: boolean;
}

/** The sidecar's side of a stream: what was said, and what to do behind the first request. */
function opening(then: (call: DuplexCall, said: Said) => void = () => undefined) {
  const said: Said[] = [];
  const calls: DuplexCall[] = [];
  return {
    said,
    calls,
    handler: (call: DuplexCall) => {
      calls.push(call);
      let first = true;
      call.on("data", (request: Said) => {
        if (request.token === "gone") {
          return;
        }
        said.push(request);
        if (first) {
          first = false;
          call.write({ opened: { peerId: "them", protocol: "/x/1" } });
        }
        then(call, request);
      });
    },
  };
}

const echo = (call: DuplexCall, { data, closeWrite }: Said) => {
  call.write({ data, end: closeWrite });
  if (closeWrite) {
    call.end();
  }
};

test("bytes there and back, and each direction ends by itself", async (t) => {
  const { said, handler } = opening(echo);
  const { node } = await joined(t, { openStream: handler });
  const stream = await node.openStream("them", ["/x/2", "/x/1"]);
  assert.deepEqual([stream.peerId, stream.protocol], ["them", "/x/1"]);
  const reading = buffer(stream);
  stream.write("hello ");
  stream.write(Buffer.alloc(600_000, 1));
  stream.end("world");
  const all = await reading;
  assert.equal(all.length, 600_011);
  assert.ok(all.toString().startsWith("hello ") && all.toString().endsWith("world"));
  await finished(stream);
  assert.equal(stream.failure, undefined);
  assert.deepEqual([said[0]?.peerId, said[0]?.protocols], ["them", ["/x/2", "/x/1"]]);
  assert.ok(said.every(({ data }) => data.length <= 262_144));
  assert.equal(said.at(-1)?.closeWrite, true);
});

test("reading goes on behind our end, and writing behind theirs", async (t) => {
  const got = new Signal();
  const { said, handler } = opening((call, { data, closeWrite }) => {
    if (data.length === 0 && !closeWrite) {
      call.write({ data: Buffer.from("bye"), end: true }); // theirs ends at once
    } else if (closeWrite) {
      got.set();
      call.end();
    }
  });
  const { node } = await joined(t, { openStream: handler });
  const stream = await node.openStream("them", "/x/1");
  assert.equal((await buffer(stream)).toString(), "bye");
  assert.equal(stream.writable, true);
  stream.end("still here");
  await got.promise;
  await finished(stream);
  assert.deepEqual(
    said.map(({ data }) => data.toString()),
    ["", "still here", ""],
  );
});

test("a reset is told behind what had arrived", async (t) => {
  const { calls, handler } = opening();
  const { node } = await joined(t, { openStream: handler });
  const stream = await node.openStream("them", "/x/1");
  stream.on("error", () => undefined);
  calls[0]?.write({ data: Buffer.from("last words") });
  await turns(20); // they are here
  calls[0]?.emit("error", failure(status.ABORTED, "the peer reset it", { reason: "STREAM_RESET" }));
  const read: string[] = [];
  const error = await caught(
    (async () => {
      for await (const piece of stream) {
        read.push(piece.toString());
      }
    })(),
  );
  assert.ok(error instanceof StreamReset, String(error));
  assert.deepEqual(read, ["last words"]);
  assert.equal(stream.failure, error);
  const told = new Signal<unknown>();
  assert.equal(stream.write("more", told.set), false);
  assert.equal(await told.promise, error);
});

/** Bytes, and at once behind them that the peer has reset the stream. */
async function reset(call: DuplexCall, pieces: Buffer[]): Promise<void> {
  for (const data of pieces) {
    call.write({ data });
  }
  const { metadata } = failure(status.ABORTED, "the peer reset it", { reason: "STREAM_RESET" });
  call.write({ status: metadata?.get("grpc-status-details-bin")[0] });
  await cancelled(call); // all that has been read
}

test("what had arrived before a reset is read, though it all came at once and the app writes meanwhile", async (t) => {
  const { said, calls, handler } = opening();
  const { node } = await joined(t, { openStream: handler });
  const stream = await node.openStream("them", "/x/1");
  assert.equal(said[0]?.statusInResponse, true);
  const pieces = Array.from({ length: 100 }, (_, index) => Buffer.alloc(500, index));
  stream.once("readable", () => undefined); // the app reads, and then is busy
  await reset(calls[0]!, pieces);
  await new Promise((resolve) => stream.write("into the void", resolve));
  const read: Buffer[] = [];
  const error = await caught(
    (async () => {
      for await (const piece of stream) {
        read.push(piece);
        await turns(1);
      }
    })(),
  );
  assert.ok(error instanceof StreamReset, String(error));
  assert.deepEqual(Buffer.concat(read), Buffer.concat(pieces));
});

test("an app that only writes is told of a reset, and one that reads no more", async (t) => {
  const { calls, handler } = opening();
  const { node } = await joined(t, { openStream: handler });
  for (const reads of [false, true]) {
    const stream = await node.openStream("them", "/x/1");
    const told = once(stream, "error");
    if (reads) {
      stream.once("readable", () => undefined);
    }
    await reset(calls.at(-1)!, [Buffer.alloc(1000)]);
    const failed = await caught(
      (async () => {
        for (let size = 0; size < 1 << 20; size += 1000) {
          await new Promise<void>((resolve, reject) => {
            stream.write(Buffer.alloc(1000), (error) => {
              if (error) {
                reject(error);
              } else {
                resolve();
              }
            });
          });
        }
      })(),
    );
    assert.ok(failed instanceof StreamReset, String(failed));
    assert.deepEqual(await told, [failed]);
  }
});

test("destroying resets the stream there, and so do a signal and closing the client", async (t) => {
  const { calls, handler } = opening();
  const { node } = await joined(t, { openStream: handler });
  const controller = new AbortController();
  const [destroyed, aborted, closed] = [
    await node.openStream("them", "/x/1"),
    await node.openStream("them", "/x/1", { signal: controller.signal }),
    await node.openStream("them", "/x/1"),
  ];
  for (const stream of [destroyed, aborted, closed]) {
    stream.on("error", () => undefined);
    stream.resume();
  }
  destroyed.destroy();
  controller.abort();
  await Promise.all(calls.slice(0, 2).map(cancelled));
  await node.close();
  await cancelled(calls[2]!);
  assert.ok(destroyed.failure instanceof Closed);
  assert.equal(aborted.failure?.name, "AbortError");
  assert.ok(closed.failure instanceof Closed);
});

test("closing the client lets a stream that has ended leave the sidecar", async (t) => {
  const ended = new Signal<DuplexCall>();
  const { handler } = opening((call, { closeWrite }) => {
    if (closeWrite) {
      call.write({ end: true });
      ended.set(call);
    }
  });
  const { node } = await joined(t, { openStream: handler });
  const stream = await node.openStream("them", "/x/1");
  stream.resume();
  stream.end("x");
  const call = await ended.promise;
  await once(stream, "end");
  const closing = node.close();
  await turns(20);
  assert.equal(call.cancelled, false);
  call.end();
  await closing;
  assert.equal(stream.failure, undefined);
});

test("a peer that does not read stops the writer", async (t) => {
  const begun = new Signal<DuplexCall>();
  const { node } = await joined(t, {
    openStream: (call: DuplexCall) => {
      call.once("data", () => {
        call.write({ opened: { peerId: "them", protocol: "/x/1" } });
        call.pause();
        begun.set(call);
      });
    },
  });
  const stream = await node.openStream("them", "/x/1");
  stream.on("error", () => undefined);
  const call = await begun.promise;
  let written = 0;
  const write = () => {
    stream.write(Buffer.alloc(32_768), (error) => {
      if (!error) {
        written += 1;
        write();
      }
    });
  };
  write();
  let before = -1;
  while (before !== written) {
    before = written;
    await turns(100); // nothing was taken for so many turns
  }
  assert.ok(written < 60, `${written} of 32,768 bytes`);
  call.resume();
  while (written < before + 20) {
    await turns(1);
  }
});

test("opening fails with what the sidecar says, and within its time", async (t) => {
  const { node } = await joined(t, {
    openStream: (call: DuplexCall) =>
      new Promise((_, reject) => {
        call.on("data", ({ peerId }: Said) => {
          if (peerId === "refuses") {
            reject(failure(status.UNIMPLEMENTED, "none of them", { reason: "NOT_SUPPORTED" }));
          }
        });
      }),
  });
  assert.ok((await caught(node.openStream("refuses", "/x/1"))) instanceof NotSupported);
  assert.ok((await caught(node.openStream("silent", "/x/1", { timeout: 30 }))) instanceof DeadlineExceeded);
});

test("streams of peers are taken up by their tokens", async (t) => {
  const { said, handler } = opening(echo);
  const { node } = await joined(t, {
    acceptStreams: (call: StreamCall) => {
      inForce(call);
      const incoming = { peerId: "them", protocol: "/x/1" };
      call.write({
        streams: [
          { ...incoming, token: "one" },
          { ...incoming, token: "gone" },
        ],
      });
    },
    attachStream: (call: DuplexCall) =>
      new Promise((_, reject) => {
        call.once("data", (first: Said) => {
          if (first.token === "gone") {
            reject(failure(status.NOT_FOUND, "no such stream", { reason: "NOT_FOUND" }));
          }
        });
        handler(call);
      }),
  });
  const streams = node.acceptStreams("/x/1");
  const [one, gone] = await take(streams[Symbol.asyncIterator](), 2);
  assert.ok(one !== undefined && gone !== undefined);
  assert.deepEqual([one.peerId, one.protocol], ["them", "/x/1"]);
  const stream = await one.accept();
  assert.equal(said[0]?.token, "one");
  stream.end("x");
  assert.equal((await buffer(stream)).toString(), "x");
  assert.ok((await caught(gone.accept())) instanceof NotFound);
  streams.close();
});
