/** How long things wait, and what ends that: deadlines, signals of apps, pauses between tries. */

import { checkTime } from "./checks.js";
import type { CallOptions } from "./types.js";

const FIRST_PAUSE = 50; // milliseconds between tries, doubling
const LAST_PAUSE = 1000;
/** How long calls without a deadline wait for a connection, in milliseconds. */
export const PATIENCE = 10_000;
const LONGEST = 2 ** 31 - 1; // milliseconds that a timer takes

/** The time in milliseconds, of a clock that nobody sets. All times in this library are of it. */
export function now(): number {
  return performance.now();
}

/** A time as gRPC wants it, of the wall clock: for use at once. */
export function wallTime(time: number): number {
  return time === Infinity ? Infinity : Date.now() + time - now();
}

/** The deadline of a call with these options. */
export function deadline({ timeout }: CallOptions): number {
  if (timeout === undefined) {
    return Infinity;
  }
  checkTime(timeout, "timeout");
  return now() + timeout;
}

/** Call back at a time, but not for `LONGEST` where that is later; undefined where that is never. */
export function at(time: number, callback: () => void): NodeJS.Timeout | undefined {
  return time - now() > LONGEST ? undefined : setTimeout(callback, time - now());
}

/** What a signal ends, behind one listener: adding a listener walks over all that the signal has. */
class Ends {
  static readonly #known = new WeakMap<AbortSignal, Ends>();
  readonly #signal: AbortSignal;
  readonly #callbacks = new Set<(reason: Error) => void>();

  private constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort);
    Ends.#known.set(signal, this);
  }

  static of(signal: AbortSignal): Ends {
    return Ends.#known.get(signal) ?? new Ends(signal);
  }

  readonly #onAbort = () => {
    for (const callback of [...this.#callbacks]) {
      callback(this.#signal.reason as Error);
    }
  };

  add(callback: (reason: Error) => void): () => void {
    this.#callbacks.add(callback);
    return () => {
      if (this.#callbacks.delete(callback) && this.#callbacks.size === 0) {
        // With a listener Node keeps some signals, which `AbortSignal.any` and `timeout` make, for as long as it can.
        this.#signal.removeEventListener("abort", this.#onAbort);
        Ends.#known.delete(this.#signal);
      }
    };
  }
}

/**
 * Call back with its reason when a signal is aborted; at once where it is already.
 *
 * @returns What ends that.
 */
export function onAbort(signal: AbortSignal | undefined, callback: (reason: Error) => void): () => void {
  if (signal === undefined) {
    return nothing;
  }
  if (signal.aborted) {
    callback(signal.reason as Error);
    return nothing;
  }
  return Ends.of(signal).add(callback);
}

function nothing(): void {
  // nothing was begun
}

/** Sleep; rejects with the reason of a signal that is aborted. */
export async function sleep(milliseconds: number, ...signals: (AbortSignal | undefined)[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const stops: (() => void)[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(resolve, milliseconds);
      stops.push(...signals.map((signal) => onAbort(signal, reject)));
    });
  } finally {
    clearTimeout(timer);
    for (const stop of stops) {
      stop();
    }
  }
}

/** Pauses between tries: jittered, doubling. */
export class Pauses {
  #next = FIRST_PAUSE;

  /** The next one, in milliseconds. */
  next(): number {
    const pause = this.#next * (0.75 + Math.random() / 2);
    this.#next = Math.min(this.#next * 2, LAST_PAUSE);
    return Math.min(pause, LAST_PAUSE);
  }

  /** It went well: begin anew. */
  reset(): void {
    this.#next = FIRST_PAUSE;
  }
}
