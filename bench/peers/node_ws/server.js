// `node server.js --port PORT --redis redis://HOST:PORT/DB`: serves until it is killed.
//
// One subscriber connection to Redis is shared by all clients: a Map of channel -> clients, a subscription while a
// channel has any. Each message is encoded once, to a Buffer, and given to every client's `send`. A client that reads
// too slowly is cut off when more than MAX_BUFFERED bytes wait for it. A lost Redis ends the process: a bench has no
// outages.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import { WebSocket, WebSocketServer } from "ws";

const PING_INTERVAL = 5_000;
const PONG_TIMEOUT = 65_000;
const MAX_BUFFERED = 8 * 1024 * 1024;
const BACKLOG = 4096;
const TOPIC = /^\/([A-Za-z0-9_.;-]{1,256}:[A-Za-z0-9_.-]{1,256})\/?$/;
const PING = Buffer.from('{"type":"ping"}');
const TEXT = { binary: false };

const { values: options } = parseArgs({ options: { port: { type: "string" }, redis: { type: "string" } } });

const channels = new Map(); // channel -> { clients: Set of WebSocket, joining: number, acknowledged: Promise }

const subscriber = new Redis(options.redis, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
subscriber.on("error", (error) => console.error(`redis: ${error.message}`));
subscriber.on("end", () => process.exit(1));
subscriber.on("message", (name, message) => {
  const frame = Buffer.from(JSON.stringify({ type: "status", data: message }));
  for (const client of channels.get(name)?.clients ?? []) send(client, frame);
});

function send(client, frame) {
  if (client.readyState !== WebSocket.OPEN) return;
  if (client.bufferedAmount > MAX_BUFFERED) client.terminate();
  else client.send(frame, TEXT);
}

function join(name) {
  let channel = channels.get(name);
  if (channel === undefined) {
    channel = { clients: new Set(), joining: 0, acknowledged: subscriber.subscribe(name) };
    channels.set(name, channel);
  }
  return channel;
}

function leaveIfEmpty(name, channel) {
  if (channel.clients.size > 0 || channel.joining > 0 || channels.get(name) !== channel) return;
  channels.delete(name);
  subscriber.unsubscribe(name).catch(() => {}); // then Redis is gone, and the process with it
}

function serveClient(client, name, channel) {
  channel.clients.add(client);
  let lastLife = performance.now();
  const pinging = setInterval(() => {
    if (performance.now() - lastLife > PONG_TIMEOUT) client.terminate();
    else send(client, PING);
  }, PING_INTERVAL);
  client.on("message", () => (lastLife = performance.now()));
  client.on("error", () => client.terminate());
  client.on("close", () => {
    clearInterval(pinging);
    channel.clients.delete(client);
    leaveIfEmpty(name, channel);
  });
}

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

const server = createServer((request, response) => {
  response.writeHead(request.url === "/health" ? 200 : 426, { "Content-Type": "text/plain" });
  response.end(request.url === "/health" ? "OK\n" : "a WebSocket handshake is expected\n");
});

// The 101 goes out when Redis has acknowledged the subscription.
server.on("upgrade", async (request, socket, head) => {
  socket.on("error", () => socket.destroy());
  const name = topicOf(request.url);
  if (name === undefined) {
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  const channel = join(name);
  channel.joining += 1;
  try {
    await channel.acknowledged;
    sockets.handleUpgrade(request, socket, head, (client) => serveClient(client, name, channel));
  } catch {
    socket.end("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  } finally {
    channel.joining -= 1;
    leaveIfEmpty(name, channel);
  }
});

function topicOf(url) {
  try {
    return TOPIC.exec(decodeURIComponent(url.split("?")[0]))?.[1];
  } catch {
    return undefined;
  }
}

server.listen({ port: Number(options.port), host: "127.0.0.1", backlog: BACKLOG });
