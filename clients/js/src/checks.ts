/** Whether what an app has given can be what it is to be. Not all apps have types. */

import { InvalidArgument } from "./errors.js";

/** What Node 20 has and its types do not. */
interface Text {
  isWellFormed(): boolean;
}

/** Throws InvalidArgument where a text is none: half of a surrogate pair would silently become another character. */
export function checkText(text: unknown, field: string): asserts text is string {
  if (typeof text !== "string") {
    throw new InvalidArgument(`${field} is ${shown(text)}, and no string`, { field });
  }
  if (!(text as unknown as Text).isWellFormed()) {
    throw new InvalidArgument(`${field} has half of a surrogate pair, which UTF-8 cannot hold`, { field });
  }
}

/** Throws InvalidArgument where a number is not a whole one from 0 on. */
export function checkCount(value: number, field: string): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgument(`${field} is ${shown(value)}, a whole number from 0 on`, { field });
  }
}

/** Throws InvalidArgument where a value is no finite number. */
export function checkNumber(value: unknown, field: string): asserts value is number {
  if (!Number.isFinite(value)) {
    throw new InvalidArgument(`${field} is ${shown(value)}, and no finite number`, { field });
  }
}

/** Milliseconds from 0 on. Throws InvalidArgument. */
export function checkTime(value: unknown, field: string): asserts value is number {
  if (typeof value !== "number" || !(value >= 0)) {
    throw new InvalidArgument(`${field} is ${shown(value)}, at least 0`, { field });
  }
}

/** Fields that are any number; the others are counts. */
const REAL: ReadonlySet<string> = new Set(["score", "expectedRate"]);

/** The texts and numbers of a request, and lists of texts. */
export function checkRequest(request: object): void {
  for (const [name, value] of Object.entries(request) as [string, unknown][]) {
    const field = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (REAL.has(name)) {
      checkNumber(value, field);
    } else if (typeof value === "string") {
      checkText(value, field);
    } else if (typeof value === "number") {
      checkCount(value, field);
    } else if (Array.isArray(value) && typeof value[0] !== "object") {
      for (const text of value) {
        if (typeof text !== "bigint") {
          checkText(text, field);
        }
      }
    }
  }
}

/** Something of any kind, for an error. */
export function shown(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value);
  }
  return value === null || typeof value === "number" ? String(value) : `of type ${typeof value}`;
}

/** What an app threw, in words. Anything may have been thrown. */
export function described(error: unknown): string {
  try {
    return String(error instanceof Error ? (error.stack ?? error.message) : error);
  } catch {
    return "what it threw cannot be shown"; // its toString, or a getter, throws
  }
}
