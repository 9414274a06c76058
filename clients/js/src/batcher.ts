/**
 * Single messages that share calls.
 *
 * For each key (a topic with its options, a peer with its protocol) at most one call is in flight. The first message
 * goes by the unary method at once; what is given meanwhile, or within a second, goes together by a bulk call. For the
 * few keys that were last used that stays open until nothing was sent for a second; for others, and where calls are not
 * to be kept, it ends when there is nothing more to send, and a lone message goes by the unary method.
 */

import type { ChannelInterface } from "@grpc/grpc-js";

import { requestId } from "./bulk.js";
import type { Call } from "./call.js";
import { bytes } from "./convert.js";
import { Closed, NotSupported } from "./errors.js";
import { tooLarge } from "./frames.js";
import { isLost, isUnsent, KEPT, type Link } from "./link.js";
import { costOf, type Guest, piledUp, Room } from "./room.js";
import type { CallOptions, Payload } from "./types.js";
import { at, deadline, now, onAbort, PATIENCE, Pauses, sleep } from "./waiting.js";
import { encodeBatch, type Outgoing } from "./wire.js";

const OVER = new Closed("nobody waits for it any more");
/** A call takes no more than these, so that what is known of them does not grow for as long as it goes on. */
const CALL_MESSAGES = 65_536;
const NOTHING = Buffer.alloc(0);
/** Keys whose calls stay open; a guess: each is one of the sidecar's calls (api.max_calls). */
const MOST_KEPT = 8;

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

class Entry<Receipt> implements Outgoing, Guest {
  data: Buffer;
  readonly requestId: Buffer;
  readonly until: number;
  readonly cost: number;
  inside = false;
  admitted: (() => void) | undefined;
  /** Until when it is sent again after a loss. */
  patience = 0;
  /** Whether a call has it that the sidecar may have read. */
  written = false;
  /** Whether only the bulk call may send it, since that waits. */
  waits = false;
  /** Whether the sidecar is older than the bulk call. */
  alone = false;
  /** Whether its caller has an answer. */
  settled = false;
  /** Told when its caller has an answer, and whether that is because it has gone. */
  onSettled: ((gone: boolean) => void) | undefined;
  readonly #link: Link;
  readonly #room: Room;
  readonly #resolve: (receipt: Receipt) => void;
  readonly #reject: (error: unknown) => void;
  readonly #stop: (() => void) | undefined;

  constructor(
    link: Link,
    room: Room,
    data: Payload,
    options: CallOptions & { requestId?: string },
    resolve: (receipt: Receipt) => void,
    reject: (error: unknown) => void,
  ) {
    this.#link = link;
    this.#room = room;
    this.data = bytes(data);
    this.cost = costOf(this.data);
    this.requestId = requestId(options.requestId);
    this.until = deadline(options);
    this.#resolve = resolve;
    this.#reject = reject;
    if (this.until !== Infinity || options.signal !== undefined) {
      this.#stop = this.#watch(options.signal);
    }
  }

  #watch(signal: AbortSignal | undefined): () => void {
    const leave = (reason: unknown) => {
      this.fail(reason, true);
    };
    const timer = at(this.until, () => {
      leave(this.#link.late("not done in time"));
    });
    const stop = onAbort(signal, leave);
    return () => {
      clearTimeout(timer);
      stop();
    };
  }

  /** Whether it goes alone. */
  get large(): boolean {
    return this.data.length > this.#link.frames.alone;
  }

  answer(receipt: Receipt | Error): void {
    if (receipt instanceof Error) {
      this.fail(receipt);
    } else if (!this.settled) {
      this.#settle(false);
      this.#resolve(receipt);
    }
  }

  fail(error: unknown, gone = false): void {
    if (!this.settled) {
      this.#settle(gone);
      this.#reject(error);
    }
  }

  #settle(gone: boolean): void {
    this.settled = true;
    this.data = NOTHING; // what lies about is not held
    this.#stop?.();
    this.onSettled?.(gone);
    this.#room.leave(this);
  }
}

/** The keys that were last used one message at a time: their calls are kept open. */
class Kept {
  readonly #used = new Map<string, number>(); // when; that used last is the last

  note(key: string): void {
    this.#used.delete(key);
    this.#used.set(key, now());
    for (const oldest of this.#used.keys()) {
      if (this.#used.size <= MOST_KEPT) {
        break;
      }
      this.#used.delete(oldest);
    }
  }

  forget(key: string): void {
    this.#used.delete(key);
  }

  has(key: string): boolean {
    return now() - (this.#used.get(key) ?? -Infinity) < KEPT;
  }
}

/** The messages of one key, in order. */
class Lane<Receipt> {
  readonly #link: Link;
  readonly #way: Way<Receipt>;
  readonly #key: string;
  readonly #kept: Kept;
  #waiting: Entry<Receipt>[] = [];
  #gone = 0; // of those
  readonly #pauses = new Pauses();
  // Of the bulk call under way.
  #unwritten: Entry<Receipt>[] = [];
  #sent: (Entry<Receipt> | undefined)[] = []; // by their numbers, until they are answered
  #unsettled = 0; // of those that were taken
  #onSettled: ((gone: boolean) => void) | undefined;
  #wake: () => void = () => undefined;

  constructor(link: Link, way: Way<Receipt>, key: string, kept: Kept) {
    this.#link = link;
    this.#way = way;
    this.#key = key;
    this.#kept = kept;
  }

  add(entry: Entry<Receipt>): void {
    entry.onSettled = this.#leave;
    this.#waiting.push(entry);
    this.#wake();
  }

  /** One that waits is settled: where a sidecar hangs and callers come and go, they must not pile up. */
  readonly #leave = (): void => {
    this.#gone += 1;
    if (piledUp(this.#gone, this.#waiting.length)) {
      this.#waiting = this.#waiting.filter((entry) => !entry.settled);
      this.#gone = 0;
    }
  };

  /** These go again, before all that came later. */
  #putBack(entries: Entry<Receipt>[]): void {
    for (const entry of entries) {
      entry.onSettled = this.#leave;
    }
    this.#waiting = [...entries, ...this.#waiting];
  }

  /** Send until nothing waits; `idle` is called in the same step, so that nothing is added to a lane that has ended. */
  async run(idle: () => void): Promise<void> {
    for (;;) {
      let entries = this.#upToLarge();
      if (entries.length === 0) {
        entries = this.#waiting.splice(0, 1);
      }
      const [first] = entries;
      if (first === undefined) {
        idle();
        return;
      }
      if (first.alone) {
        for (const entry of entries) {
          await this.#single(entry);
        }
      } else if (entries.length === 1 && !first.waits && (first.large || !this.#kept.has(this.#key))) {
        await this.#single(first);
      } else {
        await this.#together(entries);
      }
    }
  }

  /** What waits, up to the first message that goes alone. */
  #upToLarge(): Entry<Receipt>[] {
    const entries = this.#waiting.filter((entry) => !entry.settled);
    this.#gone = 0;
    const large = entries.findIndex((entry) => entry.large);
    this.#waiting = large < 0 ? [] : entries.splice(large);
    return entries;
  }

  async #single(entry: Entry<Receipt>): Promise<void> {
    const gone = new AbortController();
    entry.onSettled = (left) => {
      if (left) {
        gone.abort();
      }
    };
    try {
      const channel = await this.#connected([entry], entry.until, gone.signal);
      if (channel === undefined) {
        return;
      }
      entry.written = true;
      const receipt = await this.#way.one(channel, entry, entry.until, gone.signal);
      if (this.#link.keeps && !this.#link.lacking.has(this.#way.path)) {
        this.#kept.note(this.#key);
      }
      if (receipt !== undefined) {
        entry.answer(receipt);
      } else if (entry.alone) {
        entry.fail(new NotSupported("no peer can take it, and the sidecar has no call that waits until one can"));
      } else {
        entry.waits = true;
        entry.written = false; // nobody has got it
        this.#putBack([entry]);
      }
    } catch (error) {
      if (isUnsent(error)) {
        entry.written = false;
      }
      await this.#failed([entry], error);
    }
  }

  /** One bulk call, which also takes what comes as long as it has something to wait for. */
  async #together(entries: Entry<Receipt>[]): Promise<void> {
    let call: Call | undefined;
    const gone = new AbortController();
    this.#sent = [];
    this.#unsettled = 0;
    this.#onSettled = (left) => {
      this.#unsettled -= 1;
      if (this.#unsettled === 0) {
        if (left) {
          gone.abort(OVER);
          call?.cancel(OVER);
        }
        this.#wake();
      }
    };
    this.#take(entries);
    try {
      const until = entries.reduce((latest, entry) => Math.max(latest, entry.until), 0);
      const channel = await this.#connected(entries, until, gone.signal);
      if (channel === undefined) {
        return;
      }
      call = this.#link.stream(channel, this.#way.path);
      call.onEnd(() => {
        this.#wake();
      });
      const reading = this.#read(call);
      reading.catch((error: unknown) => {
        call?.cancel(error as Error); // it goes on where what it said cannot be read; told below, where anybody waits
      });
      await this.#link.learn(call);
      await this.#write(call);
      if (this.#unsettled > 0) {
        await reading;
        throw new Closed("the sidecar ended the call without all receipts", { code: "UNAVAILABLE" });
      }
    } catch (error) {
      call?.cancel(OVER);
      const written = this.#sent.filter((entry) => entry !== undefined);
      const left = [...written, ...this.#unwritten].filter((entry) => !entry.settled);
      this.#kept.forget(this.#key);
      if (error instanceof NotSupported) {
        this.#link.lacking.add(this.#way.path); // of a message, a receipt says so
        for (const entry of left) {
          entry.alone = true;
          entry.written = false;
        }
        this.#putBack(left);
        return;
      }
      await this.#failed(left, error);
    }
  }

  /** These go by the call under way. */
  #take(entries: Entry<Receipt>[]): void {
    for (const entry of entries) {
      entry.onSettled = this.#onSettled;
    }
    this.#unwritten = entries;
    this.#unsettled += entries.length;
  }

  /** Hand out receipts until the call ends. */
  async #read(call: Call): Promise<void> {
    const sent = this.#sent;
    for (let response = await call.read(); response !== undefined; response = await call.read()) {
      for (const { first, receipts } of this.#way.parse(response)) {
        receipts.forEach((receipt, index) => {
          sent[first + index]?.answer(receipt);
          sent[first + index] = undefined; // kept any longer it would cost the garbage collector
        });
      }
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

  /** Write frames until nobody waits for anything; a message whose caller has gone meanwhile is left out. */
  async #write(call: Call): Promise<void> {
    let head = this.#way.head;
    const large = this.#unwritten.some((entry) => entry.large);
    const { frames } = this.#link;
    let last = false; // the last look whether there is more
    while (!call.over) {
      if (this.#unwritten.length === 0 && this.#sent.length < CALL_MESSAGES && !large) {
        this.#take(this.#upToLarge());
      }
      const frame: Entry<Receipt>[] = [];
      let size = 0;
      let next = 0;
      while (next < this.#unwritten.length && frame.length < frames.messages) {
        const entry = this.#unwritten[next]!;
        if (entry.data.length > frames.largest) {
          entry.fail(tooLarge(entry.data.length, frames));
        } else if (!entry.settled) {
          if (frame.length > 0 && size + entry.data.length > frames.size) {
            break;
          }
          entry.written = true;
          size += entry.data.length;
          frame.push(entry);
        }
        next += 1;
      }
      this.#unwritten = this.#unwritten.slice(next);
      if (frame.length > 0) {
        this.#sent.push(...frame);
        await call.write(encodeBatch(head, this.#way.item, frame));
        head = NOTHING;
        last = false;
      } else if (this.#unsettled > 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if (!last) {
        await new Promise((resolve) => setImmediate(resolve)); // who has got a receipt may go on with the next message
        last = true;
      } else if (this.#waiting.length > 0 || large || !(await this.#used())) {
        call.halfClose();
        return;
      } else {
        last = false;
      }
    }
    this.#kept.forget(this.#key);
  }

  /** Whether more comes for as long as the call is kept open, or it has ended. */
  async #used(): Promise<boolean> {
    if (!this.#link.keeps || !this.#kept.has(this.#key)) {
      return false;
    }
    const more = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => {
        resolve(false);
      }, KEPT);
      this.#wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
    if (more) {
      this.#kept.note(this.#key);
    }
    return more;
  }

  /** A call has ended with an error: some messages are sent again, the callers of the others are told. */
  async #failed(entries: Entry<Receipt>[], error: unknown): Promise<void> {
    if (!isLost(error) || this.#link.closed || !this.#link.reconnect) {
      for (const entry of entries) {
        entry.onSettled = undefined;
        entry.fail(error);
      }
      return;
    }
    const again: Entry<Receipt>[] = [];
    const time = now();
    for (const entry of entries) {
      entry.onSettled = undefined;
      entry.patience ||= time + PATIENCE;
      if (entry.written && entry.requestId.length === 0) {
        const what = `the connection was lost; it may have been ${this.#way.done}`;
        entry.fail(new Closed(`${what}: ${error.message}`, { reason: error.reason, code: error.code, cause: error }));
      } else if (time >= entry.patience) {
        entry.fail(error);
      } else if (!entry.settled) {
        again.push(entry);
      }
    }
    this.#putBack(again);
    if (again.length > 0) {
      await sleep(this.#pauses.next(), this.#link.closing.signal).catch(() => {
        for (const entry of this.#waiting.splice(0)) {
          entry.onSettled = undefined;
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
  readonly #room = new Room();
  /** By both parts of the key: one text of both would have to be made for each message. */
  readonly #lanes = new Map<string, Map<string, Lane<Receipt>>>();
  readonly #kept = new Kept();

  constructor(link: Link) {
    this.#link = link;
  }

  /** Send a message; its receipt. `way` is asked where the key is new. */
  send(
    first: string,
    second: string,
    way: () => Way<Receipt>,
    data: Payload,
    options: CallOptions & { requestId?: string },
  ): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      this.#link.checkOpen();
      options.signal?.throwIfAborted();
      const lane = this.#lanes.get(first)?.get(second);
      const ways = lane === undefined ? way() : undefined; // made now, since it may refuse what was given
      const entry = new Entry<Receipt>(this.#link, this.#room, data, options, resolve, reject);
      if (this.#room.enter(entry)) {
        this.#add(first, second, () => ways ?? way(), entry);
      } else {
        entry.admitted = () => {
          this.#add(first, second, way, entry);
        };
      }
    });
  }

  #add(first: string, second: string, way: () => Way<Receipt>, entry: Entry<Receipt>): void {
    const known = this.#lanes.get(first)?.get(second);
    const lane = known ?? new Lane<Receipt>(this.#link, way(), `${first}\0${second}`, this.#kept);
    lane.add(entry);
    if (known !== undefined) {
      return;
    }
    const lanes = this.#lanes.get(first) ?? new Map<string, Lane<Receipt>>();
    this.#lanes.set(first, lanes.set(second, lane));
    void lane.run(() => {
      lanes.delete(second);
      if (lanes.size === 0) {
        this.#lanes.delete(first);
      }
    });
  }
}
