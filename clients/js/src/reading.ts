/**
 * Reading that may be given up at any moment and taken up again: nothing is lost by it, and nothing comes twice.
 *
 * What arrives stays at hand with the stream until a step takes it, in the same turn in which that step is answered. A
 * step whose reader has gone takes nothing.
 */

import { FailedPrecondition } from "./errors.js";

interface Step {
  readonly owner: object;
  readonly promise: Promise<unknown>;
  /** Answer it with what is at hand; false when there is nothing. */
  readonly answer: () => boolean;
  readonly end: () => void;
  readonly fail: (error: unknown) => void;
}

function nothing(): void {
  // told elsewhere
}

/** `Promise.withResolvers`, which Node 20 does not have. */
function withResolvers<Value>() {
  let resolve!: (value: Value) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<Value>((resolves, rejects) => {
    resolve = resolves;
    reject = rejects;
  });
  return { promise, resolve, reject };
}

/** The steps that wait for one stream. */
export class Reading {
  readonly #fill: () => Promise<boolean>;
  #steps: Step[] = [];
  #together = false; // those that wait have been begun in this very turn
  #filling = false;

  /**
   * @param fill - Lets more be at hand; false at the end of the stream. It goes on when nobody waits any more, and what
   * it rejects with it rejects with again.
   */
  constructor(fill: () => Promise<boolean>) {
    this.#fill = fill;
  }

  /**
   * An iterator over what `take` takes of what is at hand.
   *
   * Steps that are asked for at once are answered one after the other. One that is asked for later, of this or another
   * iterator, takes the place of those that still wait: their reader has given up, such as by `Promise.race`.
   */
  iterator<Item>(take: () => Item | undefined): AsyncIterableIterator<Item, undefined> {
    const owner = {};
    return {
      next: () => {
        if (this.#steps.length === 0) {
          const value = take();
          if (value !== undefined) {
            return Promise.resolve({ value, done: false });
          }
        }
        return this.#step(owner, take);
      },
      return: () => {
        this.#giveUp(owner);
        return Promise.resolve({ value: undefined, done: true });
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** Something has come to hand beside what was waited for. */
  offer(): void {
    while (this.#steps[0]?.answer()) {
      this.#steps.shift();
    }
  }

  #step<Item>(owner: object, take: () => Item | undefined): Promise<IteratorResult<Item, undefined>> {
    if (!this.#together) {
      for (const { promise, fail } of this.#steps.splice(0)) {
        promise.catch(nothing); // nobody may be looking any more
        fail(new FailedPrecondition("a later read of this stream has taken the place of this one"));
      }
      this.#together = true;
      queueMicrotask(() => {
        this.#together = false;
      });
    }
    const { promise, resolve, reject } = withResolvers<IteratorResult<Item, undefined>>();
    this.#steps.push({
      owner,
      promise,
      answer: () => {
        const value = take();
        if (value !== undefined) {
          resolve({ value, done: false });
        }
        return value !== undefined;
      },
      end: () => {
        resolve({ value: undefined, done: true });
      },
      fail: reject,
    });
    if (!this.#filling) {
      void this.#answer();
    }
    return promise;
  }

  #giveUp(owner: object): void {
    const left = this.#steps.filter((step) => step.owner === owner);
    this.#steps = this.#steps.filter((step) => step.owner !== owner);
    for (const { end } of left) {
      end();
    }
  }

  /** Answer those that wait, as long as any do. */
  async #answer(): Promise<void> {
    this.#filling = true;
    let failure: { error: unknown } | undefined;
    let more = true;
    try {
      while (more && this.#steps.length > 0) {
        if (this.#steps[0]?.answer()) {
          this.#steps.shift();
        } else {
          more = await this.#fill();
        }
      }
    } catch (error) {
      failure = { error };
    }
    this.#filling = false;
    const left = this.#steps.splice(0);
    if (failure !== undefined) {
      left.shift()?.fail(failure.error); // as generators do: the others come to the end
    }
    for (const { end } of left) {
      end();
    }
  }
}
