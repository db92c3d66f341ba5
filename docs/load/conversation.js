// What a browser does with one of the daemons, for k6: it connects, answers pings, and leaves when its time is up.

import exec from "k6/execution";
import ws from "k6/ws";

const UNITS = { ms: 1, s: 1000, m: 60000, h: 3600000 };

// "1m30s" in milliseconds.
export function milliseconds(text) {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    throw new Error(`no duration: ${text}`);
  }
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce((sum, [, number, unit]) => sum + number * UNITS[unit], 0);
}

// Each VU holds one conversation, and nobody is given up before it is over.
export function options(vus, duration, thresholds) {
  const limit = Math.ceil(milliseconds(duration) / 1000) + 30;
  return {
    scenarios: {
      conversations: { executor: "per-vu-iterations", vus, iterations: 1, maxDuration: `${limit}s`, gracefulStop: "5s" },
    },
    thresholds,
    summaryTrendStats: ["min", "med", "avg", "p(95)", "p(99)", "max", "count"],
  };
}

// Calls `heard(frame)` with each frame but pings, for as long as `duration` says, and adds 1 to `failures` unless the
// handshake is answered with 101 and the conversation lasts until this side ends it.
export function converse(url, duration, failures, heard) {
  failures.add(0); // so that there is a figure where nothing failed
  let leaving = false;
  let status = 0;
  try {
    const answer = ws.connect(url, {}, (socket) => {
      socket.setTimeout(() => {
        leaving = true;
        socket.close(1000);
      }, milliseconds(duration));
      socket.on("message", (text) => {
        const frame = JSON.parse(text);
        if (frame.type === "ping") {
          socket.send('{"type":"pong"}');
        } else {
          heard(frame);
        }
      });
    });
    status = answer.status;
  } catch (error) {
    console.error(`VU ${exec.vu.idInTest}: ${error}`);
  }
  if (status !== 101 || !leaving) {
    failures.add(1);
  }
}
