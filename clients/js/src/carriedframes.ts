/** The frames of byte streams that share a call, read and written by hand. */

import { Cursor, type StreamResponse, varintLength, writeVarint } from "./wire.js";

const NOTHING: Buffer = Buffer.alloc(0);

/** What the sidecar says of one stream. */
export interface IncomingFrame extends StreamResponse {
  stream: number;
  /** So many bytes more may be sent. */
  window: number;
  /** Nothing follows. */
  done: boolean;
  /** Of a stream that a peer has opened, in its first frame: the acceptor's number. */
  acceptor: number;
}

/** The frames of a CarryStreamsResponse. Throws InternalError. */
export function incomingFrames(bytes: Buffer): IncomingFrame[] {
  const frames: IncomingFrame[] = [];
  const at = new Cursor(bytes);
  while (at.at < bytes.length) {
    const tag = at.varint();
    if (tag === 0x0a) {
      frames.push(incomingFrame(at, at.end()));
    } else {
      at.skip(tag & 7);
    }
  }
  return frames;
}

function incomingFrame(at: Cursor, end: number): IncomingFrame {
  const frame: IncomingFrame = {
    stream: 0,
    opened: undefined,
    data: NOTHING,
    end: false,
    window: 0,
    done: false,
    status: undefined,
    acceptor: 0,
  };
  const bytes = () => {
    const stop = at.end();
    const value = at.bytes.subarray(at.at, stop);
    at.at = stop;
    return value;
  };
  while (at.at < end) {
    const tag = at.varint();
    switch (tag) {
      case 0x08:
        frame.stream = at.varint();
        break;
      case 0x12:
        frame.opened = bytes();
        break;
      case 0x1a:
        frame.data = bytes();
        break;
      case 0x20:
        frame.end = at.varint() !== 0;
        break;
      case 0x28:
        frame.window = at.varint();
        break;
      case 0x30:
        frame.done = at.varint() !== 0;
        break;
      case 0x3a:
        frame.status = bytes();
        break;
      case 0x40:
        frame.acceptor = at.varint();
        break;
      default:
        at.skip(tag & 7);
    }
  }
  return frame;
}

/** What the app says of one stream, as parts of a CarryStreamsRequest; data is not copied. */
export interface OutgoingFrame {
  readonly parts: readonly Buffer[];
  readonly size: number;
  /** Called when it has been put into a request, or never will be. */
  readonly taken?: () => void;
}

/** A frame: the stream's number, and a field that is encoded or ends with the data. */
export function outgoingFrame(number: number, field: Buffer, data = NOTHING, taken?: () => void): OutgoingFrame {
  const inner = 1 + varintLength(number) + field.length + data.length;
  const head = Buffer.allocUnsafe(1 + varintLength(inner) + inner - data.length);
  head[0] = 0x0a;
  let at = writeVarint(head, 1, inner);
  head[at++] = 0x08;
  at = writeVarint(head, at, number);
  field.copy(head, at);
  const frame = { parts: data.length > 0 ? [head, data] : [head], size: head.length + data.length };
  return taken === undefined ? frame : { ...frame, taken };
}

/** A tag and a number: a length, a count, or true. */
export function numberField(tag: number, value: number): Buffer {
  const field = Buffer.allocUnsafe(1 + varintLength(value));
  field[0] = tag;
  writeVarint(field, 1, value);
  return field;
}
