// `node subscriber.js '{"channel": …, "single": {…} | "sentinel": {…} | "cluster": […]}'`: prints what comes, until it is killed.
//
// A subscriber as one writes it with ioredis: the library reconnects, asks the sentinels or the cluster's nodes, and
// subscribes again by itself, all with its defaults. Standard output gets a line for each message, and `ready` once.

import { Cluster, Redis } from "ioredis";

const { channel, single, sentinel, cluster } = JSON.parse(process.argv[2]);

const subscriber = single ? new Redis(single) : sentinel ? new Redis(sentinel) : new Cluster(cluster);

// Each reconnection that fails is told here; without a listener it would be printed by the library.
subscriber.on("error", (error) => console.error(`redis: ${error.message}`));
subscriber.on("message", (_channel, message) => process.stdout.write(`${message}\n`));

await subscriber.subscribe(channel);
process.stdout.write("ready\n");
