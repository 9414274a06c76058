/**
 * Requests that are fast: they travel together, over a call that stays open.
 *
 * The first request goes by the unary method. One that is made meanwhile, or within a second, goes over a call to
 * RequestMany, which all requests of the client share and which stays open until none has been made for a second; what
 * is asked while a frame is being written goes in the next one. Where calls are not to be kept, it ends when nobody
 * waits, and a request that is alone goes by the unary method. So it does where the sidecar has no such call.
 */

import type { Call } from "./call.js";
import { checkText } from "./checks.js";
import { duration } from "./convert.js";
import { Closed, fromEncoded, NotSupported } from "./errors.js";
import { tooLarge } from "./frames.js";
import { DirectServiceDefinition, OutgoingRequest, RequestManyRequest } from "./generated/sidecar/v1/direct.js";
import { isLost, KEPT, type Link, method } from "./link.js";
import { costOf, type Guest, piledUp, Room } from "./room.js";
import type { RequestOptions } from "./types.js";
import { at, deadline, now, onAbort, PATIENCE } from "./waiting.js";
import { encodeField } from "./wire.js";

const REQUEST = method(DirectServiceDefinition, DirectServiceDefinition.methods.request);
const REQUEST_MANY = method(DirectServiceDefinition, DirectServiceDefinition.methods.requestMany);
const ITEM = 0x1a; // the tag of RequestManyRequest.requests, field 3
/** The sidecar reads on only while fewer are open; beyond it would not see what is withdrawn. */
const MAX_OPEN = 1000;
const DAY = 86_400_000; // milliseconds; the longest that the sidecar takes
const DONE = new Closed("all requests have been answered");

/** What requests fail with that a sidecar older than RequestMany has not seen. */
const OLDER = new Closed("the sidecar has no call for many requests");

const LATE = "no answer in time";

interface Question {
  readonly peerId: string;
  readonly protocol: string;
  readonly data: Buffer;
  readonly traceparent: string;
  readonly until: number;
  settled: boolean;
  answer(data: Buffer): void;
  fail(error: unknown): void;
}

/** All requests of a client. */
export class Asking {
  readonly #link: Link;
  readonly #room = new Room();
  #alone = 0; // those that go by the unary method
  #followed = -Infinity; // when the last of them was answered, where the next may open the shared call
  #next = 0;
  #queue: Question[] = []; // not written
  #gone = 0; // of those
  readonly #open = new Map<number, Question>(); // written and not answered
  #withdrawn: bigint[] = [];
  #running = false;
  #wake: () => void = () => undefined;

  constructor(link: Link) {
    this.#link = link;
  }

  /** Make one request. */
  async ask(peerId: string, protocol: string, data: Buffer, options: RequestOptions): Promise<Buffer> {
    const until = deadline(options);
    checkText(peerId, "peer_id");
    checkText(protocol, "protocol");
    checkText(options.traceparent ?? "", "traceparent");
    this.#link.checkOpen();
    options.signal?.throwIfAborted();
    const guest: Guest = { cost: costOf(data), settled: false };
    try {
      if (!this.#room.enter(guest)) {
        await this.#admission(guest, until, options.signal);
      }
      return await this.#ask(peerId, protocol, data, options, until);
    } finally {
      guest.settled = true;
      this.#room.leave(guest);
    }
  }

  /** Wait until there is room. */
  async #admission(guest: Guest, until: number, signal: AbortSignal | undefined): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const stops: (() => void)[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        guest.admitted = resolve;
        timer = at(until, () => {
          reject(this.#link.late(LATE));
        });
        stops.push(onAbort(signal, reject), onAbort(this.#link.closing.signal, reject));
      });
    } finally {
      clearTimeout(timer);
      for (const stop of stops) {
        stop();
      }
    }
  }

  async #ask(peerId: string, protocol: string, data: Buffer, options: RequestOptions, until: number): Promise<Buffer> {
    const { traceparent = "" } = options;
    const busy = this.#alone > 0 || this.#running || now() - this.#followed < KEPT;
    // Without a name it would be for the peer of the message before.
    if (busy && data.length <= this.#link.frames.alone && peerId !== "" && protocol !== "") {
      try {
        return await this.#askWithOthers(peerId, protocol, data, options, until);
      } catch (error) {
        if (error !== OLDER) {
          throw error;
        }
      }
    }
    this.#alone += 1;
    try {
      const left = { ...options, timeout: Math.max(0, until - now()) };
      const answer = await this.#link.unary(REQUEST, { peerId, protocol, data, traceparent }, left);
      if (this.#link.keeps && !this.#link.lacking.has(REQUEST_MANY.path)) {
        this.#followed = now();
      }
      return answer.data;
    } finally {
      this.#alone -= 1;
    }
  }

  #askWithOthers(
    peerId: string,
    protocol: string,
    data: Buffer,
    options: RequestOptions,
    until: number,
  ): Promise<Buffer> {
    const { signal, traceparent = "" } = options;
    this.#link.checkOpen();
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const settle = (): boolean => {
        if (question.settled) {
          return false;
        }
        question.settled = true;
        clearTimeout(timer);
        stop();
        return true;
      };
      const question: Question = {
        peerId,
        protocol,
        data,
        traceparent,
        until,
        settled: false,
        answer: (response) => {
          if (settle()) {
            resolve(response);
          }
        },
        fail: (error) => {
          if (settle()) {
            reject(error);
          }
        },
      };
      const leave = (error: unknown) => {
        question.fail(error);
        this.#withdraw(question);
      };
      const stop = onAbort(signal, leave);
      const timer = at(until, () => {
        leave(this.#link.late(LATE));
      });
      this.#queue.push(question);
      if (this.#running) {
        this.#wake();
      } else {
        this.#running = true;
        void this.#run();
      }
    });
  }

  #withdraw(question: Question): void {
    for (const [id, open] of this.#open) {
      if (open === question) {
        this.#open.delete(id);
        this.#withdrawn.push(BigInt(id));
        this.#wake();
        return;
      }
    }
    this.#gone += 1;
    if (piledUp(this.#gone, this.#queue.length)) {
      this.#queue = this.#queue.filter(({ settled }) => !settled);
      this.#gone = 0;
    }
    this.#wake();
  }

  /** One call after the other, for as long as anybody waits. */
  async #run(): Promise<void> {
    this.#followed = -Infinity;
    while (this.#pending()) {
      let call: Call | undefined;
      try {
        const channel = await this.#link.ready(this.#link.reconnect ? PATIENCE : 0, this.#latest());
        call = this.#link.stream(channel, REQUEST_MANY.path);
        const writing = this.#write(call);
        await this.#read(call);
        await writing;
      } catch (error) {
        // A request that was written has perhaps been answered; the others go with the next call.
        const lostCall = call !== undefined && isLost(error) && this.#link.reconnect;
        const again = (error === DONE || lostCall) && !this.#link.closed;
        const absent = error instanceof NotSupported;
        if (absent) {
          this.#link.lacking.add(REQUEST_MANY.path);
        }
        const lost = [...this.#open.values(), ...(again ? [] : this.#queue.splice(0))];
        this.#open.clear();
        for (const question of lost) {
          question.fail(absent ? OLDER : error);
        }
      } finally {
        this.#withdrawn = [];
        call?.cancel(DONE);
      }
    }
  }

  /** Whether anybody waits; else the next one may go alone again. In one step, so that nobody is overlooked. */
  #pending(): boolean {
    this.#queue = this.#queue.filter(({ settled }) => !settled);
    this.#gone = 0;
    this.#running = this.#queue.length > 0;
    return this.#running;
  }

  #latest(): number {
    return this.#queue.reduce((latest, { until }) => Math.max(latest, until), 0);
  }

  /** Write what waits, until nobody has for a while or the call has ended. */
  async #write(call: Call): Promise<void> {
    call.onEnd(() => {
      this.#wake();
    });
    await this.#link.learn(call);
    while (!call.over) {
      const frame = this.#frame();
      if (frame !== undefined) {
        await call.write(frame);
      } else if (this.#queue.length === 0 && this.#open.size === 0) {
        if (!this.#link.keeps || (await this.#unused())) {
          call.cancel(DONE);
        }
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** Whether nothing comes for as long as a call is kept open. */
  async #unused(): Promise<boolean> {
    return await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => {
        resolve(this.#queue.length === 0);
      }, KEPT);
      this.#wake = () => {
        clearTimeout(timer);
        resolve(false);
      };
    });
  }

  /** What waits, as far as it fits a frame and is for one peer and protocol; undefined when there is nothing. */
  #frame(): Buffer | undefined {
    const parts: Buffer[] = [];
    let size = 0;
    let taken = 0;
    let first: Question | undefined;
    const { frames } = this.#link;
    for (const question of this.#queue) {
      if (question.data.length > frames.largest) {
        question.fail(tooLarge(question.data.length, frames));
      }
      if (!question.settled) {
        first ??= question;
        const same = question.peerId === first.peerId && question.protocol === first.protocol;
        const full = parts.length > 0 && (size + question.data.length > frames.size || parts.length >= frames.messages);
        if (!same || full || this.#open.size >= MAX_OPEN) {
          break;
        }
        const id = this.#next;
        this.#next += 1;
        this.#open.set(id, question);
        const { data, traceparent, until } = question;
        const timeout = until === Infinity ? undefined : duration(Math.min(Math.max(0, until - now()), DAY), "timeout");
        const outgoing = OutgoingRequest.fromPartial({ id: BigInt(id), data, timeout, traceparent });
        parts.push(encodeField(ITEM, Buffer.from(OutgoingRequest.encode(outgoing).finish())));
        size += data.length + traceparent.length;
      }
      taken += 1;
    }
    this.#queue = this.#queue.slice(taken);
    this.#gone = Math.min(this.#gone, this.#queue.length); // not fewer than they are
    const withdrawn = this.#withdrawn;
    this.#withdrawn = [];
    if (parts.length === 0 && withdrawn.length === 0) {
      return undefined;
    }
    const { peerId = "", protocol = "" } = parts.length > 0 && first !== undefined ? first : {};
    const head = REQUEST_MANY.encode(RequestManyRequest.fromPartial({ peerId, protocol, withdrawn }));
    return Buffer.concat([head, ...parts]);
  }

  /** Hand out results until the call ends. */
  async #read(call: Call): Promise<void> {
    for (let response = await call.read(); response !== undefined; response = await call.read()) {
      for (const { id: given, result } of REQUEST_MANY.decode(response).results) {
        const id = Number(given);
        const question = this.#open.get(id);
        this.#open.delete(id);
        if (result?.$case === "status") {
          question?.fail(fromEncoded(result.value, this.#link.target.text));
        } else {
          question?.answer(result?.value ?? Buffer.alloc(0));
        }
      }
      if (this.#open.size < MAX_OPEN) {
        this.#wake();
      }
    }
    throw new Closed("the sidecar ended the call of the requests", { code: "UNAVAILABLE" });
  }
}
