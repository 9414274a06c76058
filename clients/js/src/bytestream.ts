/** Byte streams: any libp2p protocol, spoken by the app. */

import { Duplex } from "node:stream";

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { decoded, names } from "./convert.js";
import { Closed, DeadlineExceeded, fromEncoded, InternalError } from "./errors.js";
import {
  AttachStreamRequest,
  type IncomingStream,
  OpenedStream,
  OpenStreamRequest,
  StreamServiceDefinition,
} from "./generated/sidecar/v1/stream.js";
import { type Link, method } from "./link.js";
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
  readonly #link: Link;
  readonly #call: Call;
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
  constructor(link: Link, call: Call, { peerId, protocol }: OpenedStream, first: StreamResponse) {
    // Of what has been read one piece waits here: an error is told when that has been taken.
    super({ allowHalfOpen: true, readableHighWaterMark: 1, writableHighWaterMark: 65_536 });
    this.#link = link;
    this.#call = call;
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
        this.#take(streamResponse(message));
      }
      if (!this.#ended) {
        throw new Closed("the sidecar ended the stream");
      }
    } catch (error) {
      this.#lost = error as Error;
      this.#call.cancel(this.#lost); // who writes is told from now on
      this.#give();
    }
  }

  async #next(): Promise<Buffer | undefined> {
    while (this.#size >= AHEAD && !this.#call.over) {
      await new Promise<void>((resolve) => {
        this.#onRoom = resolve;
      });
    }
    return await this.#call.read();
  }

  #take({ data, end, status }: StreamResponse): void {
    if (status !== undefined) {
      throw fromEncoded(status, this.#link.target.text);
    }
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
    this.#put(CLOSE_WRITE).then(callback, callback); // the requests need no end beside that
  }

  async #send(chunks: Buffer[]): Promise<undefined> {
    const data = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    const { size } = this.#link.frames;
    for (let start = 0; start < data.length; start += size) {
      await this.#put(encodeField(DATA, data.subarray(start, start + size)));
    }
    return undefined;
  }

  async #put(message: Buffer): Promise<undefined> {
    if (!(await this.#call.write(message)) && !this.#readsOn(message.length)) {
      throw this.#call.failure();
    }
    return undefined;
  }

  /**
   * Whether the app is to learn from reading that the stream is lost, since it would not get the rest after an error.
   * What it writes meanwhile goes nowhere, as what was on its way before; some, for it may not be reading any more.
   */
  #readsOn(size: number): boolean {
    this.#void += size;
    const unread = this.readableLength + this.#size > 0;
    return this.#lost !== undefined && this.#reads && unread && this.#void <= AHEAD;
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (error === null && this.readableEnded && this.writableFinished && !this.#call.over) {
      // Both directions have ended in order. The call ends once all has left the sidecar: cancelled now it would not.
      const timer = setTimeout(() => {
        this.#call.cancel(new Closed("the peer took too long to take the rest"));
      }, LINGER);
      this.#call.draining = true;
      this.#call.onEnd(() => {
        clearTimeout(timer);
        callback(null);
      });
      return;
    }
    this.#call.cancel(new Closed("the stream was given up here"));
    this.#onRoom();
    callback(error);
  }
}

/** A stream that a peer has opened, to be taken up with `accept()`. */
export class IncomingByteStream {
  /** The peer, as the connection proves it. */
  readonly peerId: string;
  /** The protocol that it asked for. */
  readonly protocol: string;
  readonly #link: Link;
  readonly #token: string;

  /** @internal */
  constructor(link: Link, { peerId, protocol, token }: IncomingStream) {
    this.#link = link;
    this.peerId = peerId;
    this.protocol = protocol;
    this.#token = token;
  }

  /**
   * Take the stream up.
   *
   * @throws NotFound when it waited too long, or was reset meanwhile.
   */
  async accept(options: CallOptions = {}): Promise<ByteStream> {
    const first = ATTACH.encode(AttachStreamRequest.fromPartial({ token: this.#token, statusInResponse: true }));
    return await opened(this.#link, ATTACH.path, first, options);
  }
}

/** Open a stream to a peer. */
export async function openStream(
  link: Link,
  peerId: string,
  protocols: string | Iterable<string>,
  options: CallOptions,
): Promise<ByteStream> {
  const first = OPEN.encode(
    OpenStreamRequest.fromPartial({ peerId, protocols: names(protocols, "protocols"), statusInResponse: true }),
  );
  return await opened(link, OPEN.path, first, options);
}

async function opened(link: Link, path: string, first: Buffer, options: CallOptions): Promise<ByteStream> {
  const { signal } = options;
  const until = deadline(options); // for the opening only: the call goes on
  const channel = await link.ready(link.reconnect ? PATIENCE : 0, until, signal);
  const call = link.stream(channel, path);
  const stop = onAbort(signal, (reason) => {
    call.cancel(reason);
  });
  const timer = at(until, () => {
    call.cancel(new DeadlineExceeded("the stream was not open in time"));
  });
  let stream: ByteStream | undefined;
  try {
    void call.write(first); // its end says what became of it
    const message = await call.read();
    if (message === undefined) {
      throw new Closed("the sidecar ended the stream at once");
    }
    const response = streamResponse(message);
    if (response.opened === undefined) {
      throw new InternalError("the sidecar's first answer does not say that the stream is open");
    }
    stream = new ByteStream(link, call, decoded(OpenedStream, response.opened), response);
    return stream;
  } catch (error) {
    call.cancel(error as Error);
    throw error;
  } finally {
    clearTimeout(timer);
    call.onEnd(stop); // at once where it was not opened
  }
}

/**
 * Streams that peers open for some protocols, in the order in which each peer opened its own. It outlives the sidecar's
 * restarts; streams that have been taken up go on with calls of their own.
 */
export class StreamAcceptor extends Watch<IncomingByteStream> {
  readonly #protocols: string[];

  /** @internal */
  constructor(link: Link, protocols: string | Iterable<string>, options: StreamOptions) {
    const given = names(protocols, "protocols");
    super(link, `accepting ${given.join(", ")}`, options);
    this.#protocols = given;
  }

  protected override begin(channel: ChannelInterface): Call {
    return request(this.link, channel, ACCEPT.path, ACCEPT.encode({ protocols: this.#protocols }));
  }

  protected override items(response: Buffer): IncomingByteStream[] {
    return ACCEPT.decode(response).streams.map((stream) => new IncomingByteStream(this.link, stream));
  }
}
