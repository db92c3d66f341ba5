// Many browsers on one channel of statusd; needs k6 (https://k6.io).
//
//   k6 run -e STATUS2_WS_URL=ws://host:9002 -e STATUS2_RUN_ID=some-run -e STATUS2_CHANNEL=log \
//          -e STATUS2_VUS=300 -e STATUS2_DURATION=1m docs/load/status.js
//
// The latency is that of the message, from PUBLISH to receipt: whoever publishes puts his time, in milliseconds since
// 1970, into the message as "sent", {"sent":1714566605123}, and has the same clock as k6. `make load` does it all.

import { Counter, Trend } from "k6/metrics";

import { converse, options as conversations } from "./conversation.js";

const BASE = (__ENV.STATUS2_WS_URL || "ws://127.0.0.1:9002").replace(/\/+$/, "");
const PLACE = `${__ENV.STATUS2_RUN_ID || "load"}:${__ENV.STATUS2_CHANNEL || "log"}`;
const VUS = Number(__ENV.STATUS2_VUS || 300);
const DURATION = __ENV.STATUS2_DURATION || "30s";

const latency = new Trend("status2_message_latency_ms");
const failures = new Counter("status2_connection_failures");
const messages = new Counter("status2_messages");

export const options = conversations(VUS, DURATION, {
  status2_message_latency_ms: ["p(95)<50"],
  status2_connection_failures: ["count==0"],
});

export default function () {
  converse(`${BASE}/${encodeURI(PLACE)}`, DURATION, failures, (frame) => {
    if (frame.type === "status") {
      messages.add(1);
      const sent = sentAt(frame.data);
      if (sent !== undefined) {
        latency.add(Date.now() - sent);
      }
    }
  });
}

// undefined for a message that does not say.
function sentAt(data) {
  if (!data.includes('"sent"')) {
    return undefined;
  }
  const { sent } = JSON.parse(data);
  return typeof sent === "number" ? sent : undefined;
}
