/** What the tests share. */

import { type TestContext } from "node:test";

import { type Client, connect } from "../src/index.js";
import type { ConnectOptions } from "../src/index.js";
import { FakeSidecar, type Handlers } from "./fake.js";

/** A sidecar that serves, and a client of it; both are closed when the test ends. */
export async function joined(
  t: TestContext,
  handlers: Handlers = {},
  options: ConnectOptions = {},
  most?: number, // bytes of a request
): Promise<{ sidecar: FakeSidecar; node: Client }> {
  const sidecar = new FakeSidecar(handlers);
  sidecar.most = most ?? sidecar.most;
  await sidecar.start();
  const node = await connect(sidecar.target, options);
  t.after(async () => {
    await node.close();
    sidecar.close();
  });
  return { sidecar, node };
}

/** As many items as wanted. */
export async function take<Item>(items: AsyncIterator<Item>, count: number): Promise<Item[]> {
  const taken: Item[] = [];
  while (taken.length < count) {
    const step = await items.next();
    if (step.done) {
      break;
    }
    taken.push(step.value);
  }
  return taken;
}

/** The error that a promise rejects with. */
export async function caught(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
}

/** A turn of the event loop, for what has been set going to go as far as it gets without the outside. */
export async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
