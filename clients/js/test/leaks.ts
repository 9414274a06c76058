/** A program that uses everything, closes it, and is not held up by what is left. Run by connect.test.ts. */

import { connect } from "../src/index.js";

process.stdout.write(""); // which makes its handle
const before = process.getActiveResourcesInfo();
const node = await connect(process.argv[2]);
const ended = [
  node.subscribe("news").open(),
  node.receive("/x/1").open(),
  node.watchPeers().open(),
  node.watchReadiness().open(),
  node.serve("/x/1", () => "x"),
  node.acceptStreams("/x/1").open(),
  node.advertise("x", { ttl: 100_000 }),
  node.openStream("x", "/x/1", { timeout: 100_000 }),
  node.request("x", "/x/1", "x", { timeout: 100_000 }),
  node.publish("x", "x", { timeout: 100_000 }),
  node.publish("x", "y", { timeout: 100_000, signal: new AbortController().signal }),
  node.publishMany("x", ["a", "b"], { timeout: 100_000 }),
  node.ready({ timeout: 100_000 }),
];
const settled = Promise.allSettled(ended);
await node.close();
await settled;
const other = connect("/nowhere/api.sock", { wait: 0 });
await other.catch(() => undefined);
process.stdout.write("closed\n");
process.on("beforeExit", () => {
  const left = process.getActiveResourcesInfo();
  for (const name of before) {
    if (left.includes(name)) {
      left.splice(left.indexOf(name), 1);
    }
  }
  if (left.length > 0) {
    process.stdout.write(`left: ${left.join(" ")}\n`);
  }
});
