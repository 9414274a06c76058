/** Subscriptions to topics, and streams of direct messages. */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { checkCount, checkNumber } from "./checks.js";
import { bytes, moment, names, policy, signing } from "./convert.js";
import { InvalidArgument } from "./errors.js";
import { DirectServiceDefinition, ReceiveRequest } from "./generated/sidecar/v1/direct.js";
import { PubSubServiceDefinition, SubscribeRequest } from "./generated/sidecar/v1/pubsub.js";
import { type Link, method } from "./link.js";
import { Reading } from "./reading.js";
import { request, Stream } from "./stream.js";
import {
  type DirectMessage,
  Lagged,
  type Message,
  type OverflowPolicy,
  type Signing,
  type StreamOptions,
} from "./types.js";
import { directMessages, Parts, topicMessages } from "./wire.js";

/**
 * Messages that came together.
 *
 * `payloads()` costs the least; `messages` makes an object for each message, once.
 */
export class Batch<Item> {
  /** What was missed just before these messages. */
  readonly lagged: Lagged | undefined;
  /** How many messages these are. */
  readonly length: number;
  readonly #parts: Parts;
  readonly #data: number;
  readonly #read: (parts: Parts) => Item[];
  #messages: Item[] | undefined;

  /** @internal */
  constructor(parts: Parts, data: number, read: (parts: Parts) => Item[], lagged = parts.lagged) {
    this.#parts = parts;
    this.#data = data;
    this.#read = read;
    this.lagged = lagged;
    this.length = parts.ranges.length / 2;
  }

  /** @internal A field of the last message; empty where there is none. */
  last(field: number): Buffer {
    return this.#parts.lastField(field);
  }

  /** @internal Those from one on. */
  from(index: number): Batch<Item> {
    return new Batch(this.#parts.from(index), this.#data, this.#read);
  }

  /** The data of each message, in order. */
  payloads(): Buffer[] {
    return this.#parts.fields(this.#data);
  }

  /** The messages, in order. */
  get messages(): readonly Item[] {
    return (this.#messages ??= this.#read(this.#parts));
  }
}

/** What subscriptions and receivers have in common: messages in batches, and gaps between them. */
export abstract class MessageStream<Item extends object> extends Stream implements AsyncIterable<Item> {
  #missed = 0;
  // What is at hand: a batch that nobody has begun, and the rest of the one that is iterated over.
  #whole: Batch<Item> | undefined;
  #begun: Batch<Item> | undefined;
  #rest: readonly Item[] = [];
  #at = 0;
  /** The last message that the app has been given, or the batch that it is in. */
  protected given: Item | Batch<Item> | undefined;
  readonly #reading = new Reading(() => this.#fill());

  /** Messages missed so far, as far as their number is known. */
  get missed(): number {
    return this.#missed;
  }

  /** The next batch that has messages or tells of a gap. */
  protected abstract nextBatch(): Promise<Batch<Item>>;

  /** The app is told now what was missed before a batch. */
  protected told(_batch: Batch<Item>): void {
    // nothing to note
  }

  /** The messages. What was missed is counted in `missed` and told by `process.emitWarning`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Item, undefined> {
    return this.#reading.iterator(this.#message);
  }

  /** Messages, and `Lagged` where some were missed. */
  events(): AsyncIterableIterator<Item | Lagged, undefined> {
    return this.#reading.iterator(this.#event);
  }

  /** Whole batches as they come, the fastest way; first the rest of one whose messages have been read in part. */
  batches(): AsyncIterableIterator<Batch<Item>, undefined> {
    return this.#reading.iterator(this.#batch);
  }

  async #fill(): Promise<boolean> {
    try {
      const batch = await this.nextBatch();
      this.#missed += batch.lagged?.missed ?? 0;
      this.#whole = batch;
      return true;
    } catch (error) {
      if (this.over) {
        return false;
      }
      throw error;
    }
  }

  readonly #batch = (): Batch<Item> | undefined => {
    const begun = this.#begun;
    if (begun !== undefined && this.#at < this.#rest.length) {
      const rest = begun.from(this.#at);
      this.#begin(undefined);
      this.given = rest;
      return rest;
    }
    const whole = this.#whole;
    this.#whole = undefined;
    if (whole?.lagged !== undefined) {
      this.told(whole);
    }
    if (whole !== undefined && whole.length > 0) {
      this.given = whole;
    }
    return whole;
  };

  #begin(batch: Batch<Item> | undefined): void {
    this.#whole = undefined;
    this.#begun = batch;
    this.#rest = batch?.messages ?? [];
    this.#at = 0;
  }

  readonly #event = (): Item | Lagged | undefined => {
    const item = this.#rest[this.#at];
    if (item !== undefined) {
      this.#at += 1;
      this.given = item;
      return item;
    }
    const whole = this.#whole;
    if (whole === undefined) {
      return undefined;
    }
    this.#begin(whole);
    if (whole.lagged !== undefined) {
      this.told(whole);
      return whole.lagged;
    }
    return this.#event();
  };

  readonly #message = (): Item | undefined => {
    const event = this.#event();
    if (!(event instanceof Lagged)) {
      return event;
    }
    process.emitWarning(`${this.title}: ${event.toString()}`, { type: "SidecarWarning", code: "SIDECAR_LAGGED" });
    return this.#message();
  };
}

/** How to subscribe. */
export interface SubscribeOptions extends StreamOptions {
  /** Continue behind this message; by default, and without another start, with what arrives from now. */
  cursor?: Uint8Array;
  /** Begin with what was received at this time, in ms since 1970, or later, as far as it is kept. */
  startTime?: number;
  /** Begin with the oldest message that the sidecar keeps. */
  fromBeginning?: boolean;
  /** The signing of all these topics. */
  signing?: Signing;
  /** What to drop when the queue in the sidecar is full. */
  policy?: OverflowPolicy;
  /** How many messages wait there for a slow reader; default: the configured bound. */
  queueMessages?: number;
  /** How many bytes wait there for a slow reader; default: the configured bound. */
  queueBytes?: number;
  /** Leave out what this node's own apps publish. */
  skipLocal?: boolean;
  /** Messages a second that are expected on each topic, of all publishers together: the sidecar scores peers by it. */
  expectedRate?: number;
}

const SUBSCRIBE = method(PubSubServiceDefinition, PubSubServiceDefinition.methods.subscribe);
const RECEIVE = method(DirectServiceDefinition, DirectServiceDefinition.methods.receive);

function cursorOf(given: Uint8Array = Buffer.alloc(0)): Buffer {
  if (typeof given === "string") {
    throw new InvalidArgument("the cursor is a string: keep its bytes, which are no text", { field: "cursor" });
  }
  return Buffer.from(bytes(given, "cursor"));
}

/** Messages of topics, in order. It outlives the sidecar's restarts and continues where it was. */
export class Subscription extends MessageStream<Message> {
  protected override readonly greets = true;
  readonly #request: SubscribeRequest; // with the cursor behind what has arrived
  #stands: Buffer; // where the stream stands while no message behind that has been given
  #behindGap: Buffer = Buffer.alloc(0); // where it stands once the app has been told what was missed

  /** @internal */
  constructor(link: Link, topics: string | Iterable<string>, options: SubscribeOptions) {
    checkCount(options.queueBytes ?? 0, "queue_bytes");
    checkNumber(options.expectedRate ?? 0, "expected_rate");
    const request = SubscribeRequest.fromPartial({
      topics: names(topics, "topics"),
      cursor: cursorOf(options.cursor),
      policy: policy(options.policy),
      queueMessages: options.queueMessages ?? 0,
      queueBytes: options.queueBytes ?? 0,
      signing: signing(options.signing),
      skipLocal: options.skipLocal ?? false,
      expectedRate: options.expectedRate ?? 0,
      startTime: options.startTime === undefined ? undefined : moment(options.startTime, "start_time"),
      fromBeginning: options.fromBeginning ?? false,
    });
    SUBSCRIBE.encode(request); // throws what is wrong with it
    super(link, `subscription to ${request.topics.join(", ")}`, options);
    this.#request = request;
    this.#stands = request.cursor;
  }

  /**
   * Behind the last message that was given, with `batches()` behind the last batch; `subscribe(topics, {cursor})`
   * continues there. So an app that keeps it once it has dealt with what it was given misses nothing, whatever has
   * arrived. Before the first message it is where the subscription began; empty before that.
   */
  get cursor(): Buffer {
    const { given } = this;
    const cursor = given instanceof Batch ? given.last(5) : given?.cursor;
    return cursor !== undefined && cursor.length > 0 ? Buffer.from(cursor) : this.#stands;
  }

  #stand(cursor: Buffer): void {
    if (cursor.length > 0) {
      this.#stands = Buffer.from(cursor); // not to hold the batch
      this.given = undefined;
    }
  }

  protected override told(): void {
    this.#stand(this.#behindGap);
  }

  protected override begin(channel: ChannelInterface): Call {
    return request(this.link, channel, SUBSCRIBE.path, SUBSCRIBE.encode(this.#request));
  }

  protected override greeted(response: Buffer): void {
    if (this.#request.cursor.length === 0) {
      const { cursor } = new Parts(response);
      this.#continue(cursor); // a connection lost from now on continues here
      this.#stand(cursor);
    }
  }

  /** Another call begins behind this cursor, and no longer where the first one did. */
  #continue(cursor: Buffer): void {
    if (cursor.length > 0) {
      this.#request.cursor = Buffer.from(cursor); // not to hold the batch
      this.#request.startTime = undefined;
      this.#request.fromBeginning = false;
    }
  }

  protected override async nextBatch(): Promise<Batch<Message>> {
    for (;;) {
      const response = await this.next();
      if (response === undefined) {
        continue; // in force again, from the cursor: the sidecar says what is missing
      }
      const parts = new Parts(response);
      this.#continue(parts.ranges.length > 0 ? parts.lastField(5) : parts.cursor);
      this.#behindGap = Buffer.from(parts.cursor);
      if (parts.lagged === undefined) {
        this.#stand(parts.cursor);
      } // else once the app has been told
      if (parts.ranges.length > 0 || parts.lagged !== undefined) {
        return new Batch(parts, 2, topicMessages);
      }
    }
  }
}

/** How to receive. */
export interface ReceiveOptions extends StreamOptions {
  /** How many messages wait in the sidecar for a slow reader; default: the configured bound. */
  queueMessages?: number;
}

/**
 * Direct messages of some protocols, in order of arrival. It outlives the sidecar's restarts; what was sent meanwhile
 * is lost (its senders were told), which a `Lagged` with the reason `RECONNECTED` says.
 */
export class Receiver extends MessageStream<DirectMessage> {
  readonly #request: ReceiveRequest;

  /** @internal */
  constructor(link: Link, protocols: string | Iterable<string>, options: ReceiveOptions) {
    const request = {
      protocols: names(protocols, "protocols"),
      queueMessages: options.queueMessages ?? 0,
      durable: undefined,
    };
    RECEIVE.encode(request); // throws what is wrong with it
    super(link, `receiving ${request.protocols.join(", ")}`, options);
    this.#request = request;
  }

  protected override begin(channel: ChannelInterface): Call {
    return request(this.link, channel, RECEIVE.path, RECEIVE.encode(this.#request));
  }

  protected override async nextBatch(): Promise<Batch<DirectMessage>> {
    const response = await this.next();
    if (response === undefined) {
      return new Batch(new Parts(Buffer.alloc(0)), 3, directMessages, new Lagged(undefined, "RECONNECTED"));
    }
    return new Batch(new Parts(response), 3, directMessages);
  }
}
