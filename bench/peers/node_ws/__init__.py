"""The bridge on Node's `ws` and `ioredis`: server.js, started with `node` (see `bench.targets`)."""
