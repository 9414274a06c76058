/**
 * Single messages that share calls.
 *
 * For each key (a topic with its options, a peer with its protocol) at most one call is in flight. A lone message goes
 * by the unary method at once; what is given meanwhile goes together as one bulk call.
 */

import type { ChannelInterface } from "@grpc/grpc-js";

import { BATCH_BYTES, BATCH_MESSAGES } from "./bulk.js";
import type { Call } from "./call.js";
import { Closed, DeadlineExceeded } from "./errors.js";
import { deadline, isLost, isUnsent, type Link, PATIENCE, Pauses, sleep } from "./link.js";
import type { CallOptions } from "./types.js";
import { encodeBatch, type Outgoing } from "./wire.js";

/** Larger messages go alone, so that one that the sidecar does not take as a request harms no others. */
const ALONE_BYTES = 1_000_000;

/** How the messages of one key are sent. */
export interface Way<Receipt> {
  /** What the messages are in errors: published, sent. */
  done: string;
  /** Send one by the unary method; undefined when the waiting bulk call is to do it. */
  one(channel: ChannelInterface, message: Outgoing, until: number, signal: AbortSignal): Promise<Receipt | undefined>;
  /** The bulk method. */
  path: string;
  /** The encoded beginning of the first request. */
  head: Buffer;
  /** The tag of the requests' messages. */
  item: number;
  /** The receipts in a response: for each range its first number, and its messages' receipts or the error instead. */
  parse(response: Buffer): { first: number; receipts: (Receipt | Error)[] }[];
}

class Entry<Receipt> implements Outgoing {
  readonly data: Buffer;
  readonly requestId: Buffer;
  readonly until: number;
  /** Until when it is sent again after a loss. */
  patience = 0;
  /** Whether a call has it that the sidecar may have read. */
  written = false;
  /** Whether only the bulk call may send it, since that waits. */
  waits = false;
  /** Whether its caller has an answer. */
  settled = false;
  /** Told when its caller has gone. */
  onGone: (() => void) | undefined;
  readonly #resolve: (receipt: Receipt) => void;
  readonly #reject: (error: unknown) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(
    { data, requestId }: Outgoing,
    options: CallOptions,
    resolve: (receipt: Receipt) => void,
    reject: (error: unknown) => void,
  ) {
    this.data = data;
    this.requestId = requestId;
    this.until = deadline(options);
    this.#resolve = resolve;
    this.#reject = reject;
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onAbort);
    if (this.until !== Infinity) {
      const left = Math.min(this.until - Date.now(), 2 ** 31 - 1);
      this.#timer = setTimeout(() => {
        this.#leave(new DeadlineExceeded("not done in time", { code: "DEADLINE_EXCEEDED" }));
      }, left);
    }
  }

  readonly #onAbort = () => {
    this.#leave(this.#signal?.reason);
  };

  #leave(reason: unknown): void {
    this.fail(reason);
    this.onGone?.();
  }

  #settle(): boolean {
    if (this.settled) {
      return false;
    }
    this.settled = true;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    return true;
  }

  answer(receipt: Receipt | Error): void {
    if (receipt instanceof Error) {
      this.fail(receipt);
    } else if (this.#settle()) {
      this.#resolve(receipt);
    }
  }

  fail(error: unknown): void {
    if (this.#settle()) {
      this.#reject(error);
    }
  }
}

/** The messages of one key, in order. */
class Lane<Receipt> {
  readonly #link: Link;
  readonly #way: Way<Receipt>;
  #waiting: Entry<Receipt>[] = [];
  readonly #pauses = new Pauses();

  constructor(link: Link, way: Way<Receipt>) {
    this.#link = link;
    this.#way = way;
  }

  add(entry: Entry<Receipt>): void {
    this.#waiting.push(entry);
  }

  /** Send until nothing waits; `idle` is called in the same step, so that nothing is added to a lane that has ended. */
  async run(idle: () => void): Promise<void> {
    for (;;) {
      this.#waiting = this.#waiting.filter((entry) => !entry.settled);
      const [first, second] = this.#waiting;
      if (first === undefined) {
        idle();
        return;
      }
      const alone = second === undefined || first.data.length > ALONE_BYTES;
      if (alone && !first.waits) {
        this.#waiting.shift();
        await this.#single(first);
      } else {
        const large = this.#waiting.findIndex((entry, index) => index > 0 && entry.data.length > ALONE_BYTES);
        const count = first.data.length > ALONE_BYTES ? 1 : large < 0 ? this.#waiting.length : large;
        await this.#together(this.#waiting.splice(0, count));
      }
    }
  }

  async #single(entry: Entry<Receipt>): Promise<void> {
    const gone = new AbortController();
    entry.onGone = () => {
      gone.abort();
    };
    try {
      const channel = await this.#connected([entry], entry.until, gone.signal);
      if (channel === undefined) {
        return;
      }
      entry.written = true;
      const receipt = await this.#way.one(channel, entry, entry.until, gone.signal);
      if (receipt !== undefined) {
        entry.answer(receipt);
      } else {
        entry.waits = true;
        entry.written = false; // nobody has got it
        this.#waiting.unshift(entry);
      }
    } catch (error) {
      if (isUnsent(error)) {
        entry.written = false;
      }
      await this.#failed([entry], error);
    } finally {
      entry.onGone = undefined;
    }
  }

  async #together(entries: Entry<Receipt>[]): Promise<void> {
    let call: Call | undefined;
    const gone = new AbortController();
    const onGone = () => {
      if (entries.every((entry) => entry.settled)) {
        const reason = new Closed("nobody waits for it any more");
        gone.abort(reason);
        call?.cancel(reason);
      }
    };
    for (const entry of entries) {
      entry.onGone = onGone;
    }
    try {
      const until = Math.max(...entries.map((entry) => entry.until));
      const channel = await this.#connected(entries, until, gone.signal);
      if (channel === undefined) {
        return;
      }
      call = this.#link.stream(channel, this.#way.path);
      const sent: Entry<Receipt>[] = [];
      const writing = this.#write(call, entries, sent);
      for (let response = await call.read(); response !== undefined; response = await call.read()) {
        for (const { first, receipts } of this.#way.parse(response)) {
          receipts.forEach((receipt, index) => sent[first + index]?.answer(receipt));
        }
      }
      await writing;
      throw new Closed("the sidecar ended the call without all receipts", { code: "UNAVAILABLE" });
    } catch (error) {
      const left = entries.filter((entry) => !entry.settled);
      if (left.length > 0) {
        await this.#failed(left, error);
      }
    } finally {
      for (const entry of entries) {
        entry.onGone = undefined;
      }
      call?.cancel(new Closed("the call is over"));
    }
  }

  /** A connection; undefined when there is none to be had, which the callers have been told. */
  async #connected(
    entries: Entry<Receipt>[],
    until: number,
    signal: AbortSignal,
  ): Promise<ChannelInterface | undefined> {
    try {
      return await this.#link.ready(this.#link.reconnect ? PATIENCE : 0, until, signal);
    } catch (error) {
      for (const entry of entries) {
        entry.fail(error);
      }
      return undefined;
    }
  }

  /** Write frames; a message whose caller has gone meanwhile is left out. */
  async #write(call: Call, entries: Entry<Receipt>[], sent: Entry<Receipt>[]): Promise<void> {
    let head = this.#way.head;
    let next = 0;
    while (next < entries.length) {
      const frame: Entry<Receipt>[] = [];
      let size = 0;
      while (next < entries.length && frame.length < BATCH_MESSAGES) {
        const entry = entries[next]!;
        if (!entry.settled) {
          if (frame.length > 0 && size + entry.data.length > BATCH_BYTES) {
            break;
          }
          entry.written = true;
          size += entry.data.length;
          frame.push(entry);
        }
        next += 1;
      }
      sent.push(...frame);
      if (frame.length > 0 && !(await call.write(encodeBatch(head, this.#way.item, frame)))) {
        return;
      }
      head = Buffer.alloc(0);
    }
    call.halfClose();
  }

  /** A call has ended with an error: some messages are sent again, the callers of the others are told. */
  async #failed(entries: Entry<Receipt>[], error: unknown): Promise<void> {
    if (!isLost(error) || this.#link.closed || !this.#link.reconnect) {
      for (const entry of entries) {
        entry.fail(error);
      }
      return;
    }
    const again: Entry<Receipt>[] = [];
    const now = Date.now();
    for (const entry of entries) {
      entry.patience ||= now + PATIENCE;
      if (entry.written && entry.requestId.length === 0) {
        const what = `the connection was lost; it may have been ${this.#way.done}`;
        entry.fail(new Closed(`${what}: ${error.message}`, { reason: error.reason, code: error.code, cause: error }));
      } else if (now >= entry.patience) {
        entry.fail(error);
      } else if (!entry.settled) {
        again.push(entry);
      }
    }
    this.#waiting.unshift(...again);
    if (again.length > 0) {
      await sleep(this.#pauses.next(), this.#link.closing.signal).catch(() => {
        for (const entry of this.#waiting.splice(0)) {
          entry.fail(this.#link.closing.signal.reason);
        }
      });
    } else {
      this.#pauses.reset();
    }
  }
}

/** All keys of one kind. */
export class Batcher<Receipt> {
  readonly #link: Link;
  readonly #lanes = new Map<string, Lane<Receipt>>();

  constructor(link: Link) {
    this.#link = link;
  }

  /** Send a message; its receipt. `way` is asked where the key is new. */
  send(key: string, way: () => Way<Receipt>, message: Outgoing, options: CallOptions): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      this.#link.checkOpen();
      options.signal?.throwIfAborted();
      const entry = new Entry<Receipt>(message, options, resolve, reject);
      const lane = this.#lanes.get(key);
      if (lane !== undefined) {
        lane.add(entry);
        return;
      }
      const fresh = new Lane<Receipt>(this.#link, way());
      this.#lanes.set(key, fresh);
      fresh.add(entry);
      void fresh.run(() => this.#lanes.delete(key));
    });
  }
}
