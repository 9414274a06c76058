/** Streams that only the sidecar feeds: opened, read, and opened again where the sidecar was gone meanwhile. */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { AlreadyExists, Closed, ResourceExhausted, Unauthenticated } from "./errors.js";
import { isLost, type Link, type Method } from "./link.js";
import { Reading } from "./reading.js";
import type { StreamOptions } from "./types.js";
import { now, onAbort, PATIENCE, Pauses, sleep } from "./waiting.js";

/** A stream that is quiet for so long, in milliseconds, is well: the next loss begins with short pauses again. */
const WELL = 5000;

/** What ends a stream from here, in order. */
class Over extends Closed {}

/** The present call of a stream. */
interface Held {
  call: Call | undefined;
}

/** Ends the calls of streams that the app has lost without closing them. */
const LOST = new FinalizationRegistry<Held>(({ call }) => {
  call?.cancel(new Over("the stream has been forgotten"));
});

/**
 * One stream over as many calls as it takes. Iterate over it, or `await stream.open()` first, which resolves once the
 * stream is in force.
 *
 * Reading may be given up at any moment, by leaving the loop too, and taken up again with the same iterator or a new
 * one: nothing is lost and nothing comes twice. `close()` ends the stream, and so do the signal that it was made with
 * and `close()` of the client.
 */
export abstract class Stream {
  protected readonly link: Link;
  protected readonly title: string;
  /** Whether the first response comes at once; then it is waited for when the stream is opened. */
  protected readonly greets: boolean = false;
  readonly #held: Held = { call: undefined };
  readonly #pauses = new Pauses();
  readonly #gone = new AbortController();
  readonly #stop: () => void;
  #first: Buffer | undefined;
  #starting: Promise<void> | undefined;
  #wasInForce = false;
  #refused: number | undefined; // since when one that has been in force is refused
  #reconnected = false; // and that has not been told
  #since = 0;
  #failure: { error: unknown } | undefined;

  /** @internal */
  constructor(link: Link, title: string, { signal }: StreamOptions) {
    this.link = link;
    this.title = title;
    LOST.register(this, this.#held);
    this.#stop = onAbort(signal, (reason) => {
      this.fail(reason);
    });
  }

  protected get call(): Call | undefined {
    return this.#held.call;
  }

  /** Do what there is to be done before a call is begun. */
  protected prepare(_channel: ChannelInterface): Promise<void> | undefined {
    return undefined;
  }

  /** Begin a call, from where the last one ended. */
  protected abstract begin(channel: ChannelInterface): Call;

  /**
   * Wait until the stream is in force.
   *
   * @throws The error that it was refused with.
   */
  async open(): Promise<this> {
    await this.start();
    return this;
  }

  /** End the stream. Who reads it comes to its end. */
  close(): void {
    this.fail(new Over("the stream has been closed"));
  }

  /** Whether it was closed from here, in order. */
  protected get over(): boolean {
    return this.#failure?.error instanceof Over;
  }

  /** Closes the stream. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** End the stream for good. */
  protected fail(error: unknown): void {
    if (this.#failure === undefined) {
      this.#failure = { error };
      this.#stop?.();
      this.#gone.abort(error);
    }
    this.drop(error);
  }

  /** Be rid of the present call. */
  protected drop(reason: unknown): void {
    const { call } = this;
    this.#held.call = undefined;
    this.#first = undefined;
    call?.cancel(reason as Error);
  }

  /** Wait until the stream is in force. Throws what ends it. */
  protected start(): Promise<void> {
    if (this.#failure !== undefined) {
      return Promise.reject(this.#failure.error);
    }
    if (this.call !== undefined && this.#starting === undefined) {
      return Promise.resolve();
    }
    return (this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    }));
  }

  async #start(): Promise<void> {
    while (this.call === undefined) {
      let call: Call | undefined;
      try {
        const channel = await this.link.ready(this.link.reconnect ? Infinity : 0, Infinity, this.#gone.signal);
        await this.prepare(channel);
        this.#gone.signal.throwIfAborted();
        call = this.#held.call = this.begin(channel);
        if (!(await call.inForce())) {
          await call.read(); // throws what it was refused with
          throw new Closed(`the sidecar ended ${this.title} at once`);
        }
        if (this.greets) {
          this.#first = await this.#read(call);
          this.greeted(this.#first);
        }
        this.#reconnected ||= this.#wasInForce;
        this.#wasInForce = true;
        this.#refused = undefined;
        this.#since = now();
      } catch (error) {
        await this.#lost(error, call, true);
      }
    }
  }

  /** The first response of a call has come. */
  protected greeted(_response: Buffer): void {
    // nothing to note
  }

  /**
   * The next response, over as many calls as it takes; undefined once after the stream was lost and is in force again.
   * Throws what ends the stream.
   */
  protected async next(): Promise<Buffer | undefined> {
    for (;;) {
      await this.start();
      const { call } = this;
      if (call === undefined) {
        continue;
      }
      if (this.#reconnected) {
        this.#reconnected = false;
        return undefined;
      }
      const first = this.#first;
      if (first !== undefined) {
        this.#first = undefined;
        return first;
      }
      try {
        const response = await this.#read(call);
        this.#pauses.reset();
        return response;
      } catch (error) {
        await this.#lost(error, call);
      }
    }
  }

  async #read(call: Call): Promise<Buffer> {
    const response = await call.read();
    if (response === undefined) {
      throw this.ended();
    }
    return response;
  }

  /** What to make of the sidecar's ending the call in order. */
  protected ended(): Error {
    return new Closed(`the sidecar ended ${this.title}`, { code: "UNAVAILABLE" });
  }

  /** Whether a call that ended so is to be made again. */
  protected worthAnother(error: unknown): boolean {
    const lost = isLost(error) || error instanceof Closed;
    return lost && this.link.reconnect && !this.link.closed;
  }

  /**
   * Whether a stream that has been in force is refused for what may be over in a moment: tokens that are being replaced
   * and, when it comes back, a sidecar that has not noticed yet that the call before is gone.
   */
  #passing(error: unknown, opening: boolean): boolean {
    const back = opening && (error instanceof AlreadyExists || error instanceof ResourceExhausted);
    if (!this.#wasInForce || !(back || error instanceof Unauthenticated) || !this.link.reconnect || this.link.closed) {
      return false;
    }
    this.#refused ??= now();
    return now() - this.#refused < PATIENCE;
  }

  /** The call is over: wait before the next one, or throw when there is none to be. */
  async #lost(error: unknown, call: Call | undefined, opening = false): Promise<void> {
    if (this.#failure !== undefined) {
      throw this.#failure.error;
    }
    if (call === undefined || this.call === call) {
      this.drop(error);
    }
    if (!this.#passing(error, opening) && !this.worthAnother(error)) {
      this.fail(error);
      throw error;
    }
    if (now() - this.#since > WELL) {
      this.#pauses.reset();
    }
    try {
      await sleep(this.#pauses.next(), this.#gone.signal, this.link.closing.signal);
    } catch (reason) {
      this.fail(reason);
      throw reason;
    }
  }
}

/** A stream whose responses become items. */
export abstract class Watch<Item> extends Stream implements AsyncIterable<Item> {
  readonly #rest: Item[] = []; // at hand
  readonly #reading = new Reading(() => this.#fill());

  /** The items of a response. */
  protected abstract items(response: Buffer): Item[];

  /** An item has come beside the responses. */
  protected add(item: Item): void {
    this.#rest.push(item);
    this.#reading.offer();
  }

  /** What to tell once the stream is in force again. */
  protected resumed(): Item[] {
    return [];
  }

  /** The items, as they come. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item, undefined> {
    return this.#reading.iterator(() => this.#rest.shift());
  }

  async #fill(): Promise<boolean> {
    try {
      const response = await this.next();
      this.#rest.push(...(response === undefined ? this.resumed() : this.items(response)));
      return true;
    } catch (error) {
      if (this.over) {
        return false;
      }
      throw error;
    }
  }
}

/** A watch without more to it than how it is called and read. */
export class SimpleWatch<Response, Item> extends Watch<Item> {
  readonly #method: Method<object, Response>;
  readonly #read: (response: Response) => Item[];
  readonly #resumed: Item[];

  /** @internal */
  constructor(
    link: Link,
    title: string,
    method: Method<object, Response>,
    read: (response: Response) => Item[],
    resumed: Item[],
    options: StreamOptions,
  ) {
    super(link, title, options);
    this.#method = method;
    this.#read = read;
    this.#resumed = resumed;
  }

  protected override begin(channel: ChannelInterface): Call {
    return request(this.link, channel, this.#method.path, this.#method.encode({}));
  }

  protected override items(response: Buffer): Item[] {
    return this.#read(this.#method.decode(response));
  }

  protected override resumed(): Item[] {
    return this.#resumed;
  }
}

/** Begin a call with one request. */
export function request(link: Link, channel: ChannelInterface, path: string, message: Buffer, until?: number): Call {
  const call = link.stream(channel, path, until);
  void call.write(message); // its end says what became of it
  call.halfClose();
  return call;
}
