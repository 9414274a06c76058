/** A sidecar in this process, for tests: it serves what a test tells it to, and counts. */

import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as grpc from "@grpc/grpc-js";

import { Any } from "../src/generated/google/protobuf/any.js";
import { BadRequest, ErrorInfo, RetryInfo } from "../src/generated/google/rpc/error_details.js";
import { Status } from "../src/generated/google/rpc/status.js";
import { LagReason } from "../src/generated/sidecar/v1/common.js";
import { DirectServiceDefinition } from "../src/generated/sidecar/v1/direct.js";
import { DiscoveryServiceDefinition } from "../src/generated/sidecar/v1/discovery.js";
import { DurableServiceDefinition } from "../src/generated/sidecar/v1/durable.js";
import { GetNodeResponse, NodeServiceDefinition } from "../src/generated/sidecar/v1/node.js";
import { PeerServiceDefinition } from "../src/generated/sidecar/v1/peer.js";
import {
  PublishManyResponse,
  PublishOutcome,
  PubSubServiceDefinition,
  SubscribeResponse,
} from "../src/generated/sidecar/v1/pubsub.js";
import { StreamServiceDefinition } from "../src/generated/sidecar/v1/stream.js";

/* eslint-disable @typescript-eslint/no-explicit-any, @typescript-eslint/no-unsafe-assignment,
   @typescript-eslint/no-unsafe-argument, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-call,
   @typescript-eslint/no-unsafe-return -- one server for all methods */

export type UnaryCall<Request = any> = grpc.ServerUnaryCall<Request, any>;
export type StreamCall<Request = any> = grpc.ServerWritableStream<Request, any>;
export type DuplexCall<Request = any> = grpc.ServerDuplexStream<Request, any>;

/** Answers a unary call: returns the response, or throws a status. */
type UnaryHandler = (request: any, call: UnaryCall) => unknown;
type StreamHandler = (call: any) => unknown;
export type Handlers = Record<string, UnaryHandler | StreamHandler>;

interface Described {
  readonly fullName: string;
  readonly methods: Record<
    string,
    { name: string; requestType: any; responseType: any; requestStream: boolean; responseStream: boolean }
  >;
}

const SERVICES: Described[] = [
  NodeServiceDefinition,
  PeerServiceDefinition,
  DirectServiceDefinition,
  StreamServiceDefinition,
  PubSubServiceDefinition,
  DiscoveryServiceDefinition,
  DurableServiceDefinition,
];

/** The status of an error as the sidecar sends it. */
export function failure(
  code: grpc.status,
  message: string,
  { reason, field, retry }: { reason?: string; field?: string; retry?: number } = {},
): Partial<grpc.StatusObject> & Error {
  const details: Any[] = [];
  const pack = (name: string, value: Uint8Array) => {
    details.push({ typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(value) });
  };
  if (reason !== undefined) {
    pack("ErrorInfo", ErrorInfo.encode({ reason, domain: "sidecar", metadata: {} }).finish());
  }
  if (field !== undefined) {
    pack(
      "BadRequest",
      BadRequest.encode(BadRequest.fromPartial({ fieldViolations: [{ field, description: "wrong" }] })).finish(),
    );
  }
  if (retry !== undefined) {
    pack("RetryInfo", RetryInfo.encode({ retryDelay: { seconds: 0n, nanos: retry * 1e6 } }).finish());
  }
  const metadata = new grpc.Metadata();
  if (details.length > 0) {
    metadata.set("grpc-status-details-bin", Buffer.from(Status.encode({ code, message, details }).finish()));
  }
  return Object.assign(new Error(message), { code, details: message, metadata });
}

/** Say that a stream is in force, and how many bytes its requests may have. */
export function inForce(call: { sendMetadata(metadata: grpc.Metadata): void }, most?: number): void {
  const metadata = new grpc.Metadata();
  metadata.set("sidecar-stream", "open");
  if (most !== undefined) {
    metadata.set("sidecar-max-request", String(most));
  }
  call.sendMetadata(metadata);
}

/** Something that a test waits for. */
export class Signal<Value = void> {
  readonly promise: Promise<Value>;
  set!: (value: Value) => void;

  constructor() {
    this.promise = new Promise((resolve) => {
      this.set = resolve;
    });
  }
}

export class FakeSidecar {
  readonly folder = mkdtempSync(join(tmpdir(), "fake-"));
  readonly path = join(this.folder, "api.sock");
  /** How often each method was called. */
  readonly calls: Record<string, number> = {};
  /** The metadata of the last call. */
  metadata = new grpc.Metadata();
  readonly handlers: Handlers;
  /** The largest request that is taken. */
  most = 4 << 20;
  #server: grpc.Server | undefined;

  constructor(handlers: Handlers = {}) {
    this.handlers = {
      getNode: () => GetNodeResponse.fromPartial({ node: { peerId: "me", network: "test" } }),
      ...handlers,
    };
  }

  get target(): string {
    return `unix:${this.path}`;
  }

  /** Serve at the socket, or at a port of loopback, which is returned. */
  async start(credentials?: grpc.ServerCredentials): Promise<number> {
    const server = (this.#server = new grpc.Server({ "grpc.max_receive_message_length": this.most }));
    for (const service of SERVICES) {
      const definition: Record<string, grpc.MethodDefinition<any, any>> = {};
      const implementation: grpc.UntypedServiceImplementation = {};
      for (const [name, method] of Object.entries(service.methods)) {
        definition[name] = {
          path: `/${service.fullName}/${method.name}`,
          requestStream: method.requestStream,
          responseStream: method.responseStream,
          requestSerialize: (message) => message,
          requestDeserialize: (bytes) => method.requestType.decode(bytes),
          responseSerialize: (message) =>
            Buffer.isBuffer(message)
              ? message
              : Buffer.from(method.responseType.encode(method.responseType.fromPartial(message)).finish()),
          responseDeserialize: (bytes) => bytes,
        };
        implementation[name] = (call: any, callback: any) => {
          void this.#answer(name, call, callback);
        };
      }
      server.addService(definition, implementation);
    }
    const [address, how] = credentials
      ? ["127.0.0.1:0", credentials]
      : [this.target, grpc.ServerCredentials.createInsecure()];
    return await new Promise((resolve, reject) => {
      server.bindAsync(address, how, (error, port) => {
        if (error) {
          reject(error);
        } else {
          resolve(port);
        }
      });
    });
  }

  async #answer(name: string, call: any, callback: any): Promise<void> {
    this.calls[name] = (this.calls[name] ?? 0) + 1;
    this.metadata = call.metadata;
    const handler = this.handlers[name];
    try {
      if (handler === undefined) {
        throw failure(grpc.status.UNIMPLEMENTED, `${name} is not there`);
      }
      if (callback === undefined) {
        call.on("error", () => undefined); // the client has cancelled
        await (handler as StreamHandler)(call);
      } else {
        callback(null, await (handler as UnaryHandler)(call.request, call));
      }
    } catch (error) {
      if (callback === undefined) {
        call.emit("error", error);
      } else {
        callback(error);
      }
    }
  }

  /** Die: all connections are cut. */
  kill(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  close(): void {
    this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Topics of a sidecar: history, cursors, and receipts. */
export class Hub {
  epoch = "1";
  readonly history: { topic: string; data: Buffer }[] = [];
  readonly frames: { data: Buffer; requestId: string }[][] = [];
  readonly singles: { data: Buffer; requestId: string }[] = [];
  /** What it says that requests may have. */
  most: number | undefined;
  readonly #subscribers = new Set<() => void>();
  /** Answers each bulk frame; by default all are sent. */
  outcome: (data: Buffer) => PublishOutcome = () => PublishOutcome.SENT;

  get subscribers(): number {
    return this.#subscribers.size;
  }

  add(topic: string, ...payloads: (string | Buffer)[]): void {
    this.history.push(...payloads.map((data) => ({ topic, data: Buffer.from(data) })));
    for (const wake of [...this.#subscribers]) {
      wake();
    }
  }

  cursor(at: number): Buffer {
    return Buffer.from(`${this.epoch}/${at}`);
  }

  handlers(): Handlers {
    return {
      subscribe: (call: StreamCall) => {
        this.#subscribe(call);
      },
      publish: ({ topic, data, requestId }: { topic: string; data: Buffer; requestId: string }) => {
        this.singles.push({ data, requestId });
        this.add(topic, data);
        return { receipt: { outcome: this.outcome(data), messageId: idOf(data), peers: 1, dropped: 0 } };
      },
      publishMany: (call: DuplexCall) => {
        inForce(call, this.most);
        let number = 0;
        let topic = "";
        let ids = false;
        call.on("data", (request) => {
          if (request.topic !== "") {
            topic = request.topic;
          }
          ids ||= request.returnMessageIds;
          this.frames.push(request.messages);
          const payloads: Buffer[] = request.messages.map(({ data }: { data: Buffer }) => data);
          this.add(topic, ...payloads);
          const receipts = payloads.map((data, index) => ({
            first: number + index,
            count: 1,
            outcome: this.outcome(data),
            peers: 1,
            dropped: 0,
            messageIds: ids ? [idOf(data)] : [],
          }));
          number += payloads.length;
          call.write(PublishManyResponse.fromPartial({ receipts }));
        });
        call.on("end", () => {
          call.end();
        });
      },
    };
  }

  #subscribe(call: StreamCall): void {
    inForce(call);
    const [epoch, given] = call.request.cursor.toString().split("/");
    let at = given === undefined ? this.history.length : Number(given);
    const first = SubscribeResponse.fromPartial({ cursor: this.cursor(at) });
    if (given !== undefined && epoch !== this.epoch) {
      at = 0;
      first.lagged = { reason: LagReason.RESTARTED };
      first.cursor = this.cursor(0);
    }
    call.write(first);
    const send = () => {
      if (at < this.history.length) {
        const messages = this.history.slice(at).map(({ topic, data }, index) => ({
          topic,
          data,
          sender: "somebody",
          messageId: idOf(data),
          cursor: this.cursor(at + index + 1),
          receiveTime: { seconds: 1, nanos: 500_000_000 },
        }));
        at = this.history.length;
        call.write(SubscribeResponse.fromPartial({ messages }));
      }
    };
    this.#subscribers.add(send);
    call.on("cancelled", () => {
      this.#subscribers.delete(send);
    });
    send();
  }
}

export function idOf(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from("id of "), data]);
}

/** When a call on the server's side was cancelled by its client. */
export async function cancelled(call: grpc.ServerUnaryCall<any, any> | StreamCall | DuplexCall): Promise<void> {
  if (!call.cancelled) {
    await once(call, "cancelled");
  }
}
