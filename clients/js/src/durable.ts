/** Durable messages: receiving and settling them, and what becomes of those that were sent. */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { checkCount, checkRequest, checkText } from "./checks.js";
import * as convert from "./convert.js";
import { InvalidArgument } from "./errors.js";
import type { DirectMessage as MessageOnWire, DurableReceive } from "./generated/sidecar/v1/direct.js";
import { DirectServiceDefinition, type ReceiveRequest } from "./generated/sidecar/v1/direct.js";
import { DurableServiceDefinition, type Settlement, type WatchOutboxRequest } from "./generated/sidecar/v1/durable.js";
import { type Link, method } from "./link.js";
import { request, Watch } from "./stream.js";
import type {
  DeadLettersOptions,
  InboxMessage,
  InboxOptions,
  MessageId,
  OutboxEvent,
  OutboxMessage,
  OutboxOptions,
  ReceiveDurableOptions,
  WatchOutboxOptions,
  WithdrawOptions,
} from "./types.js";

const DIRECT = DirectServiceDefinition;
const DURABLE = DurableServiceDefinition;
const RECEIVE = method(DIRECT, DIRECT.methods.receive);
const SETTLE = method(DURABLE, DURABLE.methods.settle);
const WATCH_OUTBOX = method(DURABLE, DURABLE.methods.watchOutbox);
const LIST_OUTBOX = method(DURABLE, DURABLE.methods.listOutbox);
const WITHDRAW_OUTBOX = method(DURABLE, DURABLE.methods.withdrawOutbox);
const LIST_INBOX = method(DURABLE, DURABLE.methods.listInbox);
const RETRY_DEAD_LETTERS = method(DURABLE, DURABLE.methods.retryDeadLetters);
const PURGE_DEAD_LETTERS = method(DURABLE, DURABLE.methods.purgeDeadLetters);

const PAGE = 1000;
const MOST_SETTLEMENTS = 4096; // in one call
const SETTLEMENT = 24; // bytes of one in a request, beside its reason; a little more than that
const MOST_REASON = 1024; // bytes, as DurableService has it
const MOST_DELAY = 86_400_000; // milliseconds, as DurableService has it

/**
 * A durable message, to be settled once: `acknowledge`, `reject` or `delay`. Else it comes again after a while. The
 * connection of the two sidecars proves who sent it.
 */
export class DurableMessage {
  /** Who sent it, base58. */
  readonly peerId: string;
  /** The protocol. */
  readonly protocol: string;
  /** The payload. */
  readonly data: Buffer;
  /** Its number in this sidecar's inbox. */
  readonly id: number;
  /** 1 at the first delivery; above that, one before may have been dealt with. */
  readonly attempt: number;
  /** The sender's name for it, the same at each attempt. */
  readonly messageId: MessageId;
  readonly #settling: Settling;

  /** @internal */
  constructor(settling: Settling, message: MessageOnWire) {
    this.#settling = settling;
    this.peerId = message.peerId;
    this.protocol = message.protocol;
    this.data = message.data;
    this.id = Number(message.delivery?.id ?? 0n);
    this.attempt = message.delivery?.attempt ?? 0;
    this.messageId = convert.messageId(message.delivery?.messageId);
  }

  /**
   * It is dealt with: once this resolves it never comes again. False where it has been delivered anew since, or is
   * settled already: then nothing happens. What is settled while a call is under way goes together with the next one.
   */
  async acknowledge(): Promise<boolean> {
    return await this.#settle(undefined);
  }

  /** It is refused for good; the sender is told so, and the reason, at most 1024 bytes. False as of `acknowledge`. */
  async reject(reason: string): Promise<boolean> {
    checkText(reason, "reject");
    const size = Buffer.byteLength(reason);
    if (size > MOST_REASON) {
      // The sidecar would refuse it with all that go together.
      throw new InvalidArgument(`reason of ${size} bytes, at most ${MOST_REASON}`, { field: "reject" });
    }
    return await this.#settle({ $case: "reject", value: reason });
  }

  /** Let it come again after so many milliseconds, a day at most, and what is behind it not before. False as above. */
  async delay(milliseconds: number): Promise<boolean> {
    const value = convert.duration(milliseconds, "delay");
    if (milliseconds > MOST_DELAY) {
      throw new InvalidArgument(`delay is ${milliseconds} ms, at most ${MOST_DELAY}`, { field: "delay" });
    }
    return await this.#settle({ $case: "delay", value });
  }

  #settle(instead: Settlement["instead"]): Promise<boolean> {
    return this.#settling.settle({ id: BigInt(this.id), attempt: this.attempt, instead });
  }
}

interface Waiting {
  readonly settlement: Settlement;
  readonly resolve: (fresh: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Settlements on their way: what is settled while a call is under way goes together with the next one. */
export class Settling {
  readonly #link: Link;
  #waiting: Waiting[] = [];
  #calling = false;

  constructor(link: Link) {
    this.#link = link;
  }

  /** Settle a delivery; false where it is stale. */
  settle(settlement: Settlement): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#link.checkOpen();
      this.#waiting.push({ settlement, resolve, reject });
      if (!this.#calling) {
        this.#calling = true;
        void this.#run();
      }
    });
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const some = this.#take();
      try {
        const settlements = some.map(({ settlement }) => settlement);
        // A repeat after a lost connection finds what was settled stale: it may have been this that did it.
        const { stale } = await this.#link.unary(SETTLE, { settlements }, {}, true);
        const late = new Set(stale);
        for (const { settlement, resolve } of some) {
          resolve(!late.has(settlement.id));
        }
      } catch (error) {
        for (const { reject } of some) {
          reject(error);
        }
      }
    }
    this.#calling = false;
  }

  /** What goes together next: at most one of each delivery, since answers are told by its number. */
  #take(): Waiting[] {
    const known = new Set<bigint>();
    let size = 0;
    let count = 0;
    for (const { settlement } of this.#waiting) {
      size += SETTLEMENT + (settlement.instead?.$case === "reject" ? Buffer.byteLength(settlement.instead.value) : 0);
      const full = count === MOST_SETTLEMENTS || (count > 0 && size > this.#link.frames.size);
      if (full || known.has(settlement.id)) {
        break;
      }
      known.add(settlement.id);
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }
}

/**
 * Durable messages of some protocols, those of one sender in the order in which they were sent. It outlives the
 * sidecar's restarts. What is not settled comes again, also after a lost connection and to the next receiver. One
 * receiver at a time has a protocol: another one is refused with `AlreadyExists`.
 */
export class DurableReceiver extends Watch<DurableMessage> {
  readonly #settling: Settling;
  readonly #request: Partial<ReceiveRequest>;

  /** @internal */
  constructor(link: Link, settling: Settling, protocols: string | Iterable<string>, options: ReceiveDurableOptions) {
    const { settleTimeout, maxDeliveries = 0, maxOpen = 0 } = options;
    const durable: DurableReceive = {
      settleTimeout: settleTimeout === undefined ? undefined : convert.duration(settleTimeout, "settle_timeout"),
      maxDeliveries,
      maxOpen,
    };
    checkRequest(durable);
    const wanted = { protocols: convert.names(protocols, "protocols"), durable };
    RECEIVE.encode(wanted); // throws what is wrong with it
    super(link, `receiving durable ${wanted.protocols.join(", ")}`, options);
    this.#settling = settling;
    this.#request = wanted;
  }

  protected override begin(channel: ChannelInterface): Call {
    return request(this.link, channel, RECEIVE.path, RECEIVE.encode(this.#request));
  }

  protected override items(response: Buffer): DurableMessage[] {
    return RECEIVE.decode(response).messages.map((message) => new DurableMessage(this.#settling, message));
  }
}

/**
 * What becomes of durable messages. It outlives the sidecar's restarts, and goes on where it was. An app that keeps the
 * `cursor` of the last event that it has dealt with misses none.
 */
export class OutboxWatch extends Watch<OutboxEvent> {
  protected override readonly greets = true;
  readonly #request: WatchOutboxRequest;

  /** @internal */
  constructor(link: Link, options: WatchOutboxOptions) {
    const { cursor, peerId = "", protocol = "" } = options;
    checkCount(cursor ?? 0, "cursor");
    const wanted = { cursor: cursor === undefined ? undefined : BigInt(cursor), peerId, protocol };
    WATCH_OUTBOX.encode(wanted); // throws what is wrong with it
    super(link, "watching the outbox", options);
    this.#request = wanted;
  }

  protected override begin(channel: ChannelInterface): Call {
    return request(this.link, channel, WATCH_OUTBOX.path, WATCH_OUTBOX.encode(this.#request));
  }

  /** Where it begins, noted before there is an event: the call may be lost until then. */
  protected override greeted(response: Buffer): void {
    const { cursor } = WATCH_OUTBOX.decode(response);
    if (cursor !== undefined) {
      this.#request.cursor = cursor;
    }
  }

  protected override items(response: Buffer): OutboxEvent[] {
    const events = WATCH_OUTBOX.decode(response).events.map(convert.outboxEvent);
    const last = events.at(-1);
    if (last !== undefined) {
      this.#request.cursor = BigInt(last.cursor);
    }
    return events;
  }
}

/** The methods of `Client` that are about this. */
export class Durability {
  readonly #link: Link;
  readonly #settling: Settling;

  constructor(link: Link) {
    this.#link = link;
    this.#settling = new Settling(link);
  }

  receive(protocols: string | Iterable<string>, options: ReceiveDurableOptions): DurableReceiver {
    return new DurableReceiver(this.#link, this.#settling, protocols, options);
  }

  watch(options: WatchOutboxOptions): OutboxWatch {
    return new OutboxWatch(this.#link, options);
  }

  async *outbox(options: OutboxOptions): AsyncGenerator<OutboxMessage, void, void> {
    const { peerId = "", protocol = "" } = options;
    let pageToken = "";
    do {
      const wanted = { peerId, protocol, pageSize: PAGE, pageToken };
      const response = await this.#link.unary(LIST_OUTBOX, wanted, options, true);
      yield* response.messages.map(convert.outboxMessage);
      pageToken = response.nextPageToken;
    } while (pageToken !== "");
  }

  async withdraw(peerId: string, options: WithdrawOptions): Promise<number> {
    const { protocol = "" } = options;
    return Number((await this.#link.unary(WITHDRAW_OUTBOX, { peerId, protocol }, options, true)).withdrawn);
  }

  async *inbox(options: InboxOptions): AsyncGenerator<InboxMessage, void, void> {
    const { deadLetters = false, withData = false, peerId = "", protocol = "" } = options;
    let pageToken = "";
    do {
      const wanted = { deadLetters, withData, peerId, protocol, pageSize: PAGE, pageToken };
      const response = await this.#link.unary(LIST_INBOX, wanted, options, true);
      yield* response.messages.map(convert.inboxMessage);
      pageToken = response.nextPageToken;
    } while (pageToken !== "");
  }

  async retry(ids: Iterable<number>, options: DeadLettersOptions): Promise<number> {
    return Number((await this.#link.unary(RETRY_DEAD_LETTERS, which(ids, options), options, true)).retried);
  }

  async purge(ids: Iterable<number>, options: DeadLettersOptions): Promise<number> {
    return Number((await this.#link.unary(PURGE_DEAD_LETTERS, which(ids, options), options, true)).purged);
  }
}

function which(ids: Iterable<number>, { protocol = "" }: DeadLettersOptions): { ids: bigint[]; protocol: string } {
  return {
    ids: [...ids].map((id) => {
      checkCount(id, "ids");
      return BigInt(id);
    }),
    protocol,
  };
}
