/**
 * Byte streams that share a call.
 *
 * The first stream opens it, where the sidecar has it and calls are kept, and it stays open for as long as there are
 * streams or acceptors, and a second more. Each stream has a number and windows of its own on it. What streams write
 * while a request is being written goes in the next one. The call is always read on: how much may wait here is the
 * streams' windows.
 */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Active, Call } from "./call.js";
import { incomingFrames, numberField, type OutgoingFrame, outgoingFrame } from "./carriedframes.js";
import type { IncomingFrame } from "./carriedframes.js";
import { decoded } from "./convert.js";
import { Closed, fromEncoded, NotSupported } from "./errors.js";
import { OpenedStream, StreamServiceDefinition } from "./generated/sidecar/v1/stream.js";
import { KEPT, type Link, method } from "./link.js";
import { encodeField, type StreamResponse } from "./wire.js";

const CARRY = method(StreamServiceDefinition, StreamServiceDefinition.methods.carryStreams);
/** In the initial metadata: what AcceptStreams names the call by, where streams of peers are announced on it. */
const KEY = "sidecar-carrier";
const WINDOW = 262_144; // bytes of one direction of a stream that may be under way at first, as the schema says
const WIDE = 1_048_576; // the same of a stream by which much comes: the sidecar waits less, and is told less often
const MAX_WIDE = 64; // streams at once that may have so much waiting here
const PIECE = 65_536; // bytes of one stream before others have their turn
// Tags of OutgoingFrame.
const [OPEN, TOKEN, DATA, CLOSE_WRITE, MORE, RESET] = [0x12, 0x1a, 0x22, 0x28, 0x30, 0x38];
const NOTHING: Buffer = Buffer.alloc(0);
const UNUSED = new Closed("no stream uses the call");

/** How the bytes of one stream go: by a call of its own, or by one that streams share. */
export interface Way extends Active {
  /** Leave it be when the client is closed: both directions have ended. */
  draining: boolean;
  /** Whether nothing can be written any more. */
  readonly over: boolean;
  /** Bytes that have come and have not been read. */
  readonly unread: number;
  /** What comes next; undefined when it has ended in order. One reader at a time. */
  read(): Promise<StreamResponse | undefined>;
  /** Send bytes; true when there is room for more, false once it is over. One writer at a time. */
  write(data: Buffer): Promise<boolean>;
  /** End our direction. */
  closeWrite(): Promise<boolean>;
  /** What it has ended with. */
  failure(): Error;
  onEnd(callback: () => void): void;
}

/** What the first frame of a stream says, beside its number. */
export const opening = {
  /** Open it; `request`: the encoded fields of an OpenStreamRequest, which are those of a StreamOpening. */
  open: (request: Buffer): Buffer => encodeField(OPEN, request),
  /** Take up what AcceptStreams has told of. */
  token: (token: string): Buffer => encodeField(TOKEN, Buffer.from(token)),
  /** Take up what has been announced. */
  announced: NOTHING,
};

/** One stream of the call. */
export class Carried implements Way {
  draining = false;
  /** Whether the call was there before it. */
  old = false;
  /** Whether the call has ended before it. */
  lost = false;
  unread = 0;
  readonly #carrier: Carrier;
  readonly #number: number;
  readonly #arrived: StreamResponse[] = [];
  #window = WINDOW; // bytes that the sidecar may have on the way to here
  #taken = 0; // bytes that were read, and the sidecar was not told so
  #room = WINDOW; // bytes that may be written
  #over = false;
  #error: Error | undefined;
  #reader: (() => void) | undefined;
  #writer: (() => void) | undefined;
  #onEnd: (() => void)[] = [];

  constructor(carrier: Carrier, number: number) {
    this.#carrier = carrier;
    this.#number = number;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Say the first thing of it. */
  begin(first: Buffer): void {
    this.#put(first);
  }

  async read(): Promise<StreamResponse | undefined> {
    for (let piece = this.#arrived.shift(); ; piece = this.#arrived.shift()) {
      if (piece !== undefined) {
        this.#took(piece);
        return piece;
      }
      if (this.#error !== undefined) {
        throw this.#error;
      }
      if (this.#over) {
        return undefined;
      }
      await new Promise<void>((resolve) => {
        this.#reader = resolve;
      });
    }
  }

  #took({ data, end }: StreamResponse): void {
    this.unread -= data.length;
    this.#taken += data.length;
    if (this.#taken >= this.#window / 2 && !this.#over && !end) {
      let more = this.#taken;
      this.#taken = 0;
      if (this.#window < WIDE && this.#carrier.widen(this.#number)) {
        more += WIDE - this.#window;
        this.#window = WIDE;
      }
      this.#put(numberField(MORE, more));
    }
  }

  async write(data: Buffer): Promise<boolean> {
    const most = Math.min(PIECE, this.#carrier.frames.size);
    for (let start = 0; start < data.length && !this.#over;) {
      if (this.#room === 0) {
        await new Promise<void>((resolve) => {
          this.#writer = resolve;
        });
        continue;
      }
      const piece = data.subarray(start, start + Math.min(most, this.#room));
      this.#room -= piece.length;
      start += piece.length;
      // The bytes are the app's: they are not touched any more once this returns.
      await new Promise<void>((resolve) => {
        this.#put(numberField(DATA, piece.length), piece, resolve);
      });
    }
    return !this.#over;
  }

  closeWrite(): Promise<boolean> {
    if (!this.#over) {
      this.#put(numberField(CLOSE_WRITE, 1));
    }
    return Promise.resolve(!this.#over);
  }

  failure(): Error {
    return this.#error ?? new Closed("the stream has ended");
  }

  cancel(reason: Error): void {
    this.#arrived.length = 0;
    this.unread = 0;
    if (!this.#over) {
      this.#put(numberField(RESET, 1));
      this.#carrier.forget(this.#number);
      this.end(reason);
    }
  }

  onEnd(callback: () => void): void {
    if (this.#over) {
      callback();
    } else {
      this.#onEnd.push(callback);
    }
  }

  /** What the sidecar says of it; whether it is over. */
  came(frame: IncomingFrame, failure: Error | undefined): boolean {
    if (frame.data.length > 0 || frame.end || frame.opened !== undefined) {
      const { opened, data, end } = frame;
      this.#arrived.push({ opened, data, end, status: undefined });
      this.unread += data.length;
      this.#reader?.();
    }
    this.#room += frame.window;
    if (this.#room > 0) {
      this.#writer?.();
    }
    if (failure !== undefined || frame.done) {
      this.end(failure);
    }
    return this.#over;
  }

  /** It is over, in order where there is no error. */
  end(error: Error | undefined): void {
    this.#over = true;
    this.#error = error;
    this.#reader?.();
    this.#writer?.();
    for (const callback of this.#onEnd.splice(0)) {
      callback();
    }
  }

  #put(field: Buffer, data?: Buffer, taken?: () => void): void {
    this.#carrier.put(outgoingFrame(this.#number, field, data, taken));
  }
}

/** Who is told of streams that peers open. */
export interface Announced {
  announce(carried: Carried, opened: OpenedStream): void;
}

/** The shared call of a client. */
export class Carrier {
  static readonly #known = new WeakMap<Link, Carrier>();
  readonly #link: Link;
  readonly #streams = new Map<number, Carried>();
  readonly #wide = new Set<number>(); // the numbers of those with a wide window
  readonly #acceptors = new Map<number, WeakRef<Announced>>();
  #next = 1; // the number of the next stream
  #last = 0; // that of the last acceptor
  #queue: OutgoingFrame[] = [];
  #writing = false;
  #call: Call | undefined; // while it is in force
  #key = "";
  #opening: Promise<boolean> | undefined;
  #unused: NodeJS.Timeout | undefined;

  private constructor(link: Link) {
    this.#link = link;
  }

  /** That of a client. */
  static of(link: Link): Carrier {
    let carrier = Carrier.#known.get(link);
    if (carrier === undefined) {
      carrier = new Carrier(link);
      Carrier.#known.set(link, carrier);
    }
    return carrier;
  }

  /** What a request may hold. */
  get frames(): Link["frames"] {
    return this.#link.frames;
  }

  /** Another stream of the call; undefined where there is none to share. Throws what opening the call failed with. */
  async stream(channel: ChannelInterface): Promise<Carried | undefined> {
    const old = this.#call !== undefined;
    if (!(await this.#find(channel))) {
      return undefined;
    }
    const carried = this.#add(this.#next);
    carried.old = old;
    this.#next += 1;
    return carried;
  }

  /** Whether streams of peers are announced on the call: how AcceptStreams names it. Undefined where they are not. */
  async key(channel: ChannelInterface): Promise<string | undefined> {
    const found = await this.#find(channel).catch(() => false); // the other call is told the same
    return found && this.#key !== "" ? this.#key : undefined;
  }

  /** Tell somebody of streams; their number. */
  accept(announced: Announced): number {
    this.#last += 1;
    this.#acceptors.set(this.#last, new WeakRef(announced));
    this.#used();
    return this.#last;
  }

  /** An acceptor has ended; the sidecar resets what has not been taken up. */
  acceptNoMore(number: number): void {
    this.#acceptors.delete(number);
    this.#used();
  }

  /** Write a frame, after those before it. */
  put(frame: OutgoingFrame): void {
    const call = this.#call;
    if (call === undefined) {
      frame.taken?.(); // its stream is over, or about to be
      return;
    }
    this.#queue.push(frame);
    if (!this.#writing) {
      this.#writing = true;
      // In the next step: what is said in this one goes together.
      queueMicrotask(() => {
        void this.#write(call);
      });
    }
  }

  /** Whether one more stream may have a wide window, until it is forgotten. */
  widen(number: number): boolean {
    if (this.#wide.size >= MAX_WIDE || !this.#streams.has(number)) {
      return false;
    }
    this.#wide.add(number);
    return true;
  }

  /** Nobody wants to hear of a stream any more. */
  forget(number: number): void {
    const carried = this.#streams.get(number);
    if (carried !== undefined) {
      this.#streams.delete(number);
      this.#wide.delete(number);
      this.#link.calls.delete(carried);
      this.#used();
    }
  }

  #add(number: number): Carried {
    const carried = new Carried(this, number);
    this.#streams.set(number, carried);
    this.#link.calls.add(carried);
    this.#used();
    return carried;
  }

  /** Whether there is a call to share. */
  #find(channel: ChannelInterface): Promise<boolean> {
    if (!this.#link.keeps || this.#link.lacking.has(CARRY.path)) {
      return Promise.resolve(false);
    }
    if (this.#call !== undefined) {
      return Promise.resolve(true);
    }
    return (this.#opening ??= this.#open(channel).finally(() => {
      this.#opening = undefined;
    }));
  }

  async #open(channel: ChannelInterface): Promise<boolean> {
    const call = this.#link.stream(channel, CARRY.path);
    try {
      if (!(await call.inForce())) {
        await call.read(); // throws what it was refused with
        throw new Closed("the sidecar ended the call of the byte streams at once", { code: "UNAVAILABLE" });
      }
    } catch (error) {
      call.cancel(UNUSED);
      if (error instanceof NotSupported) {
        this.#link.lacking.add(CARRY.path);
        return false;
      }
      throw error;
    }
    this.#call = call;
    this.#key = call.said(KEY);
    this.#queue = [];
    this.#writing = false;
    call.draining = true; // it ends with its last stream
    this.#link.closing.signal.addEventListener("abort", this.#used);
    this.#used();
    void this.#read(call);
    return true;
  }

  /** Somebody has come or gone: the call ends when nobody has used it for a while, or at once with the client. */
  readonly #used = (): void => {
    clearTimeout(this.#unused);
    const call = this.#call;
    if (call === undefined || this.#streams.size > 0) {
      return;
    }
    if (this.#link.closed) {
      call.cancel(this.#link.closing.signal.reason as Error);
    } else if (this.#acceptors.size === 0) {
      this.#unused = setTimeout(() => {
        this.#call = undefined;
        call.cancel(UNUSED);
      }, KEPT);
    }
  };

  async #write(call: Call): Promise<void> {
    while (this.#queue.length > 0 && this.#call === call && !call.over) {
      await call.write(this.#request());
    }
    if (this.#call === call) {
      this.#writing = false;
    }
  }

  /** What goes together. */
  #request(): Buffer {
    const { size: most, messages } = this.#link.frames;
    const parts: Buffer[] = [];
    let size = 0;
    let count = 0;
    for (const frame of this.#queue) {
      if (count > 0 && (size + frame.size > most || count >= messages)) {
        break;
      }
      parts.push(...frame.parts);
      size += frame.size;
      count += 1;
    }
    const request = Buffer.concat(parts, size);
    for (const { taken } of this.#queue.splice(0, count)) {
      taken?.();
    }
    return request;
  }

  /** Hand out frames until the call ends, and tell its streams why it did. */
  async #read(call: Call): Promise<void> {
    let failure: Error = new Closed("the sidecar ended the call of the byte streams", { code: "UNAVAILABLE" });
    try {
      for (let response = await call.read(); response !== undefined; response = await call.read()) {
        for (const frame of incomingFrames(response)) {
          this.#came(frame);
        }
      }
    } catch (error) {
      failure = error as Error;
    }
    call.cancel(failure);
    if (this.#call === call || this.#call === undefined) {
      this.#end(failure);
    }
  }

  #came(frame: IncomingFrame): void {
    const { stream, opened, status, acceptor } = frame;
    let carried = this.#streams.get(stream);
    const taker = carried === undefined ? this.#acceptors.get(acceptor)?.deref() : undefined;
    if (taker !== undefined) {
      carried = this.#add(stream);
    }
    if (carried === undefined) {
      return; // it was given up meanwhile
    }
    const failure = status === undefined ? undefined : fromEncoded(status, this.#link.target.text);
    if (carried.came(frame, failure)) {
      this.forget(stream);
    }
    if (taker !== undefined && opened !== undefined) {
      taker.announce(carried, decoded(OpenedStream, opened));
    }
  }

  #end(failure: Error): void {
    this.#call = undefined;
    this.#key = "";
    this.#link.closing.signal.removeEventListener("abort", this.#used);
    clearTimeout(this.#unused);
    const left = [...this.#streams.values()];
    this.#streams.clear();
    this.#wide.clear();
    for (const { taken } of this.#queue.splice(0)) {
      taken?.();
    }
    for (const carried of left) {
      this.#link.calls.delete(carried);
      carried.lost = true;
      carried.end(failure);
    }
  }
}
