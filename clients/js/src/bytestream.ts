/** Byte streams: any libp2p protocol, spoken by the app. */

import { Duplex } from "node:stream";

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { type Announced, type Carried, Carrier, opening, type Way } from "./carrier.js";
import { decoded, names } from "./convert.js";
import { Closed, DeadlineExceeded, fromEncoded, InternalError, NotFound } from "./errors.js";
import {
  AttachStreamRequest,
  type IncomingStream,
  OpenedStream,
  OpenStreamRequest,
  StreamServiceDefinition,
} from "./generated/sidecar/v1/stream.js";
import { isLost, type Link, method } from "./link.js";
import { Reading } from "./reading.js";
import { request, Watch } from "./stream.js";
import type { CallOptions, Payload, StreamOptions } from "./types.js";
import { at, deadline, onAbort, PATIENCE } from "./waiting.js";
import { encodeField, type StreamResponse, streamResponse } from "./wire.js";

const OPEN = method(StreamServiceDefinition, StreamServiceDefinition.methods.openStream);
const ATTACH = method(StreamServiceDefinition, StreamServiceDefinition.methods.attachStream);
const ACCEPT = method(StreamServiceDefinition, StreamServiceDefinition.methods.acceptStreams);
const DATA = 0x1a; // the tag of `data`, field 3, of OpenStreamRequest and AttachStreamRequest
const CLOSE_WRITE = Buffer.from([0x20, 0x01]); // field 4
const LINGER = 5000; // milliseconds
const AHEAD = 65_536; // bytes read ahead of the app, so that one that only writes is told of a reset too

/**
 * Bytes to and from an app at a peer, in order.
 *
 * `end()` ends our direction; reading goes on until the peer ends its own. `destroy()` resets the stream, and so does
 * closing the client. Back-pressure goes from end to end: `write` is `false`, and its callback waits,
 * as long as the peer's app does not read.
 *
 * Its errors: `StreamReset` when the peer reset the stream, `Closed` when the connection was lost, `SidecarUnavailable`
 * when the sidecar is gone. What had arrived before can still be read.
 */
export class ByteStream extends Duplex {
  /** The peer, as the connection proves it. */
  readonly peerId: string;
  /** The protocol that both sides speak. */
  readonly protocol: string;
  readonly #way: Way;
  readonly #arrived: Buffer[] = [];
  #size = 0; // of what has arrived
  #ended = false; // the peer said that nothing follows
  #lost: Error | undefined; // what the stream has ended with, behind what has arrived
  #wanted = false; // the app waits for more
  #reads = false; // the app has ever read
  #void = 0; // bytes written since
  #iterated = false;
  readonly #reading = new Reading(() => this.#more());
  #onRoom: () => void = () => undefined;

  /** @internal */
  constructor(way: Way, { peerId, protocol }: OpenedStream, first: StreamResponse) {
    // Of what has been read one piece waits here: an error is told when that has been taken.
    super({ allowHalfOpen: true, readableHighWaterMark: 1, writableHighWaterMark: 65_536 });
    this.#way = way;
    this.peerId = peerId;
    this.protocol = protocol;
    void this.#receive(first);
  }

  /** Why the stream is over; undefined while it is not, or when it ended in order. */
  get failure(): Error | undefined {
    if (!this.destroyed || (this.readableEnded && this.writableFinished)) {
      return undefined;
    }
    return this.errored ?? new Closed("the stream was given up here");
  }

  /** Send bytes. Once the stream is over the callback gets the reason. */
  override write(chunk: Payload, callback?: (error: Error | null | undefined) => void): boolean;
  /** Send a text in an encoding. Once the stream is over the callback gets the reason. */
  override write(
    chunk: Payload,
    encoding: BufferEncoding,
    callback?: (error: Error | null | undefined) => void,
  ): boolean;
  override write(chunk: Payload, ...rest: unknown[]): boolean {
    const { failure } = this;
    if (failure !== undefined) {
      const callback = rest.at(-1);
      if (typeof callback === "function") {
        process.nextTick(callback, failure);
      }
      return false;
    }
    return (super.write as (...given: unknown[]) => boolean).call(this, chunk, ...rest);
  }

  /**
   * The bytes until the peer's end, which does not end our direction. Who leaves the loop may go on reading later;
   * `destroy()` resets the stream. What the stream fails with is thrown here.
   */
  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer> {
    if (!this.#iterated) {
      this.#iterated = true;
      this.on("error", () => undefined); // the reader is told, also one who is in the middle of something
    }
    return this.#reading.iterator(() => (this.read() as Buffer | null) ?? undefined) as NodeJS.AsyncIterator<Buffer>;
  }

  /** Wait until more can be read; false at the end. */
  async #more(): Promise<boolean> {
    if (!this.readableEnded && !this.destroyed && this.readableLength === 0) {
      await new Promise<void>((resolve) => {
        const names = ["readable", "end", "error", "close"] as const;
        const done = () => {
          for (const name of names) {
            this.off(name, done);
          }
          resolve();
        };
        for (const name of names) {
          this.on(name, done);
        }
      });
    }
    if (this.readableEnded) {
      return false;
    }
    if (this.destroyed) {
      throw this.failure ?? new Closed("the stream was given up here");
    }
    return true;
  }

  /** Read until the call ends, some bytes ahead of the app. */
  async #receive(first: StreamResponse): Promise<void> {
    try {
      this.#take(first);
      for (let message = await this.#next(); message !== undefined; message = await this.#next()) {
        this.#take(message);
      }
      if (!this.#ended) {
        throw new Closed("the sidecar ended the stream");
      }
    } catch (error) {
      this.#lost = error as Error;
      this.#way.cancel(this.#lost); // who writes is told from now on
      this.#give();
    }
  }

  async #next(): Promise<StreamResponse | undefined> {
    while (this.#size >= AHEAD && !this.#way.over) {
      await new Promise<void>((resolve) => {
        this.#onRoom = resolve;
      });
    }
    return await this.#way.read();
  }

  #take({ data, end }: StreamResponse): void {
    if (data.length > 0) {
      this.#arrived.push(data);
      this.#size += data.length;
    }
    this.#ended ||= end;
    this.#give();
  }

  /** Hand over what the app has asked for, if it is there. */
  #give(): void {
    if (!this.#wanted) {
      return;
    }
    const piece = this.#arrived.shift();
    if (piece !== undefined) {
      this.#size -= piece.length;
      this.#onRoom();
    } else if (!this.#ended) {
      const lost = this.#lost;
      if (lost !== undefined) {
        // Not in the step in which the last piece is taken, since it would not be handed over then.
        setImmediate(() => {
          this.destroy(lost);
        });
      }
      return;
    }
    this.#wanted = false;
    this.push(piece ?? null);
  }

  /** @internal */
  override _read(): void {
    this.#wanted = this.#reads = true;
    this.#give();
  }

  /** @internal */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#send([chunk]).then(callback, callback);
  }

  /** @internal */
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.#send(chunks.map(({ chunk }) => chunk)).then(callback, callback);
  }

  /** @internal */
  override _final(callback: (error?: Error | null) => void): void {
    this.#put(this.#way.closeWrite(), 0).then(callback, callback);
  }

  async #send(chunks: Buffer[]): Promise<undefined> {
    const data = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    await this.#put(this.#way.write(data), data.length);
    return undefined;
  }

  async #put(writing: Promise<boolean>, size: number): Promise<undefined> {
    if (!(await writing) && !this.#readsOn(size)) {
      throw this.#way.failure();
    }
    return undefined;
  }

  /**
   * Whether the app is to learn from reading that the stream is lost, since it would not get the rest after an error.
   * What it writes meanwhile goes nowhere, as what was on its way before; some, for it may not be reading any more.
   */
  #readsOn(size: number): boolean {
    this.#void += size;
    const coming = this.#way.unread;
    const unread = this.readableLength + this.#size + coming > 0;
    return (this.#lost !== undefined || coming > 0) && this.#reads && unread && this.#void <= AHEAD;
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (error === null && this.readableEnded && this.writableFinished && !this.#way.over) {
      // Both directions have ended in order. The call ends once all has left the sidecar: cancelled now it would not.
      const timer = setTimeout(() => {
        this.#way.cancel(new Closed("the peer took too long to take the rest"));
      }, LINGER);
      this.#way.draining = true;
      this.#way.onEnd(() => {
        clearTimeout(timer);
        callback(null);
      });
      return;
    }
    this.#way.cancel(new Closed("the stream was given up here"));
    this.#onRoom();
    callback(error);
  }
}

/** A stream with a call of its own, where there is none to share. */
class OwnWay implements Way {
  readonly unread = 0;
  readonly #link: Link;
  readonly #call: Call;

  constructor(link: Link, call: Call) {
    this.#link = link;
    this.#call = call;
  }

  get draining(): boolean {
    return this.#call.draining;
  }

  set draining(draining: boolean) {
    this.#call.draining = draining;
  }

  get over(): boolean {
    return this.#call.over;
  }

  /** Say the first thing of it. */
  begin(first: Buffer): void {
    void this.#call.write(first); // its end says what became of it
  }

  async read(): Promise<StreamResponse | undefined> {
    const message = await this.#call.read();
    if (message === undefined) {
      return undefined;
    }
    const response = streamResponse(message);
    if (response.status !== undefined) {
      throw fromEncoded(response.status, this.#link.target.text);
    }
    return response;
  }

  async write(data: Buffer): Promise<boolean> {
    const { size } = this.#link.frames;
    for (let start = 0; start < data.length; start += size) {
      if (!(await this.#call.write(encodeField(DATA, data.subarray(start, start + size))))) {
        return false;
      }
    }
    return true;
  }

  async closeWrite(): Promise<boolean> {
    return await this.#call.write(CLOSE_WRITE); // the requests need no end beside that
  }

  failure(): Error {
    return this.#call.failure();
  }

  cancel(reason: Error): void {
    this.#call.cancel(reason);
  }

  onEnd(callback: () => void): void {
    this.#call.onEnd(callback);
  }
}

/** A stream that has been announced on the shared call. */
interface Announcement extends OpenedStream {
  readonly carried: Carried;
}

/** A stream that a peer has opened, to be taken up with `accept()`. */
export class IncomingByteStream {
  /** The peer, as the connection proves it. */
  readonly peerId: string;
  /** The protocol that it asked for. */
  readonly protocol: string;
  readonly #link: Link;
  #waiting: string | Carried | undefined; // its token, or the stream that has been announced, until it is taken up

  /** @internal */
  constructor(link: Link, incoming: IncomingStream | Announcement) {
    this.#link = link;
    this.peerId = incoming.peerId;
    this.protocol = incoming.protocol;
    this.#waiting = "carried" in incoming ? incoming.carried : incoming.token;
  }

  /**
   * Take the stream up.
   *
   * @throws NotFound when it waited too long, or was reset meanwhile.
   */
  async accept(options: CallOptions = {}): Promise<ByteStream> {
    const waiting = this.#waiting;
    if (typeof waiting === "string") {
      const first = ATTACH.encode(AttachStreamRequest.fromPartial({ token: waiting, statusInResponse: true }));
      return await opened(this.#link, { path: ATTACH.path, first, shared: opening.token(waiting) }, options);
    }
    this.#link.checkOpen();
    options.signal?.throwIfAborted();
    this.#waiting = undefined;
    if (waiting === undefined || waiting.lost) {
      throw new NotFound(`no such stream waits${waiting === undefined ? ": it was taken up already" : ""}`);
    }
    if (waiting.over && waiting.unread === 0 && waiting.failure() instanceof NotFound) {
      throw waiting.failure();
    }
    waiting.begin(opening.announced);
    waiting.onEnd(
      onAbort(options.signal, (reason) => {
        waiting.cancel(reason);
      }),
    );
    return new ByteStream(waiting, this, NOTHING);
  }
}

const NOTHING: StreamResponse = { opened: undefined, data: Buffer.alloc(0), end: false, status: undefined };

/** What begins a stream: by a call of its own, or on a shared one. */
interface Beginning {
  readonly path: string;
  readonly first: Buffer;
  readonly shared: Buffer;
}

/** Open a stream to a peer. */
export async function openStream(
  link: Link,
  peerId: string,
  protocols: string | Iterable<string>,
  options: CallOptions,
): Promise<ByteStream> {
  const request = { peerId, protocols: names(protocols, "protocols") };
  const first = OPEN.encode(OpenStreamRequest.fromPartial({ ...request, statusInResponse: true }));
  const shared = opening.open(OPEN.encode(OpenStreamRequest.fromPartial(request)));
  return await opened(link, { path: OPEN.path, first, shared }, options);
}

async function opened(link: Link, beginning: Beginning, options: CallOptions): Promise<ByteStream> {
  const until = deadline(options); // for the opening only: the stream goes on
  for (;;) {
    const channel = await link.ready(link.reconnect ? PATIENCE : 0, until, options.signal);
    const carried = await within(Carrier.of(link).stream(channel), until, options.signal);
    try {
      return await begun(link, carried ?? channel, beginning, until, options.signal);
    } catch (error) {
      // A shared call had ended, of which nobody knew: with it the stream is gone, if it was there.
      const again = carried !== undefined && carried.old && carried.lost && isLost(error) && link.reconnect;
      if (!again || link.closed) {
        throw error;
      }
    }
  }
}

const LATE = "the stream was not open in time";

async function begun(
  link: Link,
  on: Carried | ChannelInterface,
  { path, first, shared }: Beginning,
  until: number,
  signal: AbortSignal | undefined,
): Promise<ByteStream> {
  const isShared = "begin" in on;
  const way = isShared ? on : new OwnWay(link, link.stream(on, path));
  const stop = onAbort(signal, (reason) => {
    way.cancel(reason);
  });
  const timer = at(until, () => {
    way.cancel(new DeadlineExceeded(LATE));
  });
  try {
    way.begin(isShared ? shared : first);
    const response = await way.read();
    if (response === undefined) {
      throw new Closed("the sidecar ended the stream at once");
    }
    if (response.opened === undefined) {
      throw new InternalError("the sidecar's first answer does not say that the stream is open");
    }
    return new ByteStream(way, decoded(OpenedStream, response.opened), response);
  } catch (error) {
    way.cancel(error as Error);
    throw error;
  } finally {
    clearTimeout(timer);
    way.onEnd(stop); // at once where it was not opened
  }
}

/** What a promise gives, unless it takes too long; then a stream that it gives is given up. */
async function within(
  coming: Promise<Carried | undefined>,
  until: number,
  signal: AbortSignal | undefined,
): Promise<Carried | undefined> {
  if (until === Infinity && signal === undefined) {
    return await coming;
  }
  const stops: (() => void)[] = [];
  try {
    return await new Promise((resolve, reject) => {
      const leave = (reason: Error) => {
        reject(reason);
        coming.then((carried) => carried?.cancel(reason)).catch(() => undefined);
      };
      const timer = at(until, () => {
        leave(new DeadlineExceeded(LATE));
      });
      stops.push(onAbort(signal, leave), () => {
        clearTimeout(timer);
      });
      coming.then(resolve, reject);
    });
  } finally {
    for (const stop of stops) {
      stop();
    }
  }
}

/**
 * Streams that peers open for some protocols, in the order in which each peer opened its own. It outlives the sidecar's
 * restarts, and streams that have been taken up outlive it.
 */
export class StreamAcceptor extends Watch<IncomingByteStream> implements Announced {
  readonly #protocols: string[];
  #carrier: string | undefined; // the call on which streams are announced

  /** @internal */
  constructor(link: Link, protocols: string | Iterable<string>, options: StreamOptions) {
    const given = names(protocols, "protocols");
    super(link, `accepting ${given.join(", ")}`, options);
    this.#protocols = given;
  }

  protected override async prepare(channel: ChannelInterface): Promise<void> {
    this.#carrier = await Carrier.of(this.link).key(channel);
  }

  protected override begin(channel: ChannelInterface): Call {
    const carrier = Carrier.of(this.link);
    const protocols = this.#protocols;
    if (this.#carrier === undefined) {
      return request(this.link, channel, ACCEPT.path, ACCEPT.encode({ protocols }));
    }
    const number = carrier.accept(this);
    const named = { protocols, carrier: this.#carrier, acceptor: BigInt(number) };
    const call = request(this.link, channel, ACCEPT.path, ACCEPT.encode(named));
    call.onEnd(() => {
      carrier.acceptNoMore(number);
    });
    return call;
  }

  /** @internal */
  announce(carried: Carried, opened: OpenedStream): void {
    this.add(new IncomingByteStream(this.link, { ...opened, carried }));
  }

  protected override items(response: Buffer): IncomingByteStream[] {
    return ACCEPT.decode(response).streams.map((stream) => new IncomingByteStream(this.link, stream));
  }
}
