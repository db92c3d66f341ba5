"""The bridge on `websockets` and `redis.asyncio`: a Pub/Sub connection and three tasks per client."""
