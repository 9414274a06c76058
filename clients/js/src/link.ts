/** The connection to the sidecar: made when it is needed, tried again while somebody waits for it. */

import type { Socket } from "node:net";

import {
  Channel,
  type ChannelCredentials,
  type ChannelInterface,
  connectivityState,
  Metadata,
  status,
  type StatusObject,
} from "@grpc/grpc-js";

import { type Active, Call, unary } from "./call.js";
import { checkRequest, checkTime } from "./checks.js";
import { decoded } from "./convert.js";
import {
  Closed,
  DeadlineExceeded,
  fromStatus,
  InvalidArgument,
  neverLeft,
  SidecarError,
  SidecarUnavailable,
} from "./errors.js";
import { CAUTIOUS, type Frames, USUAL, within } from "./frames.js";
import { findTarget, type Target, Tls, type TlsOptions, Token } from "./target.js";
import type { CallOptions } from "./types.js";
import { at, deadline, now, onAbort, PATIENCE, Pauses, sleep } from "./waiting.js";

/** How to connect. */
export interface ConnectOptions {
  /** Milliseconds to wait for the sidecar, trying again and again; 0: one try. Default 10,000. */
  wait?: number;
  /** Whether streams survive the sidecar's restarts. Default true. */
  reconnect?: boolean;
  /** Sent with every call as `authorization: Bearer`; default `SIDECAR_TOKEN`. Never sent in clear over a network. */
  token?: string;
  /** A file that has the token, read again when it changes; default `SIDECAR_TOKEN_FILE`. */
  tokenFile?: string;
  /** For a `tls://` target. */
  tls?: TlsOptions;
  /** Gives up connecting. */
  signal?: AbortSignal;
}

const OPTIONS = {
  "grpc-node.flow_control_window": 65_535, // a slow reader is noticed early
  "grpc.max_receive_message_length": -1, // the sidecar bounds its batches
  "grpc.max_send_message_length": -1, // and says itself what is too large
  "grpc.use_local_subchannel_pool": 1, // each client its own connection
  "grpc.enable_http_proxy": 0,
  "grpc.enable_channelz": 0,
  "grpc.service_config_disable_resolution": 1,
  "grpc.client_idle_timeout_ms": 2 ** 31 - 1,
  // What gRPC keeps to try again it reports as written, up to 1 MiB ahead of the connection.
  "grpc.enable_retries": 0,
  "grpc.per_rpc_retry_buffer_size": 0,
};
/** Milliseconds; tests shorten them. */
export const TIMES = {
  /** What even the impatient wait for a connection. */
  oneTry: 1000,
  /** What a call waits for the server's headers: some send none before their first response. */
  headers: 1000,
};
const SAID = "sidecar-max-request";
/** Milliseconds for which a call is kept open that nobody uses: an open call keeps the process alive. */
export const KEPT = 1000;

/** A method of the API, as the generated code describes it. */
export interface Method<Request, Response> {
  readonly path: string;
  /** Throws InvalidArgument. */
  encode(request: Partial<Request>): Buffer;
  /** Throws InternalError. */
  decode(response: Uint8Array): Response;
}

interface Generated<Message> {
  fromPartial(some: Partial<Message>): Message; // fields that a later schema has are missing here
  encode(message: Message): { finish(): Uint8Array };
  decode(input: Uint8Array): Message;
}

/** A method from the generated description of its service. */
export function method<Request, Response>(
  service: { readonly fullName: string },
  described: {
    readonly name: string;
    readonly requestType: Generated<Request>;
    readonly responseType: Generated<Response>;
  },
): Method<Request, Response> {
  return {
    path: `/${service.fullName}/${described.name}`,
    encode: (request) => {
      checkRequest(request);
      try {
        return Buffer.from(described.requestType.encode(described.requestType.fromPartial(request)).finish());
      } catch (error) {
        throw new InvalidArgument(`${described.name}: ${String(error)}`, { cause: error }); // a number that is too large
      }
    },
    decode: (response) => decoded(described.responseType, response),
  };
}

interface Waiter {
  readonly resolve: (channel: ChannelInterface) => void;
  readonly reject: (error: unknown) => void;
  /** A try has failed. */
  readonly failed: () => void;
}

/** All that is known of the connection. */
export class Link {
  readonly target: Target;
  readonly reconnect: boolean;
  readonly calls = new Set<Active>();
  /** Aborted with the error for everybody when the client is closed. */
  readonly closing = new AbortController();
  readonly #tls: Tls;
  readonly #token: Token;
  /**
   * Whether calls stay open for what is called for later. Quotas slow streams and refuse single calls: where there may
   * be some, for a token, a message that is alone stays a single call.
   */
  readonly keeps: boolean;
  readonly #waiters = new Set<Waiter>();
  readonly #sockets = new Set<Socket>();
  #channel: ChannelInterface | undefined;
  #connecting: Promise<void> | undefined;
  #tries = 0;
  #lastError = "";
  // Of the sidecar at the present connection:
  /** The paths of methods that it is too old to have. */
  readonly lacking = new Set<string>();
  #said: Frames | undefined;
  #silent = false; // it sent no headers in the time for them

  constructor(target: string | undefined, options: ConnectOptions) {
    checkTime(options.wait ?? 0, "wait");
    this.target = findTarget(target);
    this.reconnect = options.reconnect ?? true;
    this.#tls = new Tls(this.target, options.tls ?? {});
    this.#token = new Token(options);
    this.#token.get(); // a wrong path is an error at once
    this.keeps = !this.#token.given;
    if (this.#token.given && !this.target.tls && !this.target.local) {
      throw new InvalidArgument(
        `a token is not sent in clear to ${this.target.text}: use tls://, a Unix socket or a loopback address`,
        { field: "token" },
      );
    }
    this.closing.signal.addEventListener("abort", () => {
      this.#shut();
    });
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.closing.signal.aborted;
  }

  /** Throws `Closed` after `close`. */
  checkOpen(): void {
    this.closing.signal.throwIfAborted();
  }

  /** The typed error of a call that has ended. */
  error(ended: StatusObject): SidecarError {
    const error = fromStatus(ended, this.target.text);
    return neverLeft(ended) ? markUnsent(error) : error;
  }

  /** The error of what was not done in time; where there is no sidecar, that is why. */
  late(what: string): DeadlineExceeded {
    const why = this.#connecting !== undefined && !this.closed ? `: no sidecar answers at ${this.target.text}` : "";
    const last = why && this.#lastError && `; the last error: ${this.#lastError}`;
    return new DeadlineExceeded(what + why + last, { code: "DEADLINE_EXCEEDED" });
  }

  /** What a request may hold, as far as is known. */
  get frames(): Frames {
    return this.#said ?? (this.#silent ? CAUTIOUS : USUAL);
  }

  /** Keep what a stream's initial metadata says about its requests. */
  note(metadata: Metadata): void {
    const size = Number(metadata.get(SAID)[0]);
    if (size > 0) {
      this.#said = within(size);
    }
  }

  /** Wait, where nothing is known, until a call that takes batches is accepted: then `frames` are its sidecar's. */
  async learn(call: Call): Promise<void> {
    if (this.#said !== undefined || this.#silent) {
      return;
    }
    if (!(await call.accepted(TIMES.headers))) {
      this.#silent = true;
    } else if (!call.over) {
      this.#said ??= USUAL;
    }
  }

  /**
   * A channel that is connected.
   *
   * @param patience - Milliseconds to wait for it, Infinity for ever.
   * @param until - The deadline of the call that it is for.
   */
  ready(patience: number, until = Infinity, signal?: AbortSignal): Promise<ChannelInterface> {
    if (this.closed || signal?.aborted) {
      return Promise.reject((this.closed ? this.closing.signal.reason : signal?.reason) as Error);
    }
    const channel = this.#channel;
    if (channel?.getConnectivityState(false) === connectivityState.READY) {
      return Promise.resolve(channel);
    }
    return new Promise((resolve, reject) => {
      const begun = now();
      const tries = this.#tries;
      const finish = () => {
        clearTimeout(timer);
        stop();
        this.#waiters.delete(waiter);
      };
      const unavailable = () => {
        const { text, origin } = this.target;
        const seconds = ((now() - begun) / 1000).toFixed(1);
        const count = this.#tries - tries;
        const error = this.#lastError || "no answer yet";
        return new SidecarUnavailable(
          `no sidecar answers at ${text} (from ${origin}): tried ${count} times in ${seconds} s; the last error: ${error}`,
        );
      };
      const waiter: Waiter = {
        resolve: (connected) => {
          finish();
          resolve(connected);
        },
        reject: (error) => {
          finish();
          reject(error);
        },
        failed: () => {
          if (now() - begun >= patience) {
            waiter.reject(unavailable());
          }
        },
      };
      const longest = begun + Math.max(patience, TIMES.oneTry);
      const timer = at(Math.min(until, longest), () => {
        const error = unavailable();
        waiter.reject(until <= longest ? new DeadlineExceeded(`not done in time: ${error.message}`) : error);
      });
      const stop = onAbort(signal, waiter.reject);
      this.#waiters.add(waiter);
      this.#connecting ??= this.#connect();
    });
  }

  /** Begin a streaming call on a channel that is ready. */
  stream(channel: ChannelInterface, path: string, until = Infinity): Call {
    this.checkOpen();
    return new Call(this, { channel, path, until, metadata: this.metadata() });
  }

  /** Make a unary call once, on a channel that is ready. */
  async once<Request, Response>(
    channel: ChannelInterface,
    called: Method<Request, Response>,
    request: Partial<Request>,
    until: number,
    signal?: AbortSignal,
  ): Promise<Response> {
    this.checkOpen();
    const beginning = { channel, path: called.path, until, metadata: this.metadata() };
    return called.decode(await unary(this, beginning, called.encode(request), signal));
  }

  /**
   * Make a unary call; again where the connection was lost and that does no harm.
   *
   * @param harmless - Whether it may be repeated even if the sidecar has perhaps got it.
   */
  async unary<Request, Response>(
    called: Method<Request, Response>,
    request: Partial<Request>,
    options: CallOptions,
    harmless = false,
  ): Promise<Response> {
    const until = deadline(options);
    const patience = now() + (this.reconnect ? PATIENCE : 0);
    const pauses = new Pauses();
    for (;;) {
      const channel = await this.ready(patience - now(), until, options.signal);
      try {
        return await this.once(channel, called, request, until, options.signal);
      } catch (error) {
        const again = isLost(error) && (harmless || isUnsent(error)) && now() < patience;
        if (!again || this.closed) {
          throw error;
        }
      }
      await sleep(Math.min(pauses.next(), until - now()), this.closing.signal, options.signal);
    }
  }

  /** What goes with every call. */
  metadata(): Metadata {
    const metadata = new Metadata();
    const token = this.#token.get();
    if (token !== undefined) {
      metadata.set("authorization", `Bearer ${token}`);
    }
    return metadata;
  }

  /** End everything, but let what has ended in order leave the sidecar. */
  async close(): Promise<void> {
    if (!this.closed) {
      this.closing.abort(new Closed("this client has been closed"));
    }
    const ends = [...this.calls].map((call) => new Promise<void>((resolve) => call.onEnd?.(resolve)));
    await Promise.all(ends);
    await new Promise((resolve) => setImmediate(resolve)); // gRPC says goodbye in the next turn
    await Promise.all(
      [...this.#sockets].map((socket) => new Promise((resolve) => socket.destroy().once("close", resolve))),
    );
  }

  #shut(): void {
    const reason = this.closing.signal.reason as Error;
    for (const waiter of [...this.#waiters]) {
      waiter.reject(reason);
    }
    for (const call of [...this.calls]) {
      if (call.draining !== true) {
        call.cancel(reason);
      }
    }
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** Try until it is connected or nobody waits any more. */
  async #connect(): Promise<void> {
    const alive = setInterval(() => undefined, 2 ** 30); // gRPC's own handles do not keep the process
    const pauses = new Pauses();
    try {
      while (this.#waiters.size > 0 && !this.closed) {
        const channel = (this.#channel ??= this.#newChannel());
        const error = await this.#attempt(channel);
        if (this.closed) {
          return;
        }
        if (error === undefined) {
          this.#said = undefined; // another sidecar may be there now
          this.lacking.clear();
          this.#silent = false;
          for (const waiter of [...this.#waiters]) {
            waiter.resolve(channel);
          }
          return;
        }
        this.#tries += 1;
        this.#lastError = error;
        channel.close(); // gRPC's own pauses would go on; calls that it still carries do too
        this.#channel = undefined;
        for (const waiter of [...this.#waiters]) {
          waiter.failed();
        }
        if (this.#waiters.size > 0) {
          await sleep(pauses.next(), this.closing.signal);
        }
      }
    } catch (error) {
      for (const waiter of [...this.#waiters]) {
        waiter.reject(error);
      }
    } finally {
      clearInterval(alive);
      this.#connecting = undefined;
    }
  }

  #newChannel(): ChannelInterface {
    const credentials = watched(this.#tls.credentials(), this.#sockets, this.closing.signal);
    return new Channel(this.target.address, credentials, OPTIONS);
  }

  /** Connect a channel; what went wrong, in words, undefined when nothing did. */
  async #attempt(channel: ChannelInterface): Promise<string | undefined> {
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY || state === connectivityState.SHUTDOWN) {
        return undefined;
      }
      if (state === connectivityState.TRANSIENT_FAILURE) {
        return await whyNot(channel);
      }
      await new Promise((resolve) => {
        channel.watchConnectivityState(state, Infinity, resolve);
      });
    }
  }
}

/**
 * Note the sockets of a channel. gRPC lets go of one on which nobody has answered yet without closing it, and tells
 * nobody when the others have closed.
 */
function watched(credentials: ChannelCredentials, sockets: Set<Socket>, closing: AbortSignal): ChannelCredentials {
  const create = credentials._createSecureConnector.bind(credentials);
  credentials._createSecureConnector = (...given) => {
    const connector = create(...given);
    const secure = connector.connect.bind(connector);
    connector.connect = (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      if (closing.aborted) {
        socket.destroy(); // it was connected while the client closed
      }
      return secure(socket);
    };
    return connector;
  };
  return credentials;
}

/** A channel that is not connected tells why only to calls. */
function whyNot(channel: ChannelInterface): Promise<string> {
  return new Promise((resolve) => {
    const call = channel.createCall("/sidecar.v1.NodeService/GetNode", Infinity, null, null, null);
    call.start(new Metadata(), {
      onReceiveMetadata() {
        call.cancelWithStatus(status.CANCELLED, "connected after all");
      },
      onReceiveMessage() {
        // of no interest
      },
      onReceiveStatus({ details }) {
        const words = /^No connection established\. Last error: (.*)\. Resolution note: .*$/s.exec(details)?.[1];
        resolve(words ?? details);
      },
    });
  });
}

/** Whether the sidecar is gone, or going. */
export function isLost(error: unknown): error is SidecarError {
  // A sidecar that is going may cancel what it has.
  return (
    error instanceof SidecarUnavailable ||
    (error instanceof Closed && (error.code === "UNAVAILABLE" || error.code === "CANCELLED"))
  );
}

const UNSENT = new WeakSet<object>();

/** Note that what failed with this error cannot have reached the sidecar. */
export function markUnsent(error: SidecarError): SidecarError {
  UNSENT.add(error);
  return error;
}

/** Whether what failed with this error cannot have reached the sidecar. */
export function isUnsent(error: unknown): boolean {
  return error instanceof SidecarError && UNSENT.has(error);
}
