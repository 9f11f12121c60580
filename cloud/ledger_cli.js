/**
 * The page's account of what was sent under node, for tests that compare languages. No package is needed, node 20 is enough.
 *
 *     node cloud/ledger_cli.js account KEY < events.jsonl
 *         KEY: the device key in hexadecimal. An event a line: {"time": seconds, "do": "spend" with service, draw and bits | "limit"
 *         with service, day and total | "clock" | "look", "look": service} -> its {"sentence"} or {"refusal"}; then {"lines", "anchor"}
 *     node cloud/ledger_cli.js draw < cases.jsonl
 *         {"key", "contract", "parameters", "pixels"} in hexadecimal -> {"draw": hex} a line
 */

import {readFileSync} from "node:fs";

import {fromHex, toHex} from "./sfumato/server/web/bytes.js";
import {Ledger, LimitError, drawId, ledgerKey, sentence} from "./sfumato/server/web/ledger.js";
import {importKey} from "./sfumato/server/web/noise.js";

const [command, secret] = process.argv.slice(2);
const cases = readFileSync(0, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));

async function account() {
  /** @type {string[]} */
  const kept = [];
  /** @type {string | null} */
  let anchor = null;
  let now = 0;
  const ledger = new Ledger(await ledgerKey(await importKey(fromHex(secret))), {
    read: async (from) => ({lines: kept.slice(from), anchor}),
    write: async (from, lines, sealed) => {
      kept.splice(from, kept.length, ...lines);
      anchor = sealed;
    },
    alone: (work) => work(),
  }, () => 1000 * now);
  for (const event of cases) {
    const {service, day, total, draw, bits} = event;
    now = event.time;
    try {
      if (event.do === "limit") await ledger.setLimit(service, day, total);
      if (event.do === "clock") await ledger.acceptClock();
      if (event.do === "spend") await ledger.spend(service, fromHex(draw), bits);
      console.log(JSON.stringify({sentence: sentence(await ledger.account(event.look))}));
    } catch (error) {
      if (!(error instanceof LimitError)) throw error;
      console.log(JSON.stringify({refusal: error.message}));
    }
  }
  console.log(JSON.stringify({lines: kept, anchor}));
}

if (command === "account") {
  await account();
} else if (command === "draw") {
  for (const {key, contract, parameters, pixels} of cases) {
    const device = await importKey(fromHex(key));
    console.log(JSON.stringify({draw: toHex(await drawId(device, fromHex(contract), fromHex(parameters), fromHex(pixels)))}));
  }
} else {
  console.error("ledger_cli: give account KEY, or draw, with cases on standard input");
  process.exitCode = 2;
}
