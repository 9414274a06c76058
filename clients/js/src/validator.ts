/** Judging messages of topics before anybody gets them. */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { described, shown } from "./checks.js";
import { duration, fallback, judgedMessage, names, verdict } from "./convert.js";
import { InvalidArgument } from "./errors.js";
import { PubSubServiceDefinition, ValidateRequest, type VerdictRange } from "./generated/sidecar/v1/pubsub.js";
import { type Link, method } from "./link.js";
import { Stream } from "./stream.js";
import type { Message, StreamOptions, ValidationFallback, Verdict } from "./types.js";

/**
 * Gives the verdict on a message, at once or later (a promise, or anything with `then`); then verdicts may come in any
 * order. What it throws is told by a warning (`SIDECAR_JUDGE`), and the message ignored, as is one for which it gives
 * something else.
 */
export type Judge = (message: Message) => Verdict | PromiseLike<Verdict>;

/** How to judge. */
export interface ValidateOptions extends StreamOptions {
  /** What becomes of messages without a verdict, also while no app judges the topics. Default: as configured. */
  fallback?: ValidationFallback;
  /** With the fallback: milliseconds that a message waits for its verdict, up to 10 minutes. Default: as configured. */
  timeout?: number;
  /** With the fallback: how many messages of a topic may wait. Default: as configured. */
  maxWaiting?: number;
  /** How many promises of verdicts may be open; no more messages are judged then. Default 256. */
  concurrency?: number;
}

const VALIDATE = method(PubSubServiceDefinition, PubSubServiceDefinition.methods.validate);
const RANGE = 65_536n; // the API's bound on the messages of one range
const RANGES = 4096; // in one request
const END = 2000; // milliseconds that the sidecar may take to end the call

/** Verdicts that one call writes, as many at once as have come while the last were written. */
class Verdicts {
  readonly #call: Call;
  #waiting: VerdictRange[] = [];
  #writing = false;
  #finishing = false;

  constructor(call: Call, first: ValidateRequest) {
    this.#call = call;
    this.#write(first);
  }

  /** No more will come: this side of the call ends once they are written. */
  finish(): void {
    this.#finishing = true;
    if (!this.#writing) {
      this.#call.halfClose();
    }
  }

  /** The verdict on the message of that number. They go out together once all that is to be done now is done. */
  add(number: bigint, value: VerdictRange["verdict"]): void {
    const last = this.#waiting.at(-1);
    if (last?.verdict === value && last.first + last.count === number && last.count < RANGE) {
      last.count += 1n;
      return;
    }
    this.#waiting.push({ first: number, count: 1n, verdict: value });
  }

  /** Write what has come, unless something is being written: then it goes next. */
  flush(): void {
    if (!this.#writing && this.#waiting.length > 0 && !this.#finishing && !this.#call.over) {
      this.#next();
    }
  }

  #next(): void {
    const verdicts = this.#waiting.slice(0, RANGES);
    this.#waiting = this.#waiting.slice(verdicts.length);
    this.#write(ValidateRequest.fromPartial({ verdicts }));
  }

  #write(request: ValidateRequest): void {
    this.#writing = true;
    void this.#call.write(VALIDATE.encode(request)).then((written) => {
      this.#writing = false;
      if (written && this.#waiting.length > 0) {
        this.#next();
      } else if (this.#finishing) {
        this.#call.halfClose();
      }
    });
  }
}

class Judged extends Stream {
  verdicts: Verdicts | undefined;
  readonly #first: ValidateRequest;
  #finishing = false;

  constructor(link: Link, first: ValidateRequest, options: StreamOptions) {
    super(link, `judging ${first.topics.join(", ")}`, options);
    this.#first = first;
  }

  protected override begin(channel: ChannelInterface): Call {
    const call = this.link.stream(channel, VALIDATE.path);
    this.verdicts = new Verdicts(call, this.#first);
    return call;
  }

  /** The next response; undefined when it was lost and is in force again. */
  async read() {
    const response = await this.next();
    return response && VALIDATE.decode(response);
  }

  /** End in order. */
  async finish(): Promise<void> {
    const { call } = this;
    if (call !== undefined) {
      this.#finishing = true;
      this.verdicts?.finish();
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
}

/**
 * Judges messages of some topics until it is closed. It outlives the sidecar's restarts; meanwhile the fallback holds.
 */
export class Validator {
  /**
   * Resolves when the judging was closed from here, rejects with what ended it otherwise. Where nobody has asked for
   * it, a warning is emitted instead.
   */
  get ended(): Promise<void> {
    this.#asked = true;
    return this.#ended;
  }

  readonly #judged: Judged;
  readonly #judge: Judge;
  readonly #concurrency: number;
  #open = 0; // promises of verdicts
  #freed: () => void = () => undefined; // one of them is settled, or nobody is to wait for them any more
  #ended: Promise<void> = Promise.resolve();
  #asked = false;

  private constructor(judged: Judged, judge: Judge, concurrency: number) {
    this.#judged = judged;
    this.#judge = judge;
    this.#concurrency = concurrency;
  }

  /** @internal */
  static async start(
    link: Link,
    topics: string | Iterable<string>,
    judge: Judge,
    options: ValidateOptions,
  ): Promise<Validator> {
    const { concurrency = 256, maxWaiting = 0, timeout } = options;
    if (typeof judge !== "function") {
      throw new InvalidArgument(`the judge is ${shown(judge)}, and no function`, { field: "judge" });
    }
    if (typeof concurrency !== "number" || !(concurrency >= 1)) {
      const what = `concurrency is ${shown(concurrency)}: at least one verdict must be open`;
      throw new InvalidArgument(what, { field: "concurrency" });
    }
    if (!Number.isInteger(maxWaiting) || maxWaiting < 0 || maxWaiting > 0xffffffff) {
      throw new InvalidArgument(`maxWaiting is ${shown(maxWaiting)}, and no number of messages`, {
        field: "max_waiting",
      });
    }
    const first = ValidateRequest.fromPartial({
      topics: names(topics, "topics"),
      fallback: fallback(options.fallback),
      timeout: timeout === undefined ? undefined : duration(timeout, "timeout"),
      maxWaiting,
    });
    const judged = new Judged(link, first, options);
    const validator = new Validator(judged, judge, concurrency);
    await judged.open();
    validator.#ended = validator.#serve();
    validator.#ended.catch((error: unknown) => {
      if (!validator.#asked && !link.closed) {
        process.emitWarning(`judging has ended: ${String(error)}`, { type: "SidecarWarning", code: "SIDECAR_ENDED" });
      }
    });
    return validator;
  }

  /** End in order: the topics are as they were before. Open promises of verdicts are not waited for. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, END);
    });
    await Promise.race([this.#judged.finish(), late, Promise.allSettled([this.#ended])]);
    clearTimeout(timer);
    this.#judged.close();
    this.#freed();
    await Promise.allSettled([this.#ended]);
  }

  /** Ends the judging. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serve(): Promise<void> {
    try {
      for (;;) {
        const response = await this.#judged.read();
        const { verdicts } = this.#judged;
        if (response === undefined || verdicts === undefined) {
          continue;
        }
        let number = response.first;
        for (const message of response.messages) {
          this.#give(number, judgedMessage(message), verdicts);
          number += 1n;
          while (this.#open >= this.#concurrency && !this.#judged.finished) {
            verdicts.flush();
            await new Promise<void>((resolve) => {
              this.#freed = resolve;
            });
          }
        }
        verdicts.flush();
      }
    } catch (error) {
      if (!this.#judged.finished) {
        throw error;
      }
    }
  }

  #give(number: bigint, message: Message, verdicts: Verdicts): void {
    let later: Promise<Verdict>;
    try {
      const given = this.#judge(message);
      if (typeof given === "string" || typeof given?.then !== "function") {
        verdicts.add(number, this.#known(given as Verdict));
        return;
      }
      later = Promise.resolve(given);
    } catch (error) {
      verdicts.add(number, verdict(this.#ignored(error)));
      return;
    }
    this.#open += 1;
    void later
      .then(
        (value) => {
          verdicts.add(number, this.#known(value));
        },
        (error: unknown) => {
          verdicts.add(number, verdict(this.#ignored(error)));
        },
      )
      .finally(() => {
        this.#open -= 1;
        this.#freed();
        verdicts.flush();
      });
  }

  #known(given: Verdict): VerdictRange["verdict"] {
    try {
      return verdict(given);
    } catch (error) {
      return verdict(this.#ignored(error));
    }
  }

  #ignored(error: unknown): Verdict {
    const text = `${this.#judged.name}: a message is ignored: ${described(error)}`;
    process.emitWarning(text, { type: "SidecarWarning", code: "SIDECAR_JUDGE" });
    return "IGNORE";
  }
}
