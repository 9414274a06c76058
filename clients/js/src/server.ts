/** Serving requests of other peers' apps. */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { described, shown } from "./checks.js";
import { bytes, names, optionalMilliseconds } from "./convert.js";
import { Closed, InvalidArgument, Refused, TooLarge } from "./errors.js";
import {
  DirectServiceDefinition,
  type IncomingRequest,
  ServeRequest,
  type Answer,
  type ServeResponse,
} from "./generated/sidecar/v1/direct.js";
import { type Link, method } from "./link.js";
import { Stream } from "./stream.js";
import type { Payload, Request, StreamOptions } from "./types.js";
import { at, now } from "./waiting.js";

/**
 * Answers a request: returns the response, or throws `Refused` to refuse with its message. However else it ends,
 * whoever asked is refused at once and a warning says why: anything else that it throws, a response that is no payload
 * or over the sidecar's bound. Others are served on. `request.signal` is aborted when nobody waits any more.
 */
export type Handler = (request: Request) => Payload | Promise<Payload>;

/** How to serve. */
export interface ServeOptions extends StreamOptions {
  /** How many handlers run at once, at most; more requests wait. Default 256. */
  concurrency?: number;
}

const SERVE = method(DirectServiceDefinition, DirectServiceDefinition.methods.serve);
// What has been read and waits for its handler.
const WAITING_BYTES = 1 << 20;
const WAITING_REQUESTS = 1024;
const REFUSAL_BYTES = 1024;

/** Answers that one call writes, as many at once as have come while the last were written. */
class Answers {
  readonly #link: Link;
  readonly #call: Call;
  #waiting: Answer[] = [];
  #writing = false;
  #finishing = false;

  constructor(link: Link, call: Call, protocols: string[]) {
    this.#link = link;
    this.#call = call;
    this.#write(ServeRequest.fromPartial({ protocols }));
  }

  /** Whether nobody waits for them any more. */
  get over(): boolean {
    return this.#call.over;
  }

  /** No more will come: the sidecar ends the call when it has them all. */
  finish(): void {
    this.#finishing = true;
    if (!this.#writing) {
      this.#call.halfClose();
    }
  }

  add(answer: Answer): void {
    if (this.#finishing || this.over) {
      return; // the sidecar tells who asked so late
    }
    this.#waiting.push(answer);
    if (!this.#writing) {
      this.#next();
    }
  }

  #next(): void {
    const answers: Answer[] = [];
    let size = 0;
    const { frames } = this.#link;
    for (const answer of this.#waiting) {
      size += answer.result?.$case === "data" ? answer.result.value.length : REFUSAL_BYTES;
      if (answers.length > 0 && (size > frames.size || answers.length >= frames.messages)) {
        break;
      }
      answers.push(answer);
    }
    this.#waiting = this.#waiting.slice(answers.length);
    this.#write({ protocols: [], answers });
  }

  #write(request: ServeRequest): void {
    this.#writing = true;
    void this.#call.write(SERVE.encode(request)).then((written) => {
      this.#writing = false;
      if (written && this.#waiting.length > 0) {
        this.#next();
      } else if (this.#finishing) {
        this.#call.halfClose();
      }
    });
  }
}

class Requests extends Stream {
  answers: Answers | undefined;
  readonly #protocols: string[];
  #served = false;
  #finishing = false;

  constructor(link: Link, protocols: string[], options: StreamOptions) {
    super(link, `serving ${protocols.join(", ")}`, options);
    this.#protocols = protocols;
  }

  protected override begin(channel: ChannelInterface): Call {
    const call = this.link.stream(channel, SERVE.path);
    this.answers = new Answers(this.link, call, this.#protocols);
    call.onEnd(() => {
      this.onEnd();
    });
    return call;
  }

  /** After one answer that was larger than any call may be the others go on. */
  protected override worthAnother(error: unknown): boolean {
    if (this.#served && error instanceof TooLarge) {
      this.onTooLarge(error);
      return this.link.reconnect && !this.link.closed;
    }
    return super.worthAnother(error);
  }

  /** The next response; undefined when it was lost and is in force again. */
  async read(): Promise<ServeResponse | undefined> {
    const response = await this.next();
    this.#served = true;
    return response && SERVE.decode(response);
  }

  /** Registered for the first time. */
  async register(): Promise<void> {
    await this.start();
    this.#served = true;
  }

  /** Let the answers given reach the sidecar, and be done. */
  async finish(): Promise<void> {
    const { call } = this;
    if (call !== undefined) {
      this.#finishing = true;
      this.answers?.finish();
      await new Promise<void>((resolve) => {
        call.onEnd(resolve);
      });
    }
  }

  protected override ended(): Error {
    if (this.#finishing) {
      this.close();
    }
    return super.ended();
  }

  get finished(): boolean {
    return this.over;
  }

  get name(): string {
    return this.title;
  }

  /** Called whenever a call has ended. */
  onEnd: () => void = () => undefined;
  onTooLarge: (error: Error) => void = () => undefined;
}

/** A request whose handler runs. */
interface Running {
  readonly controller: AbortController;
  /** Until when anybody waits for the answer. */
  readonly until: number;
}

/** Answers requests of some protocols until it is closed. It outlives the sidecar's restarts. */
export class Server {
  /**
   * Resolves when the serving was closed from here, rejects with what ended it otherwise. Where nobody has asked for
   * it, a warning is emitted instead.
   */
  get ended(): Promise<void> {
    this.#asked = true;
    return this.#ended;
  }

  readonly #link: Link;
  readonly #requests: Requests;
  readonly #handler: Handler;
  readonly #concurrency: number;
  #ended: Promise<void> = Promise.resolve();
  #asked = false;
  readonly #running = new Map<bigint, Running>();
  #rejected = 0;
  #handlers = new Set<Promise<void>>();
  #waiting: { message: IncomingRequest; answers: Answers }[] = [];
  #waitingBytes = 0;
  #draining = false;
  #onRoom: (() => void) | undefined;

  private constructor(link: Link, requests: Requests, handler: Handler, concurrency: number) {
    this.#link = link;
    this.#requests = requests;
    this.#handler = handler;
    this.#concurrency = concurrency;
    requests.onEnd = () => {
      this.#forget(new Closed("the call that brought this request has ended"));
    };
    requests.onTooLarge = (error) => {
      this.#reject(error.message);
    };
  }

  /**
   * How many answers could not be taken so far, such as those over the bound on payloads. Whoever asked was refused; a
   * warning (`SIDECAR_REJECTED`) says why.
   */
  get rejected(): number {
    return this.#rejected;
  }

  #reject(reason: string): void {
    this.#rejected += 1;
    const text = `${this.#requests.name}: an answer was not taken: ${reason}`;
    process.emitWarning(text, { type: "SidecarWarning", code: "SIDECAR_REJECTED" });
  }

  /** @internal */
  static async start(
    link: Link,
    protocols: string | Iterable<string>,
    handler: Handler,
    options: ServeOptions,
  ): Promise<Server> {
    const { concurrency = 256 } = options;
    if (typeof handler !== "function") {
      throw new InvalidArgument(`the handler is ${shown(handler)}, and no function`, { field: "handler" });
    }
    if (typeof concurrency !== "number" || !(concurrency >= 1)) {
      const what = `concurrency is ${shown(concurrency)}: at least one handler must run`;
      throw new InvalidArgument(what, { field: "concurrency" });
    }
    const requests = new Requests(link, names(protocols, "protocols"), options);
    const server = new Server(link, requests, handler, concurrency);
    await requests.register();
    server.#ended = server.#serve();
    server.#ended.catch((error: unknown) => {
      if (!server.#asked && !link.closed) {
        process.emitWarning(`serving has ended: ${String(error)}`, { type: "SidecarWarning", code: "SIDECAR_ENDED" });
      }
    });
    return server;
  }

  /**
   * End the serving. Whoever waits for an answer is told at once; this resolves when all handlers have ended, so it is
   * not to be awaited by a handler.
   *
   * @param options - `drain`: milliseconds in which handlers that run may end, and their answers leave; new requests
   * are refused meanwhile. Then, by default at once, they are cancelled.
   */
  async close({ drain = 0 }: { drain?: number } = {}): Promise<void> {
    if (drain > 0) {
      await this.#drain(drain);
    }
    this.#requests.close();
    await Promise.allSettled([...this.#handlers, this.#ended]);
  }

  async #drain(most: number): Promise<void> {
    this.#draining = true;
    const drained = async () => {
      while (this.#handlers.size > 0) {
        await Promise.allSettled(this.#handlers);
      }
      await this.#requests.finish();
    };
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, most);
    });
    await Promise.race([drained(), late, Promise.allSettled([this.#ended])]);
    clearTimeout(timer);
  }

  /** Ends the serving. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serve(): Promise<void> {
    try {
      for (;;) {
        const response = await this.#requests.read();
        const { answers } = this.#requests;
        if (response === undefined || answers === undefined) {
          continue;
        }
        for (const { reason } of response.rejected) {
          this.#reject(reason);
        }
        for (const id of response.withdrawn) {
          this.#withdraw(id);
        }
        if (answers.over) {
          continue; // what these are read from has ended meanwhile
        }
        for (const message of response.requests) {
          if (this.#draining) {
            answers.add({ id: message.id, result: { $case: "refusal", value: "the app is going away" } });
          } else {
            this.#waiting.push({ message, answers });
            this.#waitingBytes += message.data.length;
          }
        }
        this.#begin();
        while (this.#full) {
          await this.#room();
        }
      }
    } catch (error) {
      if (!this.#requests.finished) {
        throw error;
      }
    }
  }

  /** The sidecar counts what has been taken no more: what waits here must be bounded here. */
  get #full(): boolean {
    return this.#waitingBytes > WAITING_BYTES || this.#waiting.length > WAITING_REQUESTS;
  }

  /** Wait until something may have changed. Withdrawals are not read meanwhile: time ends requests here. */
  async #room(): Promise<void> {
    let first = Infinity;
    for (const { until } of this.#running.values()) {
      first = Math.min(first, until);
    }
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onRoom = resolve;
      timer = at(first, resolve);
    });
    clearTimeout(timer);
    for (const [id, running] of [...this.#running]) {
      if (running.until <= now()) {
        this.#running.set(id, { ...running, until: Infinity });
        this.#withdraw(id);
      }
    }
  }

  #begin(): void {
    while (this.#running.size < this.#concurrency) {
      const next = this.#waiting.shift();
      if (next === undefined) {
        break;
      }
      this.#waitingBytes -= next.message.data.length;
      const answering = this.#answer(next.message, next.answers);
      this.#handlers.add(answering);
      void answering.finally(() => {
        this.#handlers.delete(answering);
      });
    }
    if (!this.#full) {
      this.#onRoom?.();
      this.#onRoom = undefined;
    }
  }

  #withdraw(id: bigint): void {
    this.#running.get(id)?.controller.abort(new Closed("nobody waits for the answer any more"));
    const index = this.#waiting.findIndex(({ message }) => message.id === id);
    if (index >= 0) {
      this.#waitingBytes -= this.#waiting[index]?.message.data.length ?? 0;
      this.#waiting.splice(index, 1);
    }
  }

  #forget(reason: Error): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    const running = [...this.#running.values()];
    this.#running.clear(); // the numbers begin anew with the next call
    for (const { controller } of running) {
      controller.abort(reason);
    }
    this.#onRoom?.();
    this.#onRoom = undefined;
  }

  async #answer(message: IncomingRequest, answers: Answers): Promise<void> {
    const controller = new AbortController();
    const timeLeft = optionalMilliseconds(message.timeLeft);
    const running = { controller, until: timeLeft === undefined ? Infinity : now() + timeLeft };
    this.#running.set(message.id, running);
    let result: Answer["result"];
    try {
      const response = await this.#handler({
        peerId: message.peerId,
        protocol: message.protocol,
        data: message.data,
        timeLeft,
        traceparent: message.traceparent,
        signal: controller.signal,
      });
      result = this.#taken(bytes(response));
    } catch (error) {
      result = { $case: "refusal", value: this.#refusal(message.protocol, error, controller.signal.aborted) };
    }
    if (this.#running.get(message.id)?.controller === controller) {
      this.#running.delete(message.id);
    }
    if (!controller.signal.aborted) {
      answers.add({ id: message.id, result });
    }
    this.#begin();
  }

  #taken(data: Buffer): Answer["result"] {
    const { largest } = this.#link.frames; // gRPC there would end the call of all others
    if (data.length <= largest) {
      return { $case: "data", value: data };
    }
    const what = `response of ${data.length} bytes, at most ${largest}`;
    this.#reject(what);
    return { $case: "refusal", value: `the app there gave an answer that cannot be taken: ${what}` };
  }

  /** What to tell whoever asked, and a warning of what is no refusal. Anything may have been thrown. */
  #refusal(protocol: string, error: unknown, aborted: boolean): string {
    try {
      if (error instanceof Refused) {
        const message: unknown = error.message; // apps may have made it anything
        return shortened(String(message)) || "the app refused";
      }
    } catch {
      // told below
    }
    if (!aborted) {
      process.emitWarning(`the handler for ${protocol} failed: ${described(error)}`, {
        type: "SidecarWarning",
        code: "SIDECAR_HANDLER",
      });
    }
    return "the app failed to answer";
  }
}

/** As much of a text as a refusal may have, in whole characters. */
function shortened(text: string): string {
  const encoded = Buffer.from(text);
  if (encoded.length <= REFUSAL_BYTES) {
    return encoded.toString(); // without halves of characters
  }
  let end = REFUSAL_BYTES;
  while (((encoded[end] ?? 0) & 0xc0) === 0x80) {
    end -= 1;
  }
  return encoded.toString("utf8", 0, end);
}
