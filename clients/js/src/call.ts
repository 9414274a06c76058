/** One gRPC call, with bytes in and bytes out, and read only when somebody wants to. */

import { type ChannelInterface, Metadata, status, type StatusObject } from "@grpc/grpc-js";

import type { SidecarError } from "./errors.js";
import { at, now, onAbort, wallTime } from "./waiting.js";

/**
 * What gRPC calls opaque: the layer below its stream classes. Those read 16 messages ahead of the app, which may be
 * 16 MiB, and have an object and several promises more for each call. The version of gRPC is pinned to the minor one.
 */
type Layer = ReturnType<ChannelInterface["createCall"]>;

/** A call under way. */
export interface Active {
  /** End it at once. */
  cancel(reason: Error): void;
  /** It has ended in order as far as this side goes, and is to be left alone; what then remains is bounded in time. */
  readonly draining?: boolean;
  /** Call back when it is over. */
  onEnd?(callback: () => void): void;
}

/** What a call needs to know of its client. */
export interface Owner {
  readonly calls: Set<Active>;
  /** Keep what the initial metadata of a stream says. */
  note(metadata: Metadata): void;
  error(ended: StatusObject): SidecarError;
}

/** In the initial metadata of a stream that is in force, not of one that is refused. */
const OPEN = "sidecar-stream";

/** How a call is begun. */
export interface Beginning {
  channel: ChannelInterface;
  path: string;
  /** Its deadline, or Infinity. */
  until: number;
  metadata: Metadata;
}

/** A streaming call. */
export class Call implements Active {
  draining = false;
  readonly #owner: Owner;
  readonly #layer: Layer;
  #reader: { resolve(message: Buffer | undefined): void; reject(error: unknown): void } | undefined;
  #writer: ((written: boolean) => void) | undefined;
  #metadata: Metadata | undefined;
  #status: StatusObject | undefined;
  #reason: Error | undefined; // what was cancelled with
  #onMetadata: (() => void)[] = [];
  #onEnd: (() => void)[] = [];

  constructor(owner: Owner, { channel, path, until, metadata }: Beginning) {
    this.#owner = owner;
    this.#layer = channel.createCall(path, wallTime(until), null, null, null);
    owner.calls.add(this);
    this.#layer.start(metadata, {
      onReceiveMetadata: (received) => {
        this.#metadata = received;
        owner.note(received);
        this.#tellMetadata();
      },
      onReceiveMessage: (message: Buffer) => {
        const reader = this.#reader;
        this.#reader = undefined;
        reader?.resolve(message);
      },
      onReceiveStatus: (ended) => {
        this.#end(ended);
      },
    });
  }

  /** Whether the call is over, for whatever reason. */
  get over(): boolean {
    return this.#status !== undefined;
  }

  /** Wait until the server has said that it takes the call, or has ended it; false when it takes longer than that. */
  async accepted(longest = Infinity): Promise<boolean> {
    if (this.#metadata !== undefined || this.over) {
      return true;
    }
    let timer: NodeJS.Timeout | undefined;
    const accepted = await new Promise<boolean>((resolve) => {
      this.#onMetadata.push(() => {
        resolve(true);
      });
      timer = at(now() + longest, () => {
        resolve(false);
      });
    });
    clearTimeout(timer);
    return accepted;
  }

  #tellMetadata(): void {
    for (const callback of this.#onMetadata.splice(0)) {
      callback();
    }
  }

  /** Wait until the stream is in force; false when it ended before. */
  async inForce(): Promise<boolean> {
    await this.accepted();
    return this.#metadata !== undefined && this.#metadata.get(OPEN).length > 0;
  }

  /** What the server's metadata says under a name; empty where it does not. */
  said(name: string): string {
    return String(this.#metadata?.get(name)[0] ?? "");
  }

  /** The next message; undefined when the call has ended in order. One reader at a time. */
  read(): Promise<Buffer | undefined> {
    if (this.#status !== undefined) {
      return this.#status.code === status.OK ? Promise.resolve(undefined) : Promise.reject(this.failure());
    }
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
      this.#layer.startRead();
    });
  }

  /** What the call failed with. */
  failure(): Error {
    return this.#reason ?? this.#owner.error(this.#status ?? GONE);
  }

  /** Write a message; true when there is room for more, false once the call is over. One writer at a time. */
  write(message: Buffer): Promise<boolean> {
    if (this.over) {
      return Promise.resolve(false);
    }
    return new Promise((resolve) => {
      this.#writer = resolve;
      const done = () => {
        if (this.#writer === resolve) {
          this.#writer = undefined;
          resolve(!this.over);
        }
      };
      this.#layer.sendMessageWithContext({ callback: done }, message);
    });
  }

  /** Nothing more will be written. */
  halfClose(): void {
    if (!this.over) {
      this.#layer.halfClose();
    }
  }

  /** End the call at once, on the other side too; reading then gives `reason`. */
  cancel(reason: Error): void {
    if (!this.over) {
      this.#reason = reason;
      this.#layer.cancelWithStatus(status.CANCELLED, "cancelled by the app");
      this.#end(GONE);
    }
  }

  /** Call back when the call is over. */
  onEnd(callback: () => void): void {
    if (this.over) {
      callback();
    } else {
      this.#onEnd.push(callback);
    }
  }

  #end(ended: StatusObject): void {
    if (this.#status !== undefined) {
      return;
    }
    this.#status = ended;
    this.#owner.calls.delete(this);
    this.#tellMetadata();
    this.#writer?.(false);
    this.#writer = undefined;
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader !== undefined) {
      if (ended.code === status.OK) {
        reader.resolve(undefined);
      } else {
        reader.reject(this.failure());
      }
    }
    for (const callback of this.#onEnd.splice(0)) {
      callback();
    }
  }
}

const GONE: StatusObject = { code: status.CANCELLED, details: "cancelled by the app", metadata: new Metadata() };

/** One request, one response. */
export function unary(
  owner: Owner,
  { channel, path, until, metadata }: Beginning,
  request: Buffer,
  signal?: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let response: Buffer | undefined;
    const layer = channel.createCall(path, wallTime(until), null, null, null);
    const cancel = (reason: Error) => {
      finish();
      reject(reason);
      layer.cancelWithStatus(status.CANCELLED, "cancelled by the app");
    };
    const call = { cancel };
    const finish = () => {
      owner.calls.delete(call);
      stop();
    };
    owner.calls.add(call);
    const stop = onAbort(signal, cancel);
    layer.start(metadata, {
      onReceiveMetadata() {
        // of no interest
      },
      onReceiveMessage(message: Buffer) {
        response = message;
        layer.startRead();
      },
      onReceiveStatus(ended) {
        finish();
        if (ended.code === status.OK && response !== undefined) {
          resolve(response);
        } else if (ended.code === status.OK) {
          reject(owner.error({ ...ended, code: status.INTERNAL, details: "the call ended without a response" }));
        } else {
          reject(owner.error(ended));
        }
      },
    });
    layer.startRead();
    layer.sendMessageWithContext({}, request);
    layer.halfClose();
  });
}
