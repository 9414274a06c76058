/** A bound on what waits in the client, where a sidecar hangs or is away. */

/** Bytes that wait, for each of publishing, sending and asking. */
const MOST = 32 << 20;
/** What a message counts beside its data: 65,536 wait at most, about what they take. */
const MESSAGE_COST = 512;
/** How many may lie about whose callers have given up, before they are swept out where they are half of all. */
const MOST_GONE = 64;

/** A message that takes room until it is done with. */
export interface Guest {
  /** What it counts; of `costOf`. */
  readonly cost: number;
  /** Whether its caller has an answer, or has given up. */
  settled: boolean;
  /** Whether it is counted. */
  inside?: boolean;
  /** Called when there is room for it, if there was none at once. */
  admitted?: (() => void) | undefined;
}

/** What a message counts. One that is larger than all there is takes all. */
export function costOf(data: Uint8Array): number {
  return Math.min(data.length + MESSAGE_COST, MOST);
}

/** Whether so many of those that wait have gone that the others are worth finding. */
export function piledUp(gone: number, all: number): boolean {
  return gone > MOST_GONE && gone > all / 2;
}

/** The room there is. Who comes when it is full waits, in order. */
export class Room {
  #used = 0;
  #waiting: Guest[] = [];
  #next = 0; // of those; the ones before are inside
  #gone = 0; // of those behind that

  /** True when there is room; otherwise `admitted` is called once there is. */
  enter(guest: Guest): boolean {
    if (this.#next === this.#waiting.length && this.#used + guest.cost <= MOST) {
      this.#used += guest.cost;
      guest.inside = true;
      return true;
    }
    this.#waiting.push(guest);
    return false;
  }

  /** A guest is settled, wherever it was. */
  leave(guest: Guest): void {
    if (guest.inside) {
      guest.inside = false;
      this.#used -= guest.cost;
    } else {
      this.#gone += 1;
      if (piledUp(this.#gone, this.#waiting.length - this.#next)) {
        this.#sweep();
      }
    }
    this.#admit();
  }

  #sweep(): void {
    this.#waiting = this.#waiting.slice(this.#next).filter(({ settled }) => !settled);
    this.#next = 0;
    this.#gone = 0;
  }

  #admit(): void {
    for (let guest = this.#waiting[this.#next]; guest !== undefined; guest = this.#waiting[this.#next]) {
      if (guest.settled) {
        this.#gone -= 1;
      } else if (this.#used + guest.cost <= MOST) {
        this.#used += guest.cost;
        guest.inside = true;
      } else {
        break;
      }
      this.#next += 1;
      if (guest.inside) {
        guest.admitted?.();
      }
    }
    if (this.#next > this.#waiting.length / 2) {
      this.#sweep();
    }
  }
}
