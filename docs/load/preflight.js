// Many browsers on one run of preflightd; needs k6 (https://k6.io).
//
//   k6 run -e PREFLIGHT2_WS_URL=ws://host:9001 -e PREFLIGHT2_RUN_ID=some-run \
//          -e PREFLIGHT2_VUS=200 -e PREFLIGHT2_DURATION=1m docs/load/preflight.js
//
// The latency is that of the write, from HSET to receipt: whoever writes sets the hash's field `last_modified` to his
// time, in milliseconds since 1970, and has the same clock as k6. `make load` does it all. The platform's own times
// are seconds, which are no measure: they are left out, and so is the first frame, which may tell of an old write.

import { Counter, Trend } from "k6/metrics";

import { converse, options as conversations } from "./conversation.js";

const BASE = (__ENV.PREFLIGHT2_WS_URL || "ws://127.0.0.1:9001").replace(/\/+$/, "");
const RUN = __ENV.PREFLIGHT2_RUN_ID || "load";
const VUS = Number(__ENV.PREFLIGHT2_VUS || 200);
const DURATION = __ENV.PREFLIGHT2_DURATION || "30s";
const IN_MILLISECONDS = 1e12;

const latency = new Trend("preflight2_message_latency_ms");
const failures = new Counter("preflight2_connection_failures");
const messages = new Counter("preflight2_messages");

export const options = conversations(VUS, DURATION, {
  preflight2_message_latency_ms: ["p(95)<100"],
  preflight2_connection_failures: ["count==0"],
});

export default function () {
  let first = true;
  converse(`${BASE}/${encodeURI(RUN)}`, DURATION, failures, (frame) => {
    if (frame.type === "preflight") {
      messages.add(1);
      if (!first && frame.last_modified > IN_MILLISECONDS) {
        latency.add(Date.now() - frame.last_modified);
      }
      first = false;
    }
  });
}
