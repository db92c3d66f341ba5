"""The checklist on `websockets` and `redis.asyncio`: a Pub/Sub connection and a read of the hash per client."""
