"""The bridge on Tornado and `redis.asyncio`: a handler, a Pub/Sub connection and a reading task per client."""
