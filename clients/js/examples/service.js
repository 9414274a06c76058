/**
 * A service that counts words for apps at other peers, and an app that asks it.
 *
 *     node service.js serve            serve, and be found by the service's name
 *     node service.js ask TEXT         find somebody who serves, and ask
 *     node service.js ask TEXT PEER    ask that peer
 *
 * A request is text in UTF-8, the response JSON: {"words": 3, "letters": 12}. SIDECAR_API says where the sidecar is.
 */

import { connect, DeadlineExceeded, NotSupported, Refused, Unreachable } from "@p2p-sidecar/client";

const PROTOCOL = "/example/words/1";
const NAME = "example-words"; // advertised through the DHT
const TIMEOUT = 5000; // milliseconds for one answer

/** The handler: returns the response, or throws Refused. */
function count({ data }) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    throw new Refused("this is not UTF-8");
  }
  const words = text.split(/\s+/).filter((word) => word !== "");
  return JSON.stringify({ words: words.length, letters: words.reduce((sum, word) => sum + [...word].length, 0) });
}

async function serve(node) {
  const server = await node.serve(PROTOCOL, count);
  const advertisement = await node.advertise(NAME);
  console.log(`serving as ${(await node.info()).peerId}`);
  process.once("SIGINT", () => {
    advertisement.close();
    server.close();
  });
  await server.ended;
}

async function ask(node, text, given) {
  if (given !== undefined) {
    console.log((await node.request(given, PROTOCOL, text, { timeout: TIMEOUT })).toString());
    return;
  }
  for await (const { peerId } of node.findPeers(NAME)) {
    try {
      console.log((await node.request(peerId, PROTOCOL, text, { timeout: TIMEOUT })).toString());
      return;
    } catch (error) {
      if (![Unreachable, NotSupported, DeadlineExceeded].some((kind) => error instanceof kind)) {
        throw error;
      }
      console.error(`${peerId} does not answer: ${error.message}`);
    }
  }
  throw new Error("nobody serves it");
}

const [what, text, peerId] = process.argv.slice(2);
if (what !== "serve" && (what !== "ask" || text === undefined)) {
  console.error("node service.js serve | ask TEXT [PEER]");
  process.exit(1);
}
const node = await connect();
try {
  await (what === "serve" ? serve(node) : ask(node, text, peerId));
} catch (error) {
  console.error(`service: ${error.message}`);
  process.exitCode = 1;
}
await node.close();
